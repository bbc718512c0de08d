//! Waiting for a container to change: its records are replaced, its owner lets go of the lock, it is removed.

use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use ketch_spec::Id;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::io::Errno;

use super::load;
use crate::{Engine, Error, ErrorKind, Result};

/// A record replaced, a lock's file closed, the directory moved aside or gone.
const CONTAINER_CHANGES: WatchFlags = WatchFlags::MOVED_TO
    .union(WatchFlags::CLOSE_WRITE)
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::DELETE_SELF);

/// A watch on a container's directory. Make it first, look at the container then, and wait if it was not as wanted:
/// a change in between ends the wait at once.
#[derive(Debug)]
pub struct Watch {
    inotify: OwnedFd,
}

impl Watch {
    /// Watches a container.
    ///
    /// # Errors
    /// `NotFound` if it is gone; the kernel's.
    pub fn container(engine: &Engine, id: &Id) -> Result<Self> {
        Self::on(&engine.paths().container_dir(id), CONTAINER_CHANGES)?
            .ok_or_else(|| load::not_found(id.as_str()))
    }

    /// Watches a file or directory for given events; None if it is not there.
    ///
    /// # Errors
    /// The kernel's, such as too many watches of this user.
    pub fn on(path: &Path, flags: WatchFlags) -> Result<Option<Self>> {
        let failed = |call: &str, errno: Errno| {
            Error::caused(
                ErrorKind::Internal,
                format!("{call} {}", path.display()),
                &errno,
            )
        };
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)
            .map_err(|e| failed("inotify_init", e))?;
        match inotify::add_watch(&inotify, path, flags) {
            Ok(_) => Ok(Some(Self { inotify })),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(errno) => Err(failed("inotify_add_watch", errno)),
        }
    }

    /// Watches a container as [`Watch::container`] does, besides.
    ///
    /// # Errors
    /// As [`Watch::container`].
    pub fn add_container(&self, engine: &Engine, id: &Id) -> Result<()> {
        let path = engine.paths().container_dir(id);
        match inotify::add_watch(&self.inotify, &path, CONTAINER_CHANGES) {
            Ok(_) => Ok(()),
            Err(Errno::NOENT) => Err(load::not_found(id.as_str())),
            Err(errno) => Err(Error::caused(
                ErrorKind::Internal,
                format!("inotify_add_watch {}", path.display()),
                &errno,
            )),
        }
    }

    /// Waits for a change or for as long as `limit`. Changes since the last wait count.
    ///
    /// # Errors
    /// The kernel's.
    pub fn wait(&self, limit: Duration) -> Result<()> {
        let failed = |errno: Errno| {
            Error::caused(ErrorKind::Internal, "cannot wait for the container", &errno)
        };
        let limit = Timespec {
            tv_sec: i64::try_from(limit.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: limit.subsec_nanos().into(),
        };
        match poll(
            &mut [PollFd::new(&self.inotify, PollFlags::IN)],
            Some(&limit),
        ) {
            Ok(0) | Err(Errno::INTR) => return Ok(()),
            Ok(_) => {}
            Err(errno) => return Err(failed(errno)),
        }
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(&self.inotify, &mut buffer);
        loop {
            match reader.next() {
                Ok(_) => {}
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(failed(errno)),
            }
        }
    }

    /// The descriptor, for callers that wait for more than this.
    pub fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        use std::os::fd::AsFd;
        self.inotify.as_fd()
    }
}
