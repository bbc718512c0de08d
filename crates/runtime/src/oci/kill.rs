//! `kill` and the numbers of a container's processes.

use rustix::process::Signal;

use super::error::{Error, Result};
use super::store::{Id, Root};
use crate::error::During;
use crate::hooks::Status;

/// Sends a signal to a container's first process, or with `all` to all of them.
///
/// # Errors
/// A container that is not there or, without `all`, not running; a number that is no signal.
pub fn kill(root: &Root, id: &Id, signal: i32, all: bool) -> Result<()> {
    let record = root.entry(id)?.committed()?;
    let kills = signal == Signal::KILL.as_raw();
    let first = record.init.open()?;
    // Without numbers of their own the others outlive the first one.
    let all =
        all || (kills && !record.own_pids && first.is_some() && !record.cgroup.path.is_empty());
    if all {
        let cgroup = record.cgroup.open()?;
        if kills {
            return Ok(cgroup.kill()?);
        }
        return Ok(cgroup.signal(signal)?);
    }
    let Some(first) = first else {
        return Err(Error::NotRunning {
            id: id.to_string(),
            status: Status::Stopped,
        });
    };
    match ketch_sys::process::send_signal(&first, signal) {
        Err(error) if error.errno == rustix::io::Errno::SRCH => {
            return Err(Error::NotRunning {
                id: id.to_string(),
                status: Status::Stopped,
            });
        }
        other => other.during("signal the container's first process")?,
    }
    if kills && record.cgroup.is_frozen()? {
        // Version 1: one that is frozen ends when it thaws.
        record.cgroup.open()?.thaw()?;
    }
    Ok(())
}

/// Numbers of all processes of a container, as the caller sees them.
///
/// # Errors
/// A container that is not there; what the kernel says.
pub fn processes(root: &Root, id: &Id) -> Result<Vec<u32>> {
    let record = root.entry(id)?.committed()?;
    Ok(record.cgroup.open()?.processes()?)
}
