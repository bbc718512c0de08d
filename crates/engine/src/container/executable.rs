//! Our own binary as what a monitor runs from: a read-only detached mount of it.
//!
//! A container can name `/proc/self/exe` as its program and so come to run, and to hold open, the file that its monitor
//! was executed from (CVE-2019-5736). Through this mount that file cannot be opened for writing, by whatever name;
//! and the mount is in no mount namespace, so nobody can remount it.

use std::os::fd::OwnedFd;
use std::path::Path;

use ketch_sys::mount::{Attributes, PRIVATE, READ_ONLY, set_attributes};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::OpenTreeFlags;

/// Opens the program for execution. Where the kernel or our privileges do not allow the mount, it is the plain file:
/// without privileges the file is not ours to overwrite from a container either.
///
/// # Errors
/// The program cannot be opened.
pub(super) fn open(path: &Path) -> rustix::io::Result<OwnedFd> {
    match open_protected(path) {
        Ok(mount) => Ok(mount),
        Err(_) => rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()),
    }
}

fn open_protected(path: &Path) -> Result<OwnedFd, ketch_sys::Error> {
    let failed = |errno| ketch_sys::Error::on("open_tree", path, errno);
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let mount = rustix::mount::open_tree(CWD, path, flags).map_err(failed)?;
    let read_only = Attributes {
        set: READ_ONLY,
        propagation: PRIVATE,
        ..Attributes::default()
    };
    set_attributes(&mount, &read_only)?;
    Ok(mount)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use super::*;

    #[test]
    fn privileged_the_program_runs_but_cannot_be_written() {
        assert!(rustix::process::geteuid().is_root(), "this test needs root");
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("program");
        std::fs::copy("/bin/true", &path).unwrap();
        let program = open(&path).unwrap();
        let through = format!("/proc/self/fd/{}", program.as_raw_fd());
        let error = std::fs::OpenOptions::new()
            .write(true)
            .open(&through)
            .unwrap_err();
        assert_eq!(
            error.raw_os_error(),
            Some(rustix::io::Errno::ROFS.raw_os_error()),
            "{error}"
        );
        let ran = std::process::Command::new(&through).status();
        assert!(ran.unwrap().success());
        // The file itself is as it was.
        assert!(std::fs::OpenOptions::new().write(true).open(&path).is_ok());
    }
}
