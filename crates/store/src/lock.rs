//! The store's two locks, both flock(2) on files of ours: they live as long as the open file, and threads of one
//! process exclude each other too because each taker opens the file anew.

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use crate::{Result, Store};

/// A held lock; dropping it lets go.
#[derive(Debug)]
pub struct StoreLock {
    _file: OwnedFd,
}

impl Store {
    /// Holds the store shared: whoever adds blobs or layers and will name them in a record later (a pull, a load, a
    /// build, a commit), or reads a record and will name its layers (a create), holds it from the first to the last of
    /// these. Waits while a collector works.
    ///
    /// # Errors
    /// The lock file cannot be opened.
    pub fn lock_shared(&self) -> Result<StoreLock> {
        take(&self.images_dir().join("lock"), FlockOperation::LockShared)
    }

    /// Holds the store alone; waits for all others.
    ///
    /// # Errors
    /// The lock file cannot be opened.
    pub fn lock_exclusive(&self) -> Result<StoreLock> {
        take(
            &self.images_dir().join("lock"),
            FlockOperation::LockExclusive,
        )
    }

    /// Holds the store alone, or returns None if someone holds it now.
    ///
    /// # Errors
    /// The lock file cannot be opened.
    pub fn try_lock_exclusive(&self) -> Result<Option<StoreLock>> {
        match take(
            &self.images_dir().join("lock"),
            FlockOperation::NonBlockingLockExclusive,
        ) {
            Ok(lock) => Ok(Some(lock)),
            Err(crate::Error::System(error)) if error.errno == Errno::WOULDBLOCK => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The leaf lock of `index.json`: held for one read-modify-write.
    pub(crate) fn lock_records(&self) -> Result<StoreLock> {
        take(
            &self.images_dir().join("index.lock"),
            FlockOperation::LockExclusive,
        )
    }
}

fn take(path: &Path, operation: FlockOperation) -> Result<StoreLock> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC;
    let file = rustix::fs::open(path, flags, Mode::from(0o600))
        .map_err(|e| ketch_sys::Error::on("open", path, e))?;
    lock_file(&file, path, operation)?;
    Ok(StoreLock { _file: file })
}

/// flock(2), retried when a signal interrupts the wait.
pub(crate) fn lock_file(file: &OwnedFd, path: &Path, operation: FlockOperation) -> Result<()> {
    loop {
        match rustix::fs::flock(file, operation) {
            Ok(()) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(ketch_sys::Error::on("flock", path, errno).into()),
        }
    }
}
