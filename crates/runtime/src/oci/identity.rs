//! Which process is meant: its number, and when it was started, which tells it from a later one of that number.

use std::os::fd::OwnedFd;

use ketch_sys::Error as SysError;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde::{Deserialize, Serialize};

use crate::error::{Called, During, Error, Result};

/// A process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Identity {
    pub pid: u32,
    /// Field 22 of `/proc/PID/stat`: clock ticks since boot.
    pub start_time: u64,
}

impl Identity {
    /// Of a process that runs.
    pub fn of(pid: u32) -> Result<Self> {
        let step = "find out when the container's first process was started";
        match look(pid).during(step)? {
            Some(seen) => Ok(Self {
                pid,
                start_time: seen.start_time,
            }),
            None => Err(SysError::on(
                "open",
                format!("/proc/{pid}/stat"),
                Errno::SRCH,
            ))
            .during(step),
        }
    }

    /// Whether it is there and has not ended.
    pub fn lives(self) -> Result<bool> {
        let seen = look(self.pid).during("look at the container's first process")?;
        Ok(seen.is_some_and(|seen| seen.start_time == self.start_time && !seen.ended))
    }

    /// Its pidfd; None if it has ended.
    pub fn open(self) -> Result<Option<OwnedFd>> {
        let step = "open the container's first process";
        let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw) else {
            return Err(Error::invalid("pid", format!("{} is no process", self.pid)));
        };
        let pidfd = match pidfd_open(pid, PidfdFlags::empty()) {
            // EINVAL: it is a thread's number by now.
            Err(Errno::SRCH | Errno::INVAL) => return Ok(None),
            other => other.called("pidfd_open").during(step)?,
        };
        // After it was opened, so that it is this one that was looked at.
        Ok(self.lives()?.then_some(pidfd))
    }
}

struct Seen {
    start_time: u64,
    ended: bool,
}

fn look(pid: u32) -> Result<Option<Seen>, SysError> {
    let path = format!("/proc/{pid}/stat");
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let file = match rustix::fs::open(&path, flags, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(None),
        other => other.called_on("open", &path)?,
    };
    // The kernel makes the whole line for the first read; it is shorter than this.
    let mut bytes = [0; 2048];
    let count = match rustix::io::read(&file, &mut bytes) {
        Err(Errno::SRCH) => return Ok(None),
        other => other.called_on("read", &path)?,
    };
    match parse(&String::from_utf8_lossy(&bytes[..count])) {
        Some(seen) => Ok(Some(seen)),
        None => Err(SysError::on("read", path, Errno::BADMSG)),
    }
}

/// `123 (a name) S 1 …`: the name may have parentheses and blanks itself.
fn parse(text: &str) -> Option<Seen> {
    let (_, rest) = text.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    let ended = matches!(fields.next()?, "Z" | "X" | "x");
    // The state is field 3, so field 22 is the 19th after it.
    let start_time = fields.nth(18)?.parse().ok()?;
    Some(Seen { start_time, ended })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_is_skipped() {
        let line = "7 (a) Z (b) S 1 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4242 9 9\n";
        let seen = parse(line).unwrap();
        assert_eq!((seen.start_time, seen.ended), (4242, false));
        assert!(parse(&line.replace(" S ", " Z ")).unwrap().ended);
    }

    #[test]
    fn a_process_is_told_from_a_later_one_of_its_number() {
        let own = Identity::of(std::process::id()).unwrap();
        assert!(own.lives().unwrap());
        assert!(own.open().unwrap().is_some());
        let other = Identity {
            start_time: own.start_time + 1,
            ..own
        };
        assert!(!other.lives().unwrap());
        assert!(other.open().unwrap().is_none());
    }
}
