//! How a process gets into the cgroups: by being born there, by its own writes, or by someone who moves it.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use crate::error::{Called, During, Result};

/// What the first process needs to enter the cgroups.
#[derive(Debug, Default)]
pub(crate) struct Entry {
    /// Version 2: the directory to be born into.
    pub directory: Option<OwnedFd>,
    /// Version 1: files that it writes `0` into.
    pub tasks: Vec<OwnedFd>,
    /// It is moved there by [`Cgroup::take_in`], and must not go on before.
    pub waits: bool,
}

impl Entry {
    /// Descriptors that the child needs.
    pub fn descriptors(&self) -> impl Iterator<Item = RawFd> + '_ {
        self.tasks.iter().map(AsRawFd::as_raw_fd)
    }

    /// The directory to be born into.
    pub fn directory(&self) -> Option<BorrowedFd<'_>> {
        self.directory.as_ref().map(AsFd::as_fd)
    }

    /// In the child: enters the groups of version 1.
    pub fn enter(&self) -> Result<()> {
        for tasks in &self.tasks {
            rustix::io::write(tasks, b"0")
                .called_on("write", "tasks")
                .during("enter the cgroup")?;
        }
        Ok(())
    }
}
