//! Starting a program as a child without copying the caller: posix_spawn(3), whose child borrows our memory until it
//! executes (vfork). The cost does not grow with the caller, and a caller may have threads.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::ptr;

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags};

use crate::{Error, Result};

/// A program to start. Its standard streams are /dev/null, its environment is empty, no signal is blocked or ignored.
#[derive(Debug)]
pub struct Program<'a> {
    /// What to execute.
    pub path: &'a CStr,
    /// Its arguments, the first being its name.
    pub arguments: &'a [CString],
    /// Descriptors that it gets, with the numbers they have there: above 2, each number once.
    pub descriptors: &'a [(BorrowedFd<'a>, RawFd)],
}

/// Starts a program. Returns when it has been executed, with a pidfd of the child, which is ours to reap.
///
/// # Errors
/// execve(2)'s, if the program cannot be executed; clone(2)'s; `EINVAL` for a number that is a standard stream's.
pub fn spawn(program: &Program<'_>) -> Result<OwnedFd> {
    let failed = |errno: Errno| {
        Error::on(
            "posix_spawn",
            program.path.to_string_lossy().into_owned(),
            errno,
        )
    };
    let mut actions = Actions::new().map_err(failed)?;
    for number in 0..3 {
        actions.open(number, c"/dev/null").map_err(failed)?;
    }
    // The numbers wanted may be in use by others of the list: all are moved out of the way first.
    let above = program
        .descriptors
        .iter()
        .map(|(_, number)| number + 1)
        .max()
        .unwrap_or(3)
        .max(3);
    let mut moved = Vec::with_capacity(program.descriptors.len());
    for (descriptor, number) in program.descriptors {
        if *number < 3 {
            return Err(failed(Errno::INVAL));
        }
        let copy = rustix::io::fcntl_dupfd_cloexec(descriptor, above).map_err(failed)?;
        actions.duplicate(copy.as_fd(), *number).map_err(failed)?;
        moved.push(copy);
    }
    let attributes = Attributes::new().map_err(failed)?;
    let arguments: Vec<*mut libc::c_char> = program
        .arguments
        .iter()
        .map(|text| text.as_ptr().cast_mut())
        .chain([ptr::null_mut()])
        .collect();
    let environment: [*mut libc::c_char; 1] = [ptr::null_mut()];
    let mut pid: libc::pid_t = 0;
    // SAFETY: the path and the arguments are C strings that outlive the call, both lists end with a null pointer and
    // are not written (their types say so for C's sake); actions and attributes are initialised and outlive the call.
    let result = unsafe {
        libc::posix_spawn(
            &mut pid,
            program.path.as_ptr(),
            &actions.raw,
            &attributes.raw,
            arguments.as_ptr(),
            environment.as_ptr(),
        )
    };
    check(result).map_err(failed)?;
    let pid = Pid::from_raw(pid).ok_or_else(|| failed(Errno::SRCH))?;
    // The child cannot have been reaped by anybody but us, so the number is still its own.
    rustix::process::pidfd_open(pid, PidfdFlags::empty())
        .map_err(|errno| Error::new("pidfd_open", errno))
}

/// posix_spawn's functions return the error instead of setting errno.
fn check(result: libc::c_int) -> Result<(), Errno> {
    if result == 0 {
        Ok(())
    } else {
        Err(Errno::from_raw_os_error(result))
    }
}

struct Actions {
    raw: libc::posix_spawn_file_actions_t,
}

impl Actions {
    fn new() -> Result<Self, Errno> {
        // SAFETY: plain memory that the call below initialises before anything reads it.
        let mut raw = unsafe { std::mem::zeroed() };
        // SAFETY: `raw` is writable memory of the right type. The C library keeps its contents elsewhere, so that it
        // may be moved afterwards.
        check(unsafe { libc::posix_spawn_file_actions_init(&mut raw) })?;
        Ok(Self { raw })
    }

    fn open(&mut self, number: RawFd, path: &CStr) -> Result<(), Errno> {
        // SAFETY: initialised actions; the C library copies the path.
        check(unsafe {
            libc::posix_spawn_file_actions_addopen(
                &mut self.raw,
                number,
                path.as_ptr(),
                libc::O_RDWR,
                0,
            )
        })
    }

    fn duplicate(&mut self, descriptor: BorrowedFd<'_>, number: RawFd) -> Result<(), Errno> {
        // SAFETY: initialised actions; only numbers are stored.
        check(unsafe {
            libc::posix_spawn_file_actions_adddup2(&mut self.raw, descriptor.as_raw_fd(), number)
        })
    }
}

impl Drop for Actions {
    fn drop(&mut self) {
        // SAFETY: initialised, and not used after this.
        unsafe { libc::posix_spawn_file_actions_destroy(&mut self.raw) };
    }
}

struct Attributes {
    raw: libc::posix_spawnattr_t,
}

impl Attributes {
    /// Nothing blocked, default dispositions.
    fn new() -> Result<Self, Errno> {
        // SAFETY: plain memory that the call below initialises before anything reads it.
        let mut raw = unsafe { std::mem::zeroed() };
        // SAFETY: `raw` is writable memory of the right type.
        check(unsafe { libc::posix_spawnattr_init(&mut raw) })?;
        let mut attributes = Self { raw };
        // SAFETY: the sets are plain memory that the calls initialise; initialised attributes; values are copied.
        unsafe {
            let mut none: libc::sigset_t = std::mem::zeroed();
            let mut all: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&mut none);
            libc::sigfillset(&mut all);
            check(libc::posix_spawnattr_setsigmask(&mut attributes.raw, &none))?;
            check(libc::posix_spawnattr_setsigdefault(
                &mut attributes.raw,
                &all,
            ))?;
            let flags = libc::POSIX_SPAWN_SETSIGMASK | libc::POSIX_SPAWN_SETSIGDEF;
            check(libc::posix_spawnattr_setflags(
                &mut attributes.raw,
                flags as libc::c_short,
            ))?;
        }
        Ok(attributes)
    }
}

impl Drop for Attributes {
    fn drop(&mut self) {
        // SAFETY: initialised, and not used after this.
        unsafe { libc::posix_spawnattr_destroy(&mut self.raw) };
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Read;

    use super::*;
    use crate::poll::{Ending, reap_blocking};

    fn shell(script: &str, descriptors: &[(BorrowedFd<'_>, RawFd)]) -> Result<OwnedFd> {
        let arguments = [
            c"sh".to_owned(),
            c"-c".to_owned(),
            CString::new(script).unwrap(),
        ];
        spawn(&Program {
            path: c"/bin/sh",
            arguments: &arguments,
            descriptors,
        })
    }

    #[test]
    fn descriptors_arrive_under_their_numbers_though_they_cross() {
        let (first_out, first_in) =
            rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
        let (second_out, second_in) =
            rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
        // Each wants the number that the other has.
        let (one, two) = (first_in.as_raw_fd(), second_in.as_raw_fd());
        let script = format!("echo first >&{two}; echo second >&{one}");
        let child = shell(
            &script,
            &[(first_in.as_fd(), two), (second_in.as_fd(), one)],
        )
        .unwrap();
        drop((first_in, second_in));
        let read = |end: OwnedFd| {
            let mut text = String::new();
            File::from(end).read_to_string(&mut text).unwrap();
            text
        };
        // dash refuses numbers above 9; then nothing is written and the status says so.
        let ending = reap_blocking(child.as_fd()).unwrap();
        if one <= 9 && two <= 9 {
            assert_eq!(
                (read(first_out), read(second_out)),
                ("first\n".into(), "second\n".into())
            );
            assert_eq!(ending, Ending::Exited(0));
        }
    }

    #[test]
    fn what_is_ours_is_not_inherited_and_the_environment_is_empty() {
        // Close-on-exec, as everything of ours; what cargo left open in this process is not ours.
        let ours = File::open("/proc/self/status").unwrap();
        let script = format!(
            "test ! -e /proc/self/fd/{} && test -z \"$HOME\" && test ! -t 0",
            ours.as_raw_fd()
        );
        let child = shell(&script, &[]).unwrap();
        assert_eq!(reap_blocking(child.as_fd()).unwrap(), Ending::Exited(0));
    }

    #[test]
    fn a_program_that_is_not_there_is_told_at_once() {
        let error = spawn(&Program {
            path: c"/nowhere/x",
            arguments: &[],
            descriptors: &[],
        })
        .unwrap_err();
        assert_eq!(error.errno, Errno::NOENT);
    }
}
