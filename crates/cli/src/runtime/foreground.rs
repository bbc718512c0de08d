//! A process in the foreground: signals are passed on, and a terminal is copied both ways, until its end.

use std::os::fd::{BorrowedFd, OwnedFd};

use ketch_runtime::oci;
use ketch_sys::Error as SysError;
use ketch_sys::poll::SignalFd;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use super::console::Console;
use super::failure::Failure;

/// Signals that are about this process itself.
const OWN: [i32; 11] = [
    4,  // SIGILL
    5,  // SIGTRAP
    7,  // SIGBUS
    8,  // SIGFPE
    9,  // SIGKILL
    11, // SIGSEGV
    13, // SIGPIPE
    19, // SIGSTOP
    31, // SIGSYS
    32, // the C library's
    33,
];
const SIGCHLD: i32 = 17;
const SIGURG: i32 = 23;
const SIGWINCH: i32 = 28;

/// A child that runs.
pub struct Child<'a> {
    /// Its number.
    pub pid: u32,
    /// Readable when it has ended.
    pub pidfd: BorrowedFd<'a>,
    /// Sends it a signal.
    pub kill: &'a dyn Fn(i32) -> oci::Result<()>,
}

/// Orphans of the container become our children, and are reaped by [`wait`].
pub fn become_subreaper() -> Result<(), Failure> {
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
        .map_err(|errno| SysError::new("prctl PR_SET_CHILD_SUBREAPER", errno))?;
    Ok(())
}

/// Returns when the child has ended, without reaping it.
pub fn wait(child: Child<'_>, console: Option<OwnedFd>) -> Result<(), Failure> {
    let signals: Vec<i32> = (1..=64).filter(|signal| passed(*signal)).collect();
    let signals = SignalFd::new(&signals)?;
    let mut console = console.map(Console::new).transpose()?;
    loop {
        let (ended, signalled) = turn(&child, &signals, console.as_mut())?;
        if signalled {
            take_signals(&child, &signals, console.as_ref())?;
        }
        if ended {
            if let Some(console) = console.as_mut() {
                console.drain();
            }
            return Ok(());
        }
    }
}

fn passed(signal: i32) -> bool {
    !OWN.contains(&signal)
}

/// Waits for something and copies what there is to copy.
fn turn(
    child: &Child<'_>,
    signals: &SignalFd,
    console: Option<&mut Console>,
) -> Result<(bool, bool), Failure> {
    let mut sides = Vec::new();
    let mut fds = vec![
        PollFd::from_borrowed_fd(child.pidfd, PollFlags::IN),
        PollFd::new(signals, PollFlags::IN),
    ];
    for (side, fd) in console.iter().flat_map(|console| console.wanted()) {
        sides.push(side);
        fds.push(fd);
    }
    match poll(&mut fds, None) {
        Ok(_) => {}
        Err(Errno::INTR) => return Ok((false, false)),
        Err(errno) => return Err(SysError::new("poll", errno).into()),
    }
    let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
    drop(fds);
    if let Some(console) = console {
        for (side, _) in sides.iter().zip(&ready[2..]).filter(|(_, ready)| **ready) {
            console.copy(*side);
        }
    }
    Ok((ready[0], ready[1]))
}

fn take_signals(
    child: &Child<'_>,
    signals: &SignalFd,
    console: Option<&Console>,
) -> Result<(), Failure> {
    while let Some(signal) = signals.read()? {
        match signal {
            SIGCHLD => reap_orphans(child.pid)?,
            SIGURG => {}
            SIGWINCH => {
                if let Some(console) = console {
                    console.resize();
                }
            }
            signal => (child.kill)(signal)?,
        }
    }
    Ok(())
}

/// The child itself is left to its owner: its end is the end of all waiting.
fn reap_orphans(child: u32) -> Result<(), Failure> {
    while let Some(pid) = ketch_sys::process::ended_child()? {
        if pid == child {
            break;
        }
        ketch_sys::process::wait_child(pid, false)?;
    }
    Ok(())
}
