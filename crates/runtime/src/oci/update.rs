//! `update` and what a container uses.

use ketch_spec::runtime::{IntelRdt, LinuxResources};

use super::error::{Error, Refusal, Result};
use super::record::Record;
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

/// Changes a container's class of `linux.intelRdt`.
///
/// # Errors
/// A container that is not there, has stopped or has no class; lines that the kernel refuses.
pub fn update_class(root: &Root, id: &Id, wanted: &IntelRdt) -> Result<()> {
    let record = running(root, id)?;
    let claim = record.resctrl.ok_or(Refusal::NoClass)?;
    Ok(claim.update(wanted)?)
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
    running(root, id)?.cgroup.open()
}

fn running(root: &Root, id: &Id) -> Result<Record> {
    let entry = root.entry(id)?;
    let record = entry.committed()?;
    match status(&entry, &record)? {
        Status::Stopped => Err(Error::NotRunning {
            id: id.to_string(),
            status: Status::Stopped,
        }),
        _ => Ok(record),
    }
}
