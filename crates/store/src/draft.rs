//! Directories that someone fills over a longer time.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use ketch_sys::fs as sysfs;
use rustix::fs::{FlockOperation, Mode, OFlags};

use crate::lock::lock_file;
use crate::{Result, Store};

/// A directory `ingest/work/draft-<random>` with a held lock in it, by which a collector tells that it is in use.
/// Dropping it removes it.
#[derive(Debug)]
pub struct Draft {
    path: PathBuf,
    _lock: OwnedFd,
}

impl Store {
    /// Makes a draft.
    ///
    /// # Errors
    /// The kernel's.
    pub fn draft(&self) -> Result<Draft> {
        let path = self.work_directory("draft")?;
        let name = lock_name(&path);
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let lock = rustix::fs::open(&name, flags, Mode::from(0o600))
            .map_err(|e| ketch_sys::Error::on("open", &name, e))?;
        lock_file(&lock, &name, FlockOperation::LockExclusive)?;
        Ok(Draft { path, _lock: lock })
    }
}

impl Draft {
    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Draft {
    /// Removes it now, and says if that fails.
    pub(crate) fn remove(self) -> Result<()> {
        Ok(sysfs::remove_tree(&self.path)?)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // What cannot be removed now, the next collection removes.
        let _ = sysfs::remove_tree(&self.path);
    }
}

fn lock_name(directory: &Path) -> PathBuf {
    directory.join("lock")
}

/// Whether the draft at `directory` has a living owner.
pub(crate) fn is_in_use(directory: &Path) -> bool {
    let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match rustix::fs::open(lock_name(directory), flags, Mode::empty()) {
        Ok(lock) => rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err(),
        Err(_) => false,
    }
}
