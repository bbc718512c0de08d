//! Hearing of out-of-memory events.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::file;
use crate::error::{Called, During, Result};

/// A descriptor that is readable when the out-of-memory killer was at work, or something else happened to the memory
/// of the group: ask [`super::Cgroup::out_of_memory_kills`] then. It also wakes when the group is removed.
#[derive(Debug)]
pub struct OutOfMemoryWatch(OwnedFd);

impl OutOfMemoryWatch {
    /// Takes the events that were told, so that the descriptor is readable again only for new ones.
    ///
    /// # Errors
    /// What the kernel says to reading.
    pub fn acknowledge(&self) -> Result<()> {
        let mut bytes = [0; 4096];
        loop {
            match rustix::io::read(&self.0, &mut bytes) {
                Ok(_) => {}
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(errno) => {
                    return Err(ketch_sys::Error::new("read", errno))
                        .during("hear of out-of-memory events");
                }
            }
        }
    }
}

impl AsFd for OutOfMemoryWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Version 1: an eventfd, made known by a line in `cgroup.event_control`.
pub(super) fn of_v1(directory: &Path) -> Result<OutOfMemoryWatch> {
    let step = "hear of out-of-memory events";
    let path = directory.join("memory.oom_control");
    let control = rustix::fs::open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .called_on("open", path)
        .during(step)?;
    let events = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
        .called("eventfd")
        .during(step)?;
    let line = format!("{} {}", events.as_raw_fd(), control.as_raw_fd());
    file::write(directory, "cgroup.event_control", &line).during(step)?;
    Ok(OutOfMemoryWatch(events))
}

/// Version 2: the kernel tells of changes of `memory.events` as of changes of any file.
pub(super) fn of_v2(directory: &Path) -> Result<Option<OutOfMemoryWatch>> {
    let step = "hear of out-of-memory events";
    let events = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)
        .called("inotify_init1")
        .during(step)?;
    let path = directory.join("memory.events");
    match inotify::add_watch(&events, &path, WatchFlags::MODIFY) {
        Ok(_) => Ok(Some(OutOfMemoryWatch(events))),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(ketch_sys::Error::on("inotify_add_watch", path, errno)).during(step),
    }
}
