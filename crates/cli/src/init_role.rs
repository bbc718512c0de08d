//! `docker-init`: process 1 of a container made with `--init`. Starts the program, passes signals on, collects
//! orphans, and ends with the program's exit code.
//!
//! The program is started through ourselves (`docker-init --exec PROGRAM …`): that second process leads its own group,
//! takes the terminal, and gives signals their default dispositions before it executes the program.

use std::ffi::OsString;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use ketch_sys::poll::SignalFd;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions};

use crate::output;

/// The word that makes us the second process.
const EXEC: &str = "--exec";
const SIGCHLD: i32 = 17;
/// Faults of our own, and what cannot be caught (KILL, STOP).
const NOT_PASSED: [i32; 9] = [4, 5, 6, 7, 8, 9, 11, 19, 31];
const LAST_SIGNAL: i32 = 31;

/// Runs the role. `words` are the arguments after the program's name.
pub fn main(words: &[OsString]) -> ExitCode {
    match words {
        [first, program @ ..] if first == EXEC => execute(program),
        [first, program @ ..] if first == "--" => supervise(program),
        program => supervise(program),
    }
}

fn complain(code: u8, message: &str) -> ExitCode {
    output::warn(&format!("docker-init: {message}"));
    ExitCode::from(code)
}

/// The second process: becomes the program.
fn execute(program: &[OsString]) -> ExitCode {
    let Some((name, arguments)) = program.split_first() else {
        return complain(125, "no program given");
    };
    // SIGTTOU is still blocked here, so that a background group may take the terminal.
    let _ = rustix::process::setpgid(None, None);
    let _ = rustix::termios::tcsetpgrp(io::stdin(), rustix::process::getpid());
    ketch_sys::process::reset_signals();
    let error = Command::new(name).args(arguments).exec();
    let code = if error.kind() == io::ErrorKind::NotFound {
        127
    } else {
        126
    };
    complain(code, &format!("exec {}: {error}", name.to_string_lossy()))
}

fn supervise(program: &[OsString]) -> ExitCode {
    let passed: Vec<i32> = (1..=LAST_SIGNAL)
        .filter(|signal| !NOT_PASSED.contains(signal))
        .collect();
    let signals = match SignalFd::new(&passed) {
        Ok(signals) => signals,
        Err(error) => return complain(125, &error.to_string()),
    };
    let child = Command::new("/proc/self/exe")
        .arg0("docker-init")
        .arg(EXEC)
        .args(program)
        .spawn();
    let child = match child {
        Ok(child) => child,
        Err(error) => return complain(126, &format!("exec /proc/self/exe: {error}")),
    };
    let Some(child) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) else {
        return complain(125, "the program has no process id");
    };
    loop {
        match poll(
            &mut [PollFd::from_borrowed_fd(signals.as_fd(), PollFlags::IN)],
            None,
        ) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return complain(125, &format!("poll: {errno}")),
        }
        while let Ok(Some(signal)) = signals.read() {
            if signal == SIGCHLD {
                if let Some(code) = collect(child) {
                    return ExitCode::from(code);
                }
            } else if let Some(signal) = Signal::from_named_raw(signal) {
                // The program may have ended meanwhile; its SIGCHLD comes next.
                let _ = rustix::process::kill_process(child, signal);
            }
        }
    }
}

/// Collects everything that has ended; the exit code of `child` if it is among them.
fn collect(child: Pid) -> Option<u8> {
    let mut code = None;
    loop {
        match rustix::process::wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) if pid == child => {
                let ended = status
                    .exit_status()
                    .or_else(|| status.terminating_signal().map(|signal| 128 + signal));
                code = Some(u8::try_from(ended.unwrap_or(255)).unwrap_or(255));
            }
            Ok(Some(_)) | Err(Errno::INTR) => {}
            Ok(None) | Err(_) => return code,
        }
    }
}
