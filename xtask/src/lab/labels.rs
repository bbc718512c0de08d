//! AppArmor end to end: the program and its tests of labels in machines whose kernel has it, which this one may not have.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use super::{KEEP, furnish};
use crate::privileges;

/// Emulated, each container takes seconds.
const LIMIT_S: &str = "1800";

/// A directory with the program, its tests and an image.
pub fn prepare() -> Result<PathBuf, String> {
    furnish("lab-labels", "privileged_labels")
}

/// Whether they passed on a kernel.
pub fn boot(vm: &Path, kernel: &str, directory: &Path) -> Result<bool, String> {
    let set = |name: &str, file: &str| format!("{name}={}", directory.join(file).display());
    privileges::command(&vm.to_string_lossy())
        .args(["--kernel", kernel, "--timeout", LIMIT_S, "--bind"])
        .arg(directory)
        .args(["--", "env"])
        .arg(set("KETCH_BIN", "ketch"))
        .arg(set("KETCH_BUSYBOX_TAR", "busybox"))
        .args(["sh", "-c", KEEP])
        .arg(directory.join("tests"))
        .args(["--test-threads", "1"])
        .stdin(Stdio::null())
        .status()
        .map(|status| status.success())
        .map_err(|error| format!("{}: {error}", vm.display()))
}
