//! `start`: the first process of a created container executes its program.

use ketch_sys::clone::Child;

use super::error::{Error, Result};
use super::record::Record;
use super::state::status;
use super::store::{Entry, Id, Root};
use crate::hooks::{Status, run_one};
use crate::notify::NotifyAgent;
use crate::process::Process;

/// Starts a created container. Returns when its program executes; what its poststart hooks did wrong is the result.
///
/// # Errors
/// A container that is not there or not created; a failed startContainer hook; why the program cannot be executed. The
/// container is stopped then.
pub fn start(root: &Root, id: &Id) -> Result<Vec<String>> {
    let entry = root.locked(id)?;
    let record = entry.committed()?;
    let Some(pidfd) = record.init.open()? else {
        return Err(Error::CannotStart(Status::Stopped));
    };
    let frozen = record.cgroup.is_frozen()?;
    let channel = match entry.connect()? {
        Some(channel) if !frozen => channel,
        _ => return Err(Error::CannotStart(status(&entry, &record)?)),
    };
    let child = Child {
        pid: record.init.pid,
        pidfd,
    };
    let mut process = Process::of_another(child, channel);
    process.set_agent(agent(&entry, &record)?, "creating");
    let started = process.start();
    entry.remove_socket()?;
    started?;
    Ok(poststart(&record))
}

/// Who answers the calls of the filter, if anybody does.
fn agent(entry: &Entry, record: &Record) -> Result<Option<NotifyAgent>> {
    if !record.notifies {
        return Ok(None);
    }
    let asked = entry.asked()?;
    Ok(asked.and_then(|asked| NotifyAgent::new(&asked.config, &record.id, &record.bundle)))
}

/// Runs the poststart hooks; a failure is a warning only.
pub(super) fn poststart(record: &Record) -> Vec<String> {
    let state = record.state(Status::Running);
    let run = |index| run_one("poststart", &record.poststart, index, &state);
    (0..record.poststart.len())
        .filter_map(|index| run(index).err())
        .map(|error| error.to_string())
        .collect()
}
