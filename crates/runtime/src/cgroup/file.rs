//! The small files of cgroups, and their directories.

use std::fs;
use std::io::{ErrorKind, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use ketch_sys::Error as SysError;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// Writes a value in one write.
pub(super) fn write(directory: &Path, name: &str, value: &str) -> Result<(), SysError> {
    write_each(directory, name, [value])
}

/// Writes values one after the other, each in one write: to the kernel each is a command of its own.
pub(super) fn write_each<'a>(
    directory: &Path,
    name: &str,
    values: impl IntoIterator<Item = &'a str>,
) -> Result<(), SysError> {
    let path = directory.join(name);
    let mut file = None;
    for value in values {
        let written = match &mut file {
            Some(file) => Ok(file),
            none => fs::OpenOptions::new()
                .write(true)
                .open(&path)
                .map(|opened| none.insert(opened)),
        };
        written
            .and_then(|file| file.write_all(value.as_bytes()))
            .map_err(|error| {
                SysError::from_io("write", format!("{value:?} to {}", path.display()), &error)
            })?;
    }
    Ok(())
}

/// Reads a file; None if it is not there.
pub(super) fn read_optional(directory: &Path, name: &str) -> Result<Option<String>, SysError> {
    let path = directory.join(name);
    match fs::read_to_string(&path) {
        Ok(text) => Ok(Some(text)),
        // ENODEV: the group was removed while its file was open.
        Err(error)
            if error.kind() == ErrorKind::NotFound
                || Errno::from_io_error(&error) == Some(Errno::NODEV) =>
        {
            Ok(None)
        }
        Err(error) => Err(SysError::from_io("read", path, &error)),
    }
}

/// The number after `key` in a file of `key number` lines.
pub(super) fn keyed(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        line.strip_prefix(key)?
            .strip_prefix(' ')?
            .trim()
            .parse()
            .ok()
    })
}

/// A number, or None for `max` and what else is no number.
pub(super) fn number(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

/// Numbers of the processes in a directory and below it.
pub(super) fn processes(directory: &Path) -> Result<Vec<u32>, SysError> {
    let mut found = Vec::new();
    walk(directory, &mut |group| {
        if let Some(text) = read_optional(group, "cgroup.procs")? {
            // 0 is a process that is not visible from our pid namespace.
            found.extend(
                text.lines()
                    .filter_map(|line| line.parse::<u32>().ok())
                    .filter(|&pid| pid != 0),
            );
        }
        Ok(())
    })?;
    found.sort_unstable();
    found.dedup();
    Ok(found)
}

/// Calls `visit` for every directory below `directory` and then for itself.
fn walk(
    directory: &Path,
    visit: &mut dyn FnMut(&Path) -> Result<(), SysError>,
) -> Result<(), SysError> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(SysError::from_io("readdir", directory, &error)),
    };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            walk(&entry.path(), visit)?;
        }
    }
    visit(directory)
}

/// Sends SIGKILL to every process in a directory and below it.
pub(super) fn kill_all(directory: &Path) -> Result<(), SysError> {
    for pid in processes(directory)? {
        if let Some(pidfd) = open_process(pid)? {
            match pidfd_send_signal(&pidfd, Signal::KILL) {
                Ok(()) | Err(Errno::SRCH) => {}
                Err(errno) => return Err(SysError::new("pidfd_send_signal", errno)),
            }
        }
    }
    Ok(())
}

/// Sends a signal to processes; those that have ended are no error.
pub(super) fn signal_all(processes: &[u32], signal: i32) -> Result<(), SysError> {
    for &pid in processes {
        if let Some(pidfd) = open_process(pid)? {
            match ketch_sys::process::send_signal(&pidfd, signal) {
                Err(error) if error.errno != Errno::SRCH => return Err(error),
                _ => {}
            }
        }
    }
    Ok(())
}

fn open_process(pid: u32) -> Result<Option<std::os::fd::OwnedFd>, SysError> {
    let Some(pid) = Pid::from_raw(pid as i32) else {
        return Ok(None);
    };
    match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(pidfd) => Ok(Some(pidfd)),
        // EINVAL: it is a thread's number by now, or that of a leader that has been reaped.
        Err(Errno::SRCH | Errno::INVAL) => Ok(None),
        Err(errno) => Err(SysError::new("pidfd_open", errno)),
    }
}

/// Removes a directory and those below it, waiting for processes that are ending in it.
pub(super) fn remove(directory: &Path, until: Instant) -> Result<(), SysError> {
    match fs::remove_dir(directory) {
        Ok(()) => return Ok(()),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(_) => {}
    }
    walk(directory, &mut |group| loop {
        match fs::remove_dir(group) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) => {
                let busy = Errno::from_io_error(&error) == Some(Errno::BUSY);
                if !busy || Instant::now() >= until {
                    return Err(SysError::from_io("rmdir", group, &error));
                }
                wait_for_one(group, until)?;
            }
        }
    })
}

/// Removes the directory above if nobody else has a group there.
pub(super) fn remove_parent(directory: &Path, root: &Path) {
    if let Some(parent) = directory
        .parent()
        .filter(|parent| *parent != root && parent.starts_with(root))
    {
        // EBUSY: it is in use; anything else does no harm either.
        let _ = fs::remove_dir(parent);
    }
}

/// Waits for the end of a process in `group`. Without one the kernel is about to take the last one out, for which it
/// has no event: a millisecond then.
fn wait_for_one(group: &Path, until: Instant) -> Result<(), SysError> {
    let left = until.saturating_duration_since(Instant::now());
    for pid in processes(group)? {
        if let Some(pidfd) = open_process(pid)? {
            return wait_readable(&pidfd, PollFlags::IN, left);
        }
    }
    wait_nothing(left.min(Duration::from_millis(1)))
}

/// Waits until a descriptor is ready, or for so long.
pub(super) fn wait_readable(
    fd: impl std::os::fd::AsFd,
    flags: PollFlags,
    timeout: Duration,
) -> Result<(), SysError> {
    poll_for(&mut [PollFd::new(&fd, flags)], timeout)
}

/// Waits for so long.
pub(super) fn wait_nothing(timeout: Duration) -> Result<(), SysError> {
    poll_for(&mut [], timeout)
}

fn poll_for(fds: &mut [PollFd<'_>], timeout: Duration) -> Result<(), SysError> {
    let timeout = Timespec::try_from(timeout).map_err(|_| SysError::new("poll", Errno::INVAL))?;
    match poll(fds, Some(&timeout)) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(errno) => Err(SysError::new("poll", errno)),
    }
}

/// Makes a directory and those above it.
pub(super) fn make(directory: &Path) -> Result<(), SysError> {
    for _ in 0..100 {
        match fs::create_dir(directory) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(()),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let parent = directory.parent().unwrap_or(Path::new("/"));
                make(parent)?;
            }
            Err(error) => return Err(SysError::from_io("mkdir", directory, &error)),
        }
        // The last container of someone else went, and took the directory above with it: once more.
    }
    Err(SysError::on("mkdir", directory, Errno::NOENT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keyed_numbers_are_found_by_the_whole_key() {
        let text = "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n";
        assert_eq!(keyed(text, "oom_kill"), Some(3));
        assert_eq!(keyed(text, "oom"), None);
    }

    #[test]
    fn max_is_no_number() {
        assert_eq!(number("max\n"), None);
        assert_eq!(number("12\n"), Some(12));
    }
}
