//! `update` and what a container uses.

use ketch_spec::runtime::LinuxResources;

use super::error::{Error, Result};
use super::state::status;
use super::store::{Id, Root};
use crate::cgroup::{Cgroup, Stats};
use crate::hooks::Status;

/// Changes limits of a container; those that are not given stay.
///
/// # Errors
/// A container that is not there or has stopped; a limit that the kernel does not have or refuses.
pub fn update(root: &Root, id: &Id, resources: &LinuxResources) -> Result<()> {
    Ok(cgroup(root, id)?.update(resources)?)
}

/// What a container's processes use.
///
/// # Errors
/// A container that is not there or has stopped; what the kernel says.
pub fn stats(root: &Root, id: &Id) -> Result<Stats> {
    Ok(cgroup(root, id)?.stats()?)
}

/// The cgroup of a container that has not stopped.
fn cgroup(root: &Root, id: &Id) -> Result<Cgroup> {
    let entry = root.entry(id)?;
    let record = entry.committed()?;
    match status(&entry, &record)? {
        Status::Stopped => Err(Error::NotRunning {
            id: id.to_string(),
            status: Status::Stopped,
        }),
        _ => record.cgroup.open(),
    }
}
