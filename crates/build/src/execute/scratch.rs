//! Directories for the length of a step. Each is locked while it is used, so that what a killed build left can be told
//! and removed.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use super::StepError;

/// A directory that goes when it is dropped.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
    /// Held as long as the directory is in use.
    _lock: OwnedFd,
}

impl Scratch {
    /// Makes a directory in `parent`, which is made too, for us only; the directory itself may be entered by all.
    pub fn new(parent: &Path) -> Result<Self, StepError> {
        make_private(parent)?;
        // While this is held shared, nobody sweeps: the directory is not locked from the first moment.
        let _open = lock(parent, FlockOperation::LockShared)?;
        let path = parent.join(ketch_sys::fs::random_hex(8));
        fs::create_dir(&path).map_err(io("mkdir", &path))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))
            .map_err(io("chmod", &path))?;
        let lock = lock(&path, FlockOperation::LockExclusive)?;
        Ok(Self { path, _lock: lock })
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Removes what nobody uses any more in `parent`; what cannot be removed now is left to the next time.
    pub fn sweep(parent: &Path) {
        let Ok(listing) = fs::read_dir(parent) else {
            return;
        };
        let left: Vec<PathBuf> = listing.flatten().map(|entry| entry.path()).collect();
        if left.is_empty() || lock(parent, FlockOperation::NonBlockingLockExclusive).is_err() {
            return;
        }
        for path in left {
            if lock(&path, FlockOperation::NonBlockingLockExclusive).is_ok() {
                let _ = ketch_sys::fs::remove_tree(&path);
            }
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed now, the next build sweeps.
        let _ = ketch_sys::fs::remove_tree(&self.path);
    }
}

/// Makes a directory of ours, and those above it, for us only.
pub fn make_private(path: &Path) -> Result<(), StepError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(io("mkdir", path))
}

/// Takes a lock on a file or directory.
fn lock(path: &Path, operation: FlockOperation) -> Result<OwnedFd, StepError> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::open(path, flags, Mode::empty())
        .map_err(|errno| io("open", path)(errno.into()))?;
    flock(&file, operation).map_err(|errno| io("flock", path)(errno.into()))?;
    Ok(file)
}

/// flock(2), retried when a signal interrupts it.
pub fn flock(file: &OwnedFd, operation: FlockOperation) -> rustix::io::Result<()> {
    loop {
        match rustix::fs::flock(file, operation) {
            Err(Errno::INTR) => {}
            other => return other,
        }
    }
}

/// An error of `call` on `path`.
pub fn io(call: &'static str, path: &Path) -> impl Fn(std::io::Error) -> StepError + use<> {
    let path = path.to_owned();
    move |error| StepError::Io {
        call,
        path: path.clone(),
        error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_nobody_uses_is_swept() {
        let folder = tempfile::tempdir().unwrap();
        let parent = folder.path().join("build");
        let used = Scratch::new(&parent).unwrap();
        fs::create_dir(parent.join("left")).unwrap();
        fs::write(parent.join("left/file"), "").unwrap();
        Scratch::sweep(&parent);
        assert!(used.path().is_dir());
        assert!(!parent.join("left").exists());
        let path = used.path().to_owned();
        drop(used);
        assert!(!path.exists());
        Scratch::sweep(&folder.path().join("missing"));
    }
}
