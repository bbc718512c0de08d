//! What a process does to itself before it executes another program.

use std::convert::Infallible;
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, RawFd};

use rustix::io::Errno;

use crate::clone::last_errno;
use crate::{Error, Result};

fn check(call: &'static str, result: libc::c_long) -> Result<libc::c_long> {
    if result < 0 {
        Err(Error::new(call, last_errno()))
    } else {
        Ok(result)
    }
}

/// Ends the process at once: no destructors, no exit handlers, no flushing.
pub fn exit_now(status: i32) -> ! {
    // SAFETY: _exit(2) has no preconditions.
    unsafe { libc::_exit(status) }
}

/// Whether the process has one thread only.
///
/// # Errors
/// When /proc is not there.
pub fn is_single_threaded() -> Result<bool> {
    // The kernel counts a directory's threads into its links: two for itself, one for each thread.
    let stat = rustix::fs::stat("/proc/self/task")
        .map_err(|errno| Error::on("stat", "/proc/self/task", errno))?;
    Ok(stat.st_nlink == 3)
}

/// Closes every descriptor that is not in `keep`. For the first act of a cloned child: see `clone_process`, which
/// makes sure that no value that owns one of them is used again.
pub(crate) fn close_all_except(keep: &mut [RawFd]) -> Result<()> {
    keep.sort_unstable();
    let mut first = 0;
    for &fd in &*keep {
        let fd = fd as u32;
        if fd > first {
            close_range(first, fd - 1, 0)?;
        }
        first = first.max(fd + 1);
    }
    close_range(first, u32::MAX, 0)
}

/// Marks every descriptor from `first` on close-on-exec.
///
/// # Errors
/// What close_range(2) says.
pub fn close_on_exec_from(first: u32) -> Result<()> {
    close_range(first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC)
}

fn close_range(first: u32, last: u32, flags: u32) -> Result<()> {
    // SAFETY: closes numbers only; who may call it with flags of 0 is told at `close_all_except`.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, last, flags) };
    check("close_range", result).map(drop)
}

/// Whether a descriptor of that number is open.
pub fn is_open(fd: RawFd) -> bool {
    // SAFETY: F_GETFD reads a flag of a number that need not be open.
    unsafe { libc::fcntl(fd, libc::F_GETFD) >= 0 }
}

/// Lets the descriptor of that number survive execve.
///
/// # Errors
/// `EBADF` if it is not open.
pub fn keep_over_exec(fd: RawFd) -> Result<()> {
    // SAFETY: F_SETFD changes a flag of a number, which fails if it is not open.
    let result = unsafe { libc::fcntl(fd, libc::F_SETFD, 0) };
    check("fcntl F_SETFD", result.into()).map(drop)
}

/// Unblocks all signals and gives all their default dispositions.
pub fn reset_signals() {
    // SAFETY: a plain value on the stack.
    unsafe {
        let mut empty: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut empty);
        libc::sigprocmask(libc::SIG_SETMASK, &empty, std::ptr::null_mut());
    }
    // Zero is the default disposition, no flags, an empty mask, whatever the architecture's order of them.
    let default = [0u64; 4];
    let nothing = std::ptr::null_mut::<u64>();
    for signal in 1..=64 {
        // SAFETY: the kernel's structure is at most as large as `default`. The C library is passed by because it
        // keeps two numbers from us, which someone may have ignored all the same. What the kernel refuses (SIGKILL,
        // SIGSTOP) is not changed.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                default.as_ptr(),
                nothing,
                8usize,
            )
        };
    }
}

/// execve(2). Comes back only with the reason why it failed.
pub fn execute(program: &CStr, args: &[CString], env: &[CString]) -> Result<Infallible> {
    let pointers = |list: &[CString]| -> Vec<*const libc::c_char> {
        list.iter()
            .map(|text| text.as_ptr())
            .chain([std::ptr::null()])
            .collect()
    };
    let (args, env) = (pointers(args), pointers(env));
    // SAFETY: both vectors end with a null pointer and point to C strings that outlive the call.
    unsafe { libc::execve(program.as_ptr(), args.as_ptr(), env.as_ptr()) };
    Err(Error::new("execve", last_errno()))
}

/// Joins a new session keyring without a name, so that the keys of the one before are out of reach.
///
/// # Errors
/// What keyctl(2) says; `ENOSYS` on a kernel without keys.
pub fn join_new_session_keyring() -> Result<i32> {
    const JOIN_SESSION_KEYRING: libc::c_long = 1;
    let name = std::ptr::null::<libc::c_char>();
    // SAFETY: a null pointer asks for a keyring without a name.
    let result = unsafe { libc::syscall(libc::SYS_keyctl, JOIN_SESSION_KEYRING, name) };
    check("keyctl", result).map(|serial| serial as i32)
}

/// personality(2): sets the execution domain and returns the one before.
///
/// # Errors
/// What personality(2) says.
pub fn set_personality(persona: u32) -> Result<u32> {
    // SAFETY: a number.
    let result = unsafe { libc::personality(persona.into()) };
    check("personality", result.into()).map(|old| old as u32)
}

/// Arguments of sched_setattr(2).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Scheduling {
    /// `SCHED_…`.
    pub policy: u32,
    /// `SCHED_FLAG_…`.
    pub flags: u64,
    /// Nice value.
    pub nice: i32,
    /// Priority of the real-time policies.
    pub priority: u32,
    /// Nanoseconds of `SCHED_DEADLINE`.
    pub runtime: u64,
    /// Nanoseconds of `SCHED_DEADLINE`.
    pub deadline: u64,
    /// Nanoseconds of `SCHED_DEADLINE`.
    pub period: u64,
}

/// `struct sched_attr`, second version: the flags of utilisation clamping are refused with the first.
#[repr(C)]
struct SchedAttr {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    runtime: u64,
    deadline: u64,
    period: u64,
    util_min: u32,
    util_max: u32,
}

/// sched_setattr(2) of the calling thread.
///
/// # Errors
/// What sched_setattr(2) says.
pub fn set_scheduling(scheduling: &Scheduling) -> Result<()> {
    let Scheduling {
        policy,
        flags,
        nice,
        priority,
        runtime,
        deadline,
        period,
    } = *scheduling;
    let size = std::mem::size_of::<SchedAttr>() as u32;
    let argument = SchedAttr {
        size,
        policy,
        flags,
        nice,
        priority,
        runtime,
        deadline,
        period,
        util_min: 0,
        util_max: 0,
    };
    // SAFETY: the structure says its own size and outlives the call.
    let result =
        unsafe { libc::syscall(libc::SYS_sched_setattr, 0, std::ptr::from_ref(&argument), 0) };
    check("sched_setattr", result).map(drop)
}

/// ioprio_set(2) of the calling thread: class (1 real-time, 2 best effort, 3 idle) and priority 0 to 7.
///
/// # Errors
/// What ioprio_set(2) says.
pub fn set_io_priority(class: u16, priority: u16) -> Result<()> {
    const WHO_PROCESS: libc::c_long = 1;
    let value = (libc::c_long::from(class) << 13) | libc::c_long::from(priority);
    // SAFETY: numbers.
    let result = unsafe { libc::syscall(libc::SYS_ioprio_set, WHO_PROCESS, 0, value) };
    check("ioprio_set", result).map(drop)
}

/// setrlimit(2) by number, so that limits newer than the C library work too. `u64::MAX` is unlimited.
///
/// # Errors
/// What prlimit(2) says: `EPERM` for a hard limit above the present one without `CAP_SYS_RESOURCE`.
pub fn set_resource_limit(resource: u32, soft: u64, hard: u64) -> Result<()> {
    set_limit_of(0, resource, soft, hard)
}

/// Makes the hard limit of a child that has the caller's own limits yet at least `hard`. The soft one stays.
///
/// # Errors
/// What prlimit(2) says: `EPERM` without `CAP_SYS_RESOURCE`, or for more open files than the kernel has; `ESRCH` if the
/// child has ended and was waited for.
pub fn raise_resource_limit(pid: u32, resource: u32, hard: u64) -> Result<()> {
    let mut present = libc::rlimit64 {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the structure outlives the call, which writes it; no new limit is set.
    let result = unsafe {
        libc::syscall(
            libc::SYS_prlimit64,
            0,
            resource,
            std::ptr::null::<libc::rlimit64>(),
            std::ptr::from_mut(&mut present),
        )
    };
    check("prlimit", result)?;
    if hard <= present.rlim_max {
        return Ok(());
    }
    set_limit_of(pid, resource, present.rlim_cur, hard)
}

fn set_limit_of(pid: u32, resource: u32, soft: u64, hard: u64) -> Result<()> {
    let limit = libc::rlimit64 {
        rlim_cur: soft,
        rlim_max: hard,
    };
    // SAFETY: the structure outlives the call; no old limit is asked for.
    let result = unsafe {
        libc::syscall(
            libc::SYS_prlimit64,
            pid,
            resource,
            std::ptr::from_ref(&limit),
            std::ptr::null_mut::<libc::rlimit64>(),
        )
    };
    check("prlimit", result).map(drop)
}

/// pidfd_send_signal(2) with any number, real-time signals included; 0 only asks.
///
/// # Errors
/// `ESRCH` if the process has ended, `EINVAL` for a number that is no signal.
pub fn send_signal(pidfd: impl AsFd, signal: i32) -> Result<()> {
    let info = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: a null pointer asks the kernel to fill in the information itself.
    let result = unsafe {
        let fd = pidfd.as_fd().as_raw_fd();
        libc::syscall(libc::SYS_pidfd_send_signal, fd, signal, info, 0)
    };
    check("pidfd_send_signal", result).map(drop)
}

/// Waits for a child by number: exit status as of waitpid(2), or None with `block` false while it runs.
///
/// # Errors
/// `ECHILD` if it is no child, or was waited for before.
pub fn wait_child(pid: u32, block: bool) -> Result<Option<i32>> {
    let mut status = 0;
    loop {
        let flags = libc::__WALL | if block { 0 } else { libc::WNOHANG };
        // SAFETY: the status outlives the call.
        let result = unsafe { libc::waitpid(pid as libc::pid_t, &mut status, flags) };
        match result {
            0 => return Ok(None),
            1.. => return Ok(Some(status)),
            _ if last_errno() == Errno::INTR => {}
            _ => return Err(Error::new("waitpid", last_errno())),
        }
    }
}

/// The number of a child that has ended and was not waited for; None if there is none. Does not wait for it.
///
/// # Errors
/// What waitid(2) says; that there are no children at all is None.
pub fn ended_child() -> Result<Option<u32>> {
    // SAFETY: a C structure of integers and pointers that nobody follows; all zeroes is a value of it.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    loop {
        // SAFETY: the structure outlives the call.
        let result = unsafe { libc::waitid(libc::P_ALL, 0, &mut info, flags) };
        match last_errno() {
            _ if result == 0 => break,
            Errno::INTR => {}
            Errno::CHILD => return Ok(None),
            errno => return Err(Error::new("waitid", errno)),
        }
    }
    // SAFETY: waitid has filled in the fields of a child, or left the number zero.
    let pid = unsafe { info.si_pid() };
    Ok((pid > 0).then_some(pid as u32))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_test_harness_has_threads() {
        let (send, receive) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || receive.recv());
        assert!(!is_single_threaded().unwrap());
        drop(send);
        thread.join().unwrap().unwrap_err();
    }

    #[test]
    fn an_open_descriptor_is_told_from_a_closed_one() {
        use std::os::fd::AsRawFd;
        let (reader, _writer) = std::io::pipe().unwrap();
        assert!(is_open(reader.as_raw_fd()));
        assert!(!is_open(1 << 20));
    }
}
