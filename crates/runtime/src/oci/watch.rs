//! Watching a container: its end, and its memory running out.

use std::cell::Cell;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::error::{Error, Result};
use super::store::{Id, Root};
use crate::cgroup::{Cgroup, OutOfMemoryWatch};
use crate::hooks::Status;

/// A container that is watched.
#[derive(Debug)]
pub struct Watch {
    pidfd: OwnedFd,
    cgroup: Cgroup,
    memory: Option<OutOfMemoryWatch>,
    kills: Cell<u64>,
}

impl Watch {
    /// Begins to watch.
    ///
    /// # Errors
    /// A container that is not there or has ended; what the kernel says.
    pub fn open(root: &Root, id: &Id) -> Result<Self> {
        let record = root.entry(id)?.committed()?;
        let ended = || Error::NotRunning {
            id: id.to_string(),
            status: Status::Stopped,
        };
        let pidfd = record.init.open()?.ok_or_else(ended)?;
        let cgroup = record.cgroup.open()?;
        let memory = cgroup.watch_out_of_memory()?;
        let kills = Cell::new(cgroup.out_of_memory_kills()?);
        Ok(Self {
            pidfd,
            cgroup,
            memory,
            kills,
        })
    }

    /// Readable when its first process has ended.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// Readable when something happened to its memory; None where nothing tells.
    pub fn memory(&self) -> Option<BorrowedFd<'_>> {
        self.memory.as_ref().map(AsFd::as_fd)
    }

    /// Whether a process was killed for want of memory since it was asked last.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn ran_out_of_memory(&self) -> Result<bool> {
        if let Some(memory) = &self.memory {
            memory.acknowledge()?;
        }
        let kills = self.cgroup.out_of_memory_kills()?;
        Ok(self.kills.replace(kills) < kills)
    }
}
