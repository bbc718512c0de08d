//! What a poll loop waits for, as descriptors: signals ([`SignalFd`]) and the end of a child ([`reap`] on its pidfd).
//! The waiting itself is `rustix::event::poll`.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::io::Errno;
use rustix::process::{WaitId, WaitIdOptions, WaitIdStatus};

use crate::{Error, Result};

/// Signals as a descriptor that becomes readable, signalfd(2). The signals stay blocked after it is dropped.
#[derive(Debug)]
pub struct SignalFd {
    descriptor: OwnedFd,
}

impl SignalFd {
    /// Blocks `signals` (numbers) in the calling thread and makes a non-blocking descriptor for them.
    ///
    /// # Errors
    /// `EINVAL` for a number that is no signal; what rt_sigprocmask(2) and signalfd(2) say.
    pub fn new(signals: &[i32]) -> Result<Self> {
        let set = set_of(signals)?;
        let nothing = std::ptr::null_mut::<u64>();
        // SAFETY: `set` is the kernel's set of signals, of the size that is told, and the old one is not asked for.
        let blocked = unsafe {
            libc::syscall(
                libc::SYS_rt_sigprocmask,
                libc::SIG_BLOCK,
                &raw const set,
                nothing,
                size_of::<u64>(),
            )
        };
        if blocked < 0 {
            return Err(Error::new("rt_sigprocmask", last_errno()));
        }
        let flags = libc::SFD_CLOEXEC | libc::SFD_NONBLOCK;
        // SAFETY: -1 asks for a new descriptor; `set` as above.
        let raw = unsafe {
            libc::syscall(
                libc::SYS_signalfd4,
                -1,
                &raw const set,
                size_of::<u64>(),
                flags,
            )
        };
        if raw < 0 {
            return Err(Error::new("signalfd", last_errno()));
        }
        // SAFETY: the kernel has just made this descriptor for us, nobody else owns it.
        let descriptor = unsafe { OwnedFd::from_raw_fd(raw as i32) };
        Ok(Self { descriptor })
    }

    /// The number of the next signal that has arrived; None if there is none. Does not block.
    ///
    /// # Errors
    /// Those of `read`.
    pub fn read(&self) -> Result<Option<i32>> {
        // signalfd(2): a read gives whole `signalfd_siginfo` records of 128 bytes that begin with the number.
        let mut record = [0u8; 128];
        loop {
            return match rustix::io::read(&self.descriptor, &mut record) {
                Ok(128) => Ok(Some(i32::from_ne_bytes([
                    record[0], record[1], record[2], record[3],
                ]))),
                Ok(_) => Err(Error::new("read signalfd", Errno::IO)),
                Err(Errno::AGAIN) => Ok(None),
                Err(Errno::INTR) => continue,
                Err(errno) => Err(Error::new("read signalfd", errno)),
            };
        }
    }
}

impl AsFd for SignalFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

/// Ignores `signal` (a number) in this process: writes to a closed pipe then fail with `EPIPE`.
///
/// # Errors
/// `EINVAL` for a number that is no signal.
pub fn ignore_signal(signal: i32) -> Result<()> {
    // SAFETY: SIG_IGN installs no handler.
    let previous = unsafe { libc::signal(signal, libc::SIG_IGN) };
    if previous == libc::SIG_ERR {
        Err(Error::new("signal", last_errno()))
    } else {
        Ok(())
    }
}

/// Sends `signal` (a number, real-time signals included) to the process behind `pidfd`. One that has ended already is
/// no error.
///
/// # Errors
/// `EINVAL` for a number that is no signal; those of pidfd_send_signal(2).
pub fn send_signal(pidfd: BorrowedFd<'_>, signal: i32) -> Result<()> {
    let info = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: the descriptor is open for the call; a null info makes the kernel fill it as kill(2) does.
    let code = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            signal,
            info,
            0,
        )
    };
    match code {
        0 => Ok(()),
        _ if last_errno() == Errno::SRCH => Ok(()),
        _ => Err(Error::new("pidfd_send_signal", last_errno())),
    }
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// It called exit with this code.
    Exited(i32),
    /// This signal ended it.
    Killed(i32),
}

/// Collects the child behind `pidfd` if it has ended; None if it still runs. Does not block.
///
/// # Errors
/// `ECHILD` if it is not a child of this process, or was collected before.
pub fn reap(pidfd: BorrowedFd<'_>) -> Result<Option<Ending>> {
    wait(pidfd, WaitIdOptions::EXITED | WaitIdOptions::NOHANG)
}

/// Waits until the child behind `pidfd` has ended, and collects it. Blocks.
///
/// # Errors
/// As [`reap`].
pub fn reap_blocking(pidfd: BorrowedFd<'_>) -> Result<Ending> {
    loop {
        if let Some(ending) = wait(pidfd, WaitIdOptions::EXITED)? {
            return Ok(ending);
        }
    }
}

fn wait(pidfd: BorrowedFd<'_>, options: WaitIdOptions) -> Result<Option<Ending>> {
    loop {
        return match rustix::process::waitid(WaitId::PidFd(pidfd), options) {
            Ok(status) => Ok(status.as_ref().and_then(ending)),
            Err(Errno::INTR) => continue,
            Err(errno) => Err(Error::new("waitid", errno)),
        };
    }
}

fn ending(status: &WaitIdStatus) -> Option<Ending> {
    let code = status.exit_status().map(Ending::Exited);
    code.or_else(|| status.terminating_signal().map(Ending::Killed))
}

/// The kernel's own form of a set: C libraries keep numbers from us that they use themselves, and not the same ones.
fn set_of(signals: &[i32]) -> Result<u64> {
    signals.iter().try_fold(0, |set, &signal| match signal {
        1..=64 => Ok(set | 1 << (signal - 1)),
        _ => Err(Error::new("signalfd", Errno::INVAL)),
    })
}

fn last_errno() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}

#[cfg(test)]
// Children are collected by their pidfds here.
#[allow(clippy::zombie_processes)]
mod tests {
    use std::process::Command;

    use rustix::process::{Pid, PidfdFlags, pidfd_open};

    use super::*;

    fn pidfd_of(child: &std::process::Child) -> OwnedFd {
        let pid = Pid::from_raw(i32::try_from(child.id()).expect("pid")).expect("pid is not 0");
        pidfd_open(pid, PidfdFlags::empty()).expect("pidfd_open")
    }

    #[test]
    fn reaps_exit_codes_and_signals() {
        for (script, expected) in [
            ("exit 7", Ending::Exited(7)),
            ("kill -9 $$", Ending::Killed(9)),
        ] {
            let child = Command::new("/bin/sh")
                .args(["-c", script])
                .spawn()
                .expect("sh");
            let pidfd = pidfd_of(&child);
            assert_eq!(reap_blocking(pidfd.as_fd()).expect("reap"), expected);
            assert_eq!(
                reap(pidfd.as_fd()).expect_err("collected twice").errno,
                Errno::CHILD
            );
        }
    }

    #[test]
    fn a_running_child_is_not_reaped() {
        let mut child = Command::new("/bin/sh")
            .args(["-c", "read x"])
            .stdin(std::process::Stdio::piped())
            .spawn()
            .expect("sh");
        let pidfd = pidfd_of(&child);
        assert_eq!(reap(pidfd.as_fd()).expect("reap"), None);
        send_signal(pidfd.as_fd(), 0).expect("it is there");
        assert_eq!(
            send_signal(pidfd.as_fd(), 4711)
                .expect_err("no signal")
                .errno,
            Errno::INVAL
        );
        drop(child.stdin.take());
        assert!(matches!(
            reap_blocking(pidfd.as_fd()),
            Ok(Ending::Exited(_))
        ));
    }

    #[test]
    fn signals_arrive_as_descriptors() {
        // The mask belongs to the thread, and the signal goes to the thread: other tests are not touched.
        std::thread::spawn(|| {
            let signals = SignalFd::new(&[libc::SIGUSR2]).expect("signalfd");
            assert_eq!(signals.read().expect("read"), None);
            // SAFETY: raises a signal that this thread has blocked.
            unsafe { libc::raise(libc::SIGUSR2) };
            assert_eq!(signals.read().expect("read"), Some(libc::SIGUSR2));
        })
        .join()
        .expect("thread");
    }

    #[test]
    fn an_impossible_signal_is_refused() {
        assert_eq!(
            SignalFd::new(&[4711]).expect_err("refused").errno,
            Errno::INVAL
        );
    }
}
