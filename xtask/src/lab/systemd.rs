//! The OCI runtime command below a real systemd, root's and a user's, beside runc. The cases are the test target
//! `privileged_systemd`, ignored otherwise.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use super::{KEEP, build};
use crate::target::{self, Profile};
use crate::{base_images, packages, privileges, shell};

/// Emulated, each container takes seconds.
const LIMIT_S: &str = "2400";
/// Of a disk, which limits of block devices need.
const DISK_BYTES: u64 = 16 << 20;
const CASE: &str = "machine::privileged_everything_inside_passes";

/// A directory with the program, its tests and an image.
pub fn prepare() -> Result<PathBuf, String> {
    packages::install(&[
        packages::BUILD,
        packages::DEMO,
        packages::TEST,
        packages::LAB,
        packages::LAB_SYSTEMD,
    ])?;
    shell::cargo(&["build", "--release", "--bin", "ketch"])?;
    let tests = build("ketch-test-e2e", "privileged_systemd")?;
    let directory = shell::target_directory().join("lab-systemd");
    let failed = |error: std::io::Error| format!("{}: {error}", directory.display());
    std::fs::create_dir_all(&directory).map_err(failed)?;
    for (from, name) in [
        (target::ketch(Profile::Release), "ketch"),
        (tests, "tests"),
        (base_images::busybox(&directory)?, "busybox"),
    ] {
        std::fs::copy(from, directory.join(name)).map_err(failed)?;
    }
    let disk = std::fs::File::create(directory.join("disk"));
    disk.and_then(|disk| disk.set_len(DISK_BYTES))
        .map_err(failed)?;
    Ok(directory)
}

/// Whether they passed on a kernel; `cases` are parts of their names, none: all.
pub fn boot(vm: &Path, kernel: &str, directory: &Path, cases: &[&str]) -> Result<bool, String> {
    let set = |name: &str, file: &str| format!("{name}={}", directory.join(file).display());
    privileges::command(&vm.to_string_lossy())
        .args(["--kernel", kernel, "--timeout", LIMIT_S, "--bind"])
        .arg(directory)
        .arg("--disk")
        .arg(directory.join("disk"))
        .args(["--", "env"])
        .arg(set("KETCH_BIN", "ketch"))
        .arg(set("KETCH_BUSYBOX_TAR", "busybox"))
        .arg(format!("KETCH_SYSTEMD_CASES={}", cases.join(" ")))
        .args(["sh", "-c", KEEP])
        .arg(directory.join("tests"))
        .args(["--ignored", "--exact", "--nocapture", CASE])
        .stdin(Stdio::null())
        .status()
        .map(|status| status.success())
        .map_err(|error| format!("{}: {error}", vm.display()))
}
