//! `pause` and `resume`.

use super::error::{Error, Result};
use super::state::status;
use super::store::{Id, Root};
use crate::hooks::Status;

/// Stops all processes of a container where they are.
///
/// # Errors
/// A container that is not there or not running; processes that do not freeze.
pub fn pause(root: &Root, id: &Id) -> Result<()> {
    let entry = root.entry(id)?;
    let record = entry.committed()?;
    match status(&entry, &record)? {
        Status::Running | Status::Created => Ok(record.cgroup.open()?.freeze()?),
        status => Err(Error::NotRunning {
            id: id.to_string(),
            status,
        }),
    }
}

/// Lets them go on.
///
/// # Errors
/// A container that is not there or not paused.
pub fn resume(root: &Root, id: &Id) -> Result<()> {
    let entry = root.entry(id)?;
    let record = entry.committed()?;
    match status(&entry, &record)? {
        Status::Paused => Ok(record.cgroup.open()?.thaw()?),
        status => Err(Error::NotPaused {
            id: id.to_string(),
            status,
        }),
    }
}
