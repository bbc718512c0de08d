//! Directories that someone fills over a longer time.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use ketch_sys::fs as sysfs;
use rustix::fs::{FlockOperation, Mode, OFlags};

use crate::collect::entries;
use crate::lock::lock_file;
use crate::{Error, Result, Store};

/// Threads that remove at once.
const REMOVERS: usize = 4;

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
    /// Removes it now, and says if that fails. What is in it goes several at a time: removing large files is mostly
    /// waiting, where the file system tells the disk of every piece that is free (`discard`).
    pub(crate) fn remove(self) -> Result<()> {
        let mut contents = entries(&self.path)?;
        contents.retain(|path| *path != lock_name(&self.path));
        let removers = contents.len().min(REMOVERS);
        let rest = Mutex::new(contents);
        let next = || rest.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let remove = || std::iter::from_fn(next).try_for_each(|path| sysfs::remove_tree(&path));
        std::thread::scope(|scope| {
            let others: Vec<_> = (1..removers).map(|_| scope.spawn(remove)).collect();
            let mut removed = remove();
            for other in others {
                removed = removed.and(other.join().map_err(|_| Error::Panicked)?);
            }
            Ok::<_, Error>(removed?)
        })?;
        // The lock last: until then it has an owner.
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
