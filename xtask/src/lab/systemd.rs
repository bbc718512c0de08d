//! The OCI runtime command below a real systemd, root's and a user's, beside runc. The cases are the test target
//! `privileged_systemd`, ignored otherwise.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use super::{KEEP, furnish};
use crate::{packages, privileges};

/// Emulated, each container takes seconds.
const LIMIT_S: &str = "2400";
/// Of a disk, which limits of block devices need.
const DISK_BYTES: u64 = 16 << 20;
const CASE: &str = "machine::privileged_everything_inside_passes";

/// A directory with the program, its tests and an image.
pub fn prepare() -> Result<PathBuf, String> {
    packages::install(&[packages::LAB_SYSTEMD])?;
    let directory = furnish("lab-systemd", "privileged_systemd")?;
    let path = directory.join("disk");
    std::fs::File::create(&path)
        .and_then(|disk| disk.set_len(DISK_BYTES))
        .map_err(|error| format!("{}: {error}", path.display()))?;
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
