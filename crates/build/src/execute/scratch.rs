//! Directories for the length of a step. Each is locked while it is used, so that what a killed build left can be told
//! and removed.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags};

use super::StepError;

/// Where a scratch directory has its memory, if the file system that it is on is a disk.
const MEMORY: &str = "memory";
/// statfs(2)'s numbers of file systems that are memory: tmpfs, ramfs.
const MEMORY_FILE_SYSTEMS: [i64; 2] = [0x0102_1994, 0x8584_58f6];

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

    /// A directory in it whose files are never on a disk: itself where it is in memory, as run roots should be, or a
    /// file system of its own, which goes with it.
    pub fn memory(&self) -> Result<PathBuf, StepError> {
        let found = rustix::fs::statfs(&self.path)
            .map_err(|errno| io("statfs", &self.path)(errno.into()))?;
        if MEMORY_FILE_SYSTEMS.contains(&found.f_type) {
            return Ok(self.path.clone());
        }
        let memory = self.path.join(MEMORY);
        fs::create_dir(&memory).map_err(io("mkdir", &memory))?;
        let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        rustix::mount::mount(c"tmpfs", &memory, c"tmpfs", flags, c"mode=0755")
            .map_err(|errno| io("mount", &memory)(errno.into()))?;
        Ok(memory)
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
                clear(&path);
            }
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed now, the next build sweeps.
        clear(&self.path);
    }
}

/// Removes a scratch directory with its memory.
fn clear(path: &Path) {
    // First, and not there for most. Who is still in it (a step that is being killed) keeps it until it ends.
    let flags = UnmountFlags::DETACH | UnmountFlags::NOFOLLOW;
    let _ = rustix::mount::unmount(path.join(MEMORY), flags);
    let _ = ketch_sys::fs::remove_tree(path);
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

    fn is_memory(path: &Path) -> bool {
        MEMORY_FILE_SYSTEMS.contains(&rustix::fs::statfs(path).unwrap().f_type)
    }

    #[test]
    fn privileged_memory_is_memory_on_every_file_system_and_is_swept() {
        assert!(rustix::process::geteuid().is_root(), "this test needs root");
        let folder = tempfile::tempdir().unwrap();
        let parent = folder.path().join("build");
        let scratch = Scratch::new(&parent).unwrap();
        let memory = scratch.memory().unwrap();
        fs::write(memory.join("secret"), "value").unwrap();
        assert!(is_memory(&memory));
        // A build in use is left alone; one that was killed is cleared.
        Scratch::sweep(&parent);
        assert!(memory.join("secret").exists());
        let path = scratch.path().to_owned();
        let killed = std::mem::ManuallyDrop::new(scratch);
        flock(&killed._lock, FlockOperation::Unlock).unwrap();
        Scratch::sweep(&parent);
        assert!(!path.exists());
        // And one that ends.
        let scratch = Scratch::new(&parent).unwrap();
        let path = scratch.path().to_owned();
        scratch.memory().unwrap();
        drop(scratch);
        assert!(!path.exists());
    }

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
