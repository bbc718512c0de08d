//! Machines that are reset in the middle of what they do with images, on the kernels of the lab. Their disk is a file, and
//! this machine looks at it after each reset: what is shown there runs, nothing else is left. The parts are tests that are
//! ignored otherwise (`machine` of `privileged_crashes`).

use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};

use super::{KERNELS, NO_WORD, build, find};
use crate::shell::{self, Timed};
use crate::target::{self, Profile};
use crate::{Outcome, base_images, packages, privileges};

/// Resets on each kernel, of one operation after the other.
const ROUNDS: usize = 16;
/// Of one boot: all it has to do is a command or two, but it is emulated.
const LIMIT_S: &str = "900";
const DISK_BYTES: u64 = 192 << 20;

/// What the parts are started with, on this machine and in others, where the directory has the same path.
struct Parts {
    directory: PathBuf,
    /// The form of layers that the kernel can have.
    form: &'static str,
}

/// On every kernel.
pub fn run() -> Outcome {
    let vm = find().ok_or("there is no lab here: KETCH_LAB_VM names the program that boots kernels (see xtask/src/lab.rs)")?;
    packages::install(&[
        packages::BUILD,
        packages::DEMO,
        packages::TEST,
        packages::LAB,
    ])?;
    let mut timed = Timed::default();
    let directory = timed.step("Build the program and its tests", prepare)?;
    for kernel in KERNELS {
        let form = match kernel {
            "bookworm" => "directory",
            _ => "auto",
        };
        let parts = Parts {
            directory: directory.clone(),
            form,
        };
        timed.step(&format!("kernel {kernel}"), || rounds(&vm, kernel, &parts))?;
    }
    timed.report();
    Ok(())
}

/// A directory with all that the parts need.
fn prepare() -> Result<PathBuf, String> {
    shell::cargo(&["build", "--release", "--bin", "ketch"])?;
    let tests = build("ketch-test-e2e", "privileged_crashes")?;
    let directory = shell::target_directory().join("lab-power");
    let failed = |error: std::io::Error| format!("{}: {error}", directory.display());
    std::fs::create_dir_all(&directory).map_err(failed)?;
    let program = target::ketch(Profile::Release);
    for (from, name) in [
        (program, "ketch"),
        (tests, "tests"),
        (base_images::busybox(&directory)?, "busybox"),
    ] {
        std::fs::copy(from, directory.join(name)).map_err(failed)?;
    }
    let source = shell::workspace().join("tests/support/src/crash/cutter.c");
    let mut compiler = privileges::command("cc");
    compiler.args(["-Wall", "-O1", "-o"]);
    compiler.arg(directory.join("cutter")).arg(source);
    match compiler.status() {
        Ok(status) if status.success() => Ok(directory),
        other => Err(format!("cc: {other:?}")),
    }
}

fn rounds(vm: &Path, kernel: &str, parts: &Parts) -> Outcome {
    let disk = parts.directory.join("disk");
    let notes = parts.directory.join("notes");
    let fresh = || {
        if notes.exists() {
            std::fs::remove_dir_all(&notes)?;
        }
        std::fs::create_dir(&notes)?;
        std::fs::File::create(&disk)?.set_len(DISK_BYTES)
    };
    fresh().map_err(|error| format!("{}: {error}", notes.display()))?;
    succeed(parts.here(&disk, "makes_the_disk")?, "makes_the_disk")?;
    for round in 0..ROUNDS {
        let status = parts.there(vm, kernel, &disk)?;
        if status.code() != Some(NO_WORD) {
            return Err(format!(
                "round {round}: the machine was not reset: {status}"
            ));
        }
        succeed(parts.here(&disk, "is_looked_at")?, "is_looked_at")?;
    }
    Ok(())
}

fn succeed(status: ExitStatus, part: &str) -> Outcome {
    if status.success() {
        Ok(())
    } else {
        Err(format!("{part}: {status}"))
    }
}

impl Parts {
    /// The words that start a part.
    fn words(&self, disk: &Path, part: &str) -> Vec<String> {
        let file = |name: &str| self.directory.join(name).display().to_string();
        let mut words = vec!["env".to_owned()];
        for (name, value) in [
            ("KETCH_BIN", file("ketch")),
            ("KETCH_CUTTER", file("cutter")),
            ("KETCH_BUSYBOX_TAR", file("busybox")),
            ("KETCH_LAB_OUTSIDE", file("notes")),
            ("KETCH_TEST_DISK", disk.display().to_string()),
            ("KETCH_LAYER_FORM", self.form.to_owned()),
        ] {
            words.push(format!("{name}={value}"));
        }
        words.push(file("tests"));
        words.extend(["--nocapture", "--include-ignored", "--exact"].map(str::to_owned));
        words.push(format!("machine::{part}"));
        words
    }

    fn here(&self, disk: &Path, part: &str) -> Result<ExitStatus, String> {
        let words = self.words(disk, part);
        let mut command = privileges::command(&words[0]);
        let status = command.args(&words[1..]).stdin(Stdio::null()).status();
        status.map_err(|error| format!("{part}: {error}"))
    }

    /// In a machine; its disk has a name of its own there.
    fn there(&self, vm: &Path, kernel: &str, disk: &Path) -> Result<ExitStatus, String> {
        let mut command = privileges::command(&vm.to_string_lossy());
        command.args(["--kernel", kernel, "--timeout", LIMIT_S]);
        command.arg("--disk").arg(disk);
        command.arg("--bind").arg(&self.directory).arg("--");
        command.args(self.words(Path::new("/dev/vda"), "is_reset"));
        let status = command.stdin(Stdio::null()).status();
        status.map_err(|error| format!("{}: {error}", vm.display()))
    }
}
