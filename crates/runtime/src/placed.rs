//! The root of a container that has no new mount namespace: it is attached in one that others use too, and has to be
//! taken away again.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use ketch_sys::Error as SysError;
use ketch_sys::Result as SysResult;
use ketch_sys::clone::{CloneOptions, clone_process};
use ketch_sys::namespace::{self, Namespaces};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, StatxFlags, statx};
use rustix::io::Errno;
use rustix::mount::{UnmountFlags, unmount};
use serde::{Deserialize, Serialize};

use crate::error::{Called, During, Error, Result};

/// Where such a root is attached, so that it can be taken away after the container's end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlacedRoot {
    /// The root's directory, covered by the root itself.
    path: PathBuf,
    /// The kernel's number of that mount.
    mount: u64,
    /// Path of the mount namespace that the container joined; None: the caller's own.
    namespace: Option<String>,
}

impl PlacedRoot {
    pub(crate) fn new(
        path: &Path,
        root: BorrowedFd<'_>,
        namespace: Option<String>,
    ) -> Result<Self> {
        let step = "find a place for the root file system";
        let path = std::fs::canonicalize(path)
            .map_err(|error| SysError::from_io("realpath", path, &error))
            .during(step)?;
        if path == Path::new("/") {
            let reason = "without a new mount namespace it cannot be the root of the host";
            return Err(Error::invalid("root.path", reason));
        }
        let mount = mount_of(root, "", AtFlags::EMPTY_PATH).during(step)?;
        Ok(Self {
            path,
            mount,
            namespace,
        })
    }

    /// The directory.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Takes the root away, with everything that is mounted in it. Does nothing if it is not there (any more).
    ///
    /// # Errors
    /// What umount2(2) says; where a mount namespace was joined: what opening and joining it say, `EBUSY` if the caller
    /// has more than one thread.
    pub fn release(&self) -> Result<()> {
        let step = "take the root file system away";
        let Some(path) = &self.namespace else {
            return self.unmount().during(step);
        };
        let namespace = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .called_on("open", path)
            .during(step)?;
        self.unmount_inside(&namespace).during(step)
    }

    /// Nobody comes back from another mount namespace: a process of its own goes there.
    fn unmount_inside(&self, namespace: &OwnedFd) -> SysResult<()> {
        let keep = [namespace.as_raw_fd()];
        let options = CloneOptions {
            keep: &keep,
            ..CloneOptions::default()
        };
        let child = clone_process(&options, || {
            let result =
                namespace::join(namespace, Namespaces::MOUNT).and_then(|()| self.unmount());
            result.err().map_or(0, |error| error.errno.raw_os_error())
        })?;
        match ketch_sys::process::wait_child(child.pid, true)? {
            Some(0) | None => Ok(()),
            Some(status) => {
                let errno = Errno::from_raw_os_error((status >> 8) & 0xff);
                Err(SysError::on("umount2", &self.path, errno))
            }
        }
    }

    fn unmount(&self) -> SysResult<()> {
        match mount_of(CWD, &self.path, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(mount) if mount == self.mount => {}
            Ok(_) => return Ok(()),
            Err(error) if error.errno == Errno::NOENT => return Ok(()),
            Err(error) => return Err(error),
        }
        let flags = UnmountFlags::DETACH | UnmountFlags::NOFOLLOW;
        match unmount(&self.path, flags) {
            Err(Errno::INVAL) => Ok(()),
            other => other.called_on("umount2", &self.path),
        }
    }
}

/// The number of the mount that a path is on.
fn mount_of(directory: impl AsFd, path: impl AsRef<Path>, flags: AtFlags) -> SysResult<u64> {
    let path = path.as_ref();
    let found = statx(directory, path, flags, StatxFlags::MNT_ID).called_on("statx", path)?;
    Ok(found.stx_mnt_id)
}

/// Takes a root away when it is dropped.
#[derive(Debug)]
pub(crate) struct Holding(Option<PlacedRoot>);

impl Holding {
    pub fn new(root: PlacedRoot) -> Self {
        Self(Some(root))
    }

    pub fn root(&self) -> Option<&PlacedRoot> {
        self.0.as_ref()
    }

    /// Leaves it to others.
    pub fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        if let Some(root) = &self.0 {
            // What is left then is told by whoever removes the root's directory.
            let _ = root.release();
        }
    }
}
