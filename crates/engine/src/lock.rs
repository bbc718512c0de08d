//! Locks: the owner lock of a container and the leaf locks of volumes and networks.
//!
//! Both are open-file-description locks. The order is: owner first, then at most one leaf; a leaf holder takes nothing
//! else and talks to no process.

use std::fs::{File, OpenOptions};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use ketch_sys::lock::{self, Kind};

use crate::{Error as EngineError, ErrorKind};

/// Why a lock could not be asked for.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The lock's file could not be opened or made.
    #[error("open lock {path}: {source}")]
    Open {
        /// The lock's file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The kernel refused.
    #[error("lock {path}")]
    Lock {
        /// The lock's file.
        path: PathBuf,
        /// Why.
        source: ketch_sys::Error,
    },
}

impl From<Error> for EngineError {
    fn from(error: Error) -> Self {
        let kind = match &error {
            Error::Open { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
                ErrorKind::NotFound
            }
            Error::Open { source, .. } if source.kind() == std::io::ErrorKind::PermissionDenied => {
                ErrorKind::Forbidden
            }
            _ => ErrorKind::Internal,
        };
        EngineError::caused(kind, "cannot lock", &error)
    }
}

/// The right to write one container, for as long as it lives.
#[derive(Debug)]
pub struct OwnerLock {
    file: OwnedFd,
}

impl OwnerLock {
    /// Takes the lock, making its file if it is missing. None: another holds it.
    ///
    /// # Errors
    /// [`Error::Open`] with `NotFound` where the container's directory is gone, also when it goes meanwhile.
    pub fn take(path: &Path) -> Result<Option<Self>, Error> {
        loop {
            let file = open(path)?;
            if !lock::try_lock(file.as_fd(), Kind::Exclusive)
                .map_err(|source| failed(path, source))?
            {
                return Ok(None);
            }
            // The directory may have been removed, or moved away to be, between the open and the lock.
            if same_file(&file, path) {
                return Ok(Some(Self { file: file.into() }));
            }
        }
    }

    /// Whether somebody holds the lock at `path`; takes nothing. A missing file is not held.
    ///
    /// # Errors
    /// The file cannot be opened, for another reason than that it is missing.
    pub fn is_held(path: &Path) -> Result<bool, Error> {
        let file = match OpenOptions::new().read(true).open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
            Err(source) => {
                return Err(Error::Open {
                    path: path.to_owned(),
                    source,
                });
            }
        };
        lock::is_locked(file.as_fd(), Kind::Exclusive).map_err(|source| failed(path, source))
    }

    /// Wraps a descriptor that carries the lock already (it came from another process).
    pub fn from_fd(file: OwnedFd) -> Self {
        Self { file }
    }

    /// The descriptor that carries the lock.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// A short exclusive lock on one record, held while it is read, changed and written.
#[derive(Debug)]
pub struct LeafLock {
    _file: File,
}

impl LeafLock {
    /// Takes the lock at `path`, waiting for other holders, who are quick by rule.
    ///
    /// # Errors
    /// [`Error::Open`] with `NotFound` where the object's directory is gone, also when it goes while we wait.
    pub fn take(path: &Path) -> Result<Self, Error> {
        loop {
            let file = open(path)?;
            lock::lock(file.as_fd(), Kind::Exclusive).map_err(|source| failed(path, source))?;
            if same_file(&file, path) {
                return Ok(Self { _file: file });
            }
        }
    }
}

fn open(path: &Path) -> Result<File, Error> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(|source| Error::Open {
            path: path.to_owned(),
            source,
        })
}

fn failed(path: &Path, source: ketch_sys::Error) -> Error {
    Error::Lock {
        path: path.to_owned(),
        source,
    }
}

fn same_file(file: &File, path: &Path) -> bool {
    match (file.metadata(), std::fs::metadata(path)) {
        (Ok(ours), Ok(there)) => ours.dev() == there.dev() && ours.ino() == there.ino(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_owner_at_a_time_and_others_can_ask() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("owner.lock");
        assert!(!OwnerLock::is_held(&path).unwrap());
        let owner = OwnerLock::take(&path).unwrap().expect("free");
        assert!(OwnerLock::is_held(&path).unwrap());
        assert!(OwnerLock::take(&path).unwrap().is_none());
        drop(owner);
        assert!(!OwnerLock::is_held(&path).unwrap());
        assert!(OwnerLock::take(&path).unwrap().is_some());
    }

    #[test]
    fn a_descriptor_passed_on_keeps_the_lock() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("owner.lock");
        let owner = OwnerLock::take(&path).unwrap().expect("free");
        let passed = owner.as_fd().try_clone_to_owned().unwrap();
        drop(owner);
        assert!(OwnerLock::is_held(&path).unwrap());
        drop(OwnerLock::from_fd(passed));
        assert!(!OwnerLock::is_held(&path).unwrap());
    }

    #[test]
    fn a_directory_that_is_gone_is_not_found() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("gone").join("owner.lock");
        let error = EngineError::from(OwnerLock::take(&path).unwrap_err());
        assert_eq!(error.kind, ErrorKind::NotFound);
    }

    #[test]
    fn a_leaf_lock_taken_on_a_file_moved_away_is_taken_again_on_the_new_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let first = LeafLock::take(&path).unwrap();
        std::fs::rename(&path, dir.path().join("moved")).unwrap();
        let second = LeafLock::take(&path).unwrap();
        drop((first, second));
    }
}
