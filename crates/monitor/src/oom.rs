//! Kills by the kernel's out-of-memory killer: an event when one happens, and a note in the exit record.

use std::os::fd::{AsFd, BorrowedFd};

use ketch_engine::event::Event;
use ketch_runtime::cgroup::{Cgroup, OutOfMemoryWatch};

use crate::monitor::Monitor;

/// The kills of one run.
#[derive(Debug, Default)]
pub struct Kills {
    watch: Option<OutOfMemoryWatch>,
    seen: u64,
}

impl Kills {
    /// Begins to hear of kills as they happen. A kernel without a memory controller kills nobody in a cgroup.
    pub fn watch(&mut self, cgroup: &Cgroup) {
        self.watch = cgroup.watch_out_of_memory().ok().flatten();
    }

    /// Readable when there may be news.
    pub fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.watch.as_ref().map(AsFd::as_fd)
    }

    /// Whether there were kills since the last time this was asked.
    pub fn news(&mut self, cgroup: &Cgroup) -> bool {
        if self
            .watch
            .as_ref()
            .is_some_and(|watch| watch.acknowledge().is_err())
        {
            self.watch = None;
        }
        let count = cgroup.out_of_memory_kills().unwrap_or(self.seen);
        let more = count > self.seen;
        self.seen = count.max(self.seen);
        more
    }

    /// Whether there was any kill in this run.
    pub fn any(&mut self, cgroup: &Cgroup) -> bool {
        self.news(cgroup);
        self.seen > 0
    }
}

impl Monitor {
    /// The kernel says that something happened to the container's memory.
    pub fn out_of_memory(&mut self) {
        let Some(run) = self.run.as_mut() else { return };
        if run.kills.news(run.made.cgroup()) {
            self.publish(Event::now("container", "oom", self.id.as_str()));
        }
    }
}
