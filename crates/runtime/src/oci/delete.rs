//! `delete`: what create has made goes.

use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::Signal;

use super::cgroups::END_DEADLINE;
use super::create::poststop;
use super::error::{Error, Result};
use super::record::Record;
use super::state::status;
use super::store::{Entry, Id, Locking, Root};
use crate::error::During;
use crate::hooks::Status;

/// Removes a container: a stopped one; one that was never started; with `force` any, and then one that is not there
/// is no error. Returns what the poststop hooks did wrong.
///
/// # Errors
/// A container that is not there or not stopped; processes that do not end; what the kernel says.
pub fn delete(root: &Root, id: &Id, force: bool) -> Result<Vec<String>> {
    match find(root, id, force) {
        Err(error) if force && error.is_not_found() => Ok(Vec::new()),
        Ok((entry, record)) => destroy(&entry, &record),
        Err(error) => Err(error),
    }
}

/// The container, locked, with no process left.
fn find(root: &Root, id: &Id, force: bool) -> Result<(Entry, Record)> {
    let entry = root.entry(id)?;
    let Some(record) = entry.record()? else {
        // To the caller it is not there yet, or never was. One that is being made is left alone.
        if entry.try_lock()? == Locking::Locked {
            if entry.record()?.is_some() {
                // It was finished between the two looks.
                drop(entry);
                return find(root, id, force);
            }
            entry.clean_half_made()?;
            entry.remove()?;
        }
        return Err(Error::NotFound(id.to_string()));
    };
    let first = record.init.open()?;
    if force {
        // Before it is locked: a verb that waits for it, a start in its hooks, goes on when it has ended.
        if let Some(first) = first {
            end(&record, &first)?;
        }
        entry.lock()?;
        return Ok((entry, record));
    }
    let refusal = |status| {
        Err(Error::NotStopped {
            id: id.to_string(),
            status,
        })
    };
    match (entry.try_lock()?, status(&entry, &record)?) {
        (Locking::Gone, _) => return Err(Error::NotFound(id.to_string())),
        (Locking::Held, Status::Stopped) => entry.lock()?,
        (Locking::Locked, Status::Stopped | Status::Created) => {}
        (_, status) => return refusal(status),
    }
    if let Some(first) = first {
        end(&record, &first)?;
    }
    Ok((entry, record))
}

/// Removes what there is of a container whose first process has ended.
pub(super) fn destroy(entry: &Entry, record: &Record) -> Result<Vec<String>> {
    record.cgroup.remove()?;
    if let Some(placed) = &record.placed {
        placed.release()?;
    }
    if let Some(claim) = &record.resctrl {
        claim.remove()?;
    }
    entry.remove()?;
    let mut warnings = Vec::new();
    poststop(record, &record.state(Status::Stopped), &mut warnings);
    Ok(warnings)
}

/// Kills the first process and waits for its end.
fn end(record: &Record, first: &OwnedFd) -> Result<()> {
    let step = "end the container's first process";
    match ketch_sys::process::send_signal(first, Signal::KILL.as_raw()) {
        Err(error) if error.errno == Errno::SRCH => return Ok(()),
        other => other.during(step)?,
    }
    if record.cgroup.is_frozen()? {
        record.cgroup.open()?.thaw()?;
    }
    let seconds = END_DEADLINE.as_secs();
    let timeout = Timespec {
        tv_sec: seconds as i64,
        tv_nsec: 0,
    };
    loop {
        let mut fds = [PollFd::new(first, PollFlags::IN)];
        match poll(&mut fds, Some(&timeout)) {
            Ok(0) => {
                let what = "the end of the container's first process".to_owned();
                return Err(crate::Error::Timeout { what, seconds }.into());
            }
            Ok(_) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(ketch_sys::Error::new("poll", errno)).during(step)?,
        }
    }
}
