//! The runtime's privileged tests on other kernels: in virtual machines with version 2 of cgroups alone.
//!
//! The machines are started by a program that is not part of the source tree: `KETCH_LAB_VM` names it, or it is
//! `../shared/lab/vm` seen from the workspace. It is called as `vm --kernel NAME --bind DIRECTORY --timeout SECONDS --
//! COMMAND…`: it boots that kernel over a throw-away view of this machine's files, with DIRECTORY shared under its own
//! path, runs the command as root and ends with its status (124 when it did not end). With `--disk FILE`, FILE is a disk
//! of the machine, `/dev/vda`, that stays.

mod labels;
pub mod power_cuts;
mod systemd;

use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Instant;

use serde_json::Value;

use crate::shell::{self, Timed};
use crate::target::{self, Profile};
use crate::{Outcome, base_images, packages, privileges};

/// Debian's own kernel (6.1), and the one of its backports (6.12).
const KERNELS: [&str; 2] = ["bookworm", "backports"];
/// Emulated, everything takes ten times as long.
const LIMIT_S: u32 = 3000;
/// What `cargo xtask test` runs: one kernel; what is different with version 2 of cgroups, and that a container runs.
const SHORT: [&str; 11] = [
    "cgroup",
    "limits",
    "memory",
    "device",
    "pids_limit",
    "unified",
    "freeze",
    "kill_reaches",
    "above",
    "systemd",
    "apparmor",
];
const SHORT_LIMIT_S: u32 = 240;
/// Runs its arguments beside a group that has all controllers and a bandwidth. The kernel patches its own code when the
/// first group with a set of processors, or with a bandwidth, comes and the last one goes: in the middle of the
/// allocator and the scheduler, where emulated processors have been seen to run into it. So it happens once. Profiles of
/// AppArmor are loaded through securityfs.
const KEEP: &str = "mount -t securityfs securityfs /sys/kernel/security; mkdir /sys/fs/cgroup/kept && \
    echo 50000 > /sys/fs/cgroup/kept/cpu.max; exec \"$0\" \"$@\"";
/// What the program ends with when the command in the machine did not end.
const NO_WORD: i32 = 124;

/// Every case on both kernels, or those whose name contains one of `filters`; `labels` and `systemd` alone, and `systemd`
/// with names of its cases behind it, are those parts.
pub fn run(filters: &[&str]) -> Outcome {
    let vm = find().ok_or(
        "there is no lab here: KETCH_LAB_VM names the program that boots kernels (see xtask/src/lab.rs), and it is not \
         at ../shared/lab/vm either",
    )?;
    if let ["systemd", cases @ ..] = filters {
        return below_systemd(&vm, cases);
    }
    let mut timed = Timed::default();
    let directory = timed.step("Build the runtime's privileged tests", prepare)?;
    let labels = match filters {
        [] | ["labels"] => Some(timed.step("Build the tests of labels", labels::prepare)?),
        _ => None,
    };
    let mut failed = Vec::new();
    for kernel in KERNELS {
        let passed = timed.step(&format!("kernel {kernel}"), || {
            boot(&vm, kernel, &directory, LIMIT_S, filters)
        })?;
        let labelled = labels.iter().try_fold(true, |passed, directory| {
            let step = format!("kernel {kernel}, labels");
            let booted = timed.step(&step, || labels::boot(&vm, kernel, directory))?;
            Ok::<_, String>(passed && booted)
        })?;
        if !(passed && labelled) {
            failed.push(kernel);
        }
    }
    timed.report();
    let judged = judge(&failed);
    match filters {
        [] => judged.and(below_systemd(&vm, &[])),
        _ => judged,
    }
}

/// The OCI runtime command below a real systemd, on both kernels.
fn below_systemd(vm: &Path, cases: &[&str]) -> Outcome {
    let mut timed = Timed::default();
    let directory = timed.step("Build the tests below systemd", systemd::prepare)?;
    let mut failed = Vec::new();
    for kernel in KERNELS {
        let step = format!("kernel {kernel}, systemd");
        if !timed.step(&step, || systemd::boot(vm, kernel, &directory, cases))? {
            failed.push(kernel);
        }
    }
    timed.report();
    judge(&failed)
}

fn judge(failed: &[&str]) -> Outcome {
    match failed {
        [] => Ok(()),
        _ => Err(format!("failed on: {}", failed.join(", "))),
    }
}

/// The short form: whether it passed. Without a lab it says so and is left out.
pub fn run_short() -> Result<bool, String> {
    let Some(vm) = find() else {
        println!(
            "left out: no lab is configured (KETCH_LAB_VM), so version 2 of cgroups is not tested here"
        );
        return Ok(true);
    };
    boot(&vm, KERNELS[0], &prepare()?, SHORT_LIMIT_S, &SHORT)
}

fn find() -> Option<PathBuf> {
    let named = std::env::var_os("KETCH_LAB_VM").map(PathBuf::from);
    let beside = shell::workspace()
        .parent()
        .map(|above| above.join("shared/lab/vm"));
    named.or(beside).filter(|path| path.is_file())
}

/// A directory with the test program, to be shared with the machines: their `/tmp` is their own.
fn prepare() -> Result<PathBuf, String> {
    packages::install(&[packages::LAB])?;
    let program = build("ketch-runtime", "privileged")?;
    let directory = shell::target_directory().join("lab");
    let copy = || {
        std::fs::create_dir_all(&directory)?;
        std::fs::copy(&program, directory.join("privileged"))
    };
    copy().map_err(|error| format!("{}: {error}", directory.display()))?;
    Ok(directory)
}

/// A directory for a machine, with the program, the test target `tests` of end-to-end tests as `tests`, and an image.
fn furnish(name: &str, tests: &str) -> Result<PathBuf, String> {
    packages::install(&[
        packages::BUILD,
        packages::DEMO,
        packages::TEST,
        packages::LAB,
    ])?;
    shell::cargo(&["build", "--release", "--bin", "ketch"])?;
    let tests = build("ketch-test-e2e", tests)?;
    let directory = shell::target_directory().join(name);
    let failed = |error: std::io::Error| format!("{}: {error}", directory.display());
    std::fs::create_dir_all(&directory).map_err(failed)?;
    for (from, name) in [
        (target::ketch(Profile::Release), "ketch"),
        (tests, "tests"),
        (base_images::busybox(&directory)?, "busybox"),
    ] {
        std::fs::copy(from, directory.join(name)).map_err(failed)?;
    }
    Ok(directory)
}

/// Builds a package's test program.
pub fn build(package: &str, target: &str) -> Result<PathBuf, String> {
    let output = shell::cargo_command()
        .args(["test", "-p", package, "--test", target, "--no-run"])
        .arg("--message-format=json-render-diagnostics")
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("cargo: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let executable = |line: &str| {
        let message: Value = serde_json::from_str(line).ok()?;
        let is_test = message["target"]["name"] == target;
        is_test.then(|| message["executable"].as_str().map(PathBuf::from))?
    };
    let program = text.lines().filter_map(executable).next_back();
    program.ok_or_else(|| format!("the tests do not build: {}", output.status))
}

/// Runs the tests in a machine. One that dies before its time was up says nothing about them: emulated processors have
/// been seen to run into code that the kernel was just patching. It is booted once more, and said.
fn boot(
    vm: &Path,
    kernel: &str,
    directory: &Path,
    limit: u32,
    filters: &[&str],
) -> Result<bool, String> {
    for last in [false, true] {
        let begin = Instant::now();
        let status = boot_once(vm, kernel, directory, limit, filters)?;
        if status.code() != Some(NO_WORD) {
            return Ok(status.success());
        }
        if begin.elapsed().as_secs() >= limit.into() {
            println!("the machine did not end within {limit} s");
            return Ok(false);
        }
        let next = if last { "" } else { ": once more" };
        println!("the machine died{next}");
    }
    Ok(false)
}

fn boot_once(
    vm: &Path,
    kernel: &str,
    directory: &Path,
    limit: u32,
    filters: &[&str],
) -> Result<ExitStatus, String> {
    privileges::command(&vm.to_string_lossy())
        .args([
            "--kernel",
            kernel,
            "--timeout",
            &limit.to_string(),
            "--bind",
        ])
        .arg(directory)
        .args(["--", "sh", "-c", KEEP])
        .arg(directory.join("privileged"))
        .args(filters)
        .stdin(Stdio::null())
        .status()
        .map_err(|error| format!("{}: {error}", vm.display()))
}
