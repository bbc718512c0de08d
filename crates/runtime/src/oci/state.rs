//! `state`: what the specification defines, and what runc tells besides.

use std::path::PathBuf;

use super::error::Result;
use super::record::Record;
use super::store::{Entry, Id, Root};
use crate::hooks::{State, Status};

/// State of a container, with what runc tells besides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FullState {
    /// As of the specification.
    pub state: State,
    /// Its root file system.
    pub rootfs: PathBuf,
    /// Nanoseconds since 1970.
    pub created_ns: u64,
    /// User id of whoever made it.
    pub owner: u32,
}

/// The state of a container.
///
/// # Errors
/// One that is not there; what the kernel says.
pub fn state(root: &Root, id: &Id) -> Result<FullState> {
    let entry = root.entry(id)?;
    let record = entry.committed()?;
    full(&entry, record)
}

pub(super) fn full(entry: &Entry, record: Record) -> Result<FullState> {
    let status = status(entry, &record)?;
    Ok(FullState {
        state: record.state(status),
        rootfs: record.rootfs,
        created_ns: record.created_ns,
        owner: record.owner,
    })
}

/// What a container is at this moment.
pub(super) fn status(entry: &Entry, record: &Record) -> Result<Status> {
    Ok(if !record.init.lives()? {
        Status::Stopped
    } else if record.cgroup.is_frozen()? {
        Status::Paused
    } else if entry.connect()?.is_some() {
        Status::Created
    } else {
        Status::Running
    })
}
