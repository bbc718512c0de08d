//! The runtime's own /proc, used in ways that nothing mounted over it or linked from it can redirect.
//!
//! What is written there counts (labels, mappings, kernel settings), and someone who shares a mount namespace with the
//! runtime could have mounted other files over it (CVE-2025-52881). So the root is checked to be that of a procfs, and
//! what is below is opened without crossing into any other mount.

use std::os::fd::OwnedFd;
use std::path::Path;

use ketch_sys::Error as SysError;
use ketch_sys::Result as SysResult;
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;

use crate::error::Called;
use crate::resolve::{PROC_MAGIC, is_on};

/// Inode of a procfs's root.
const ROOT_INODE: u64 = 1;

/// An open procfs.
#[derive(Debug)]
pub(crate) struct Procfs(OwnedFd);

impl Procfs {
    /// Opens /proc of the caller's mount namespace.
    ///
    /// # Errors
    /// `EINVAL` if what is there is not the root of a procfs.
    pub fn open() -> SysResult<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::NO_SYMLINKS;
        let root =
            openat2(CWD, "/proc", flags, Mode::empty(), resolve).called_on("openat2", "/proc")?;
        let stat = rustix::fs::fstat(&root).called_on("fstat", "/proc")?;
        if is_on(&root, PROC_MAGIC)? && stat.st_ino == ROOT_INODE {
            Ok(Self(root))
        } else {
            Err(SysError::on(
                "check that it is a procfs",
                "/proc",
                Errno::INVAL,
            ))
        }
    }

    /// A procfs that was just made.
    pub fn from_mount(mount: OwnedFd) -> Self {
        Self(mount)
    }

    /// Opens `path` below it. `self` is followed, links that the kernel makes up are not.
    ///
    /// # Errors
    /// `EXDEV` if something is mounted over it or above it; else what openat2(2) says.
    pub fn open_file(&self, path: &str, flags: OFlags) -> SysResult<OwnedFd> {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_XDEV | ResolveFlags::NO_MAGICLINKS;
        loop {
            let flags = flags | OFlags::CLOEXEC;
            match openat2(&self.0, path, flags, Mode::empty(), resolve) {
                Err(Errno::AGAIN | Errno::INTR) => {}
                other => return other.called_on("openat2", Path::new("/proc").join(path)),
            }
        }
    }

    /// Whether there is such a file.
    pub fn has(&self, path: &str) -> bool {
        self.open_file(path, OFlags::PATH).is_ok()
    }

    /// Writes `bytes` with one call.
    ///
    /// # Errors
    /// As [`Procfs::open_file`], and what write(2) says.
    pub fn write(&self, path: &str, bytes: &[u8]) -> SysResult<()> {
        let file = self.open_file(path, OFlags::WRONLY)?;
        rustix::io::write(&file, bytes)
            .map(drop)
            .called_on("write", Path::new("/proc").join(path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_of_the_kernel_are_not_followed() {
        let procfs = Procfs::open().unwrap();
        procfs.open_file("self/status", OFlags::RDONLY).unwrap();
        let refused = procfs.open_file("self/cwd/x", OFlags::RDONLY).unwrap_err();
        assert_eq!(refused.errno, Errno::LOOP);
        let refused = procfs.open_file("../etc/passwd", OFlags::RDONLY);
        assert_eq!(refused.unwrap_err().errno, Errno::XDEV);
    }
}
