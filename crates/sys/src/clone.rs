//! clone3(2): a child that goes on in ordinary Rust.

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use rustix::io::Errno;

use crate::namespace::Namespaces;
use crate::process::{close_all_except, exit_now};
use crate::{Error, Result};

const CLONE_PIDFD: u64 = 0x1000;
const CLONE_PARENT: u64 = 0x8000;
const CLONE_CLEAR_SIGHAND: u64 = 0x1_0000_0000;
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// `struct clone_args`, version 2.
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// How to clone.
#[derive(Debug, Default, Clone, Copy)]
pub struct CloneOptions<'a> {
    /// New namespaces for the child.
    pub namespaces: Namespaces,
    /// Directory of a version 2 cgroup that the child is born into.
    pub cgroup: Option<BorrowedFd<'a>>,
    /// Make the child a sibling: a child of the caller's parent.
    pub sibling: bool,
    /// Descriptors that the child keeps. All others are closed as its first act: locks that live as long as an open
    /// file must not live on in it.
    pub keep: &'a [RawFd],
}

/// A child process.
#[derive(Debug)]
pub struct Child {
    /// Its number in the caller's pid namespace.
    pub pid: u32,
    /// Its pidfd.
    pub pidfd: OwnedFd,
}

/// Clones the process; the copy runs `child` and ends with the status that it returns. Signal dispositions of the
/// copy are the defaults; it shares no memory and no descriptor table with the caller, and of descriptors it has only
/// those in `options.keep`. What it captures by reference is a copy that is never dropped.
///
/// # Errors
/// `EBUSY` when the process has more than one thread: locks that another thread holds would stay locked for ever in
/// the copy, so ordinary Rust could not run there. Else what clone3(2) says.
pub fn clone_process(options: &CloneOptions<'_>, child: impl FnOnce() -> i32) -> Result<Child> {
    if !crate::process::is_single_threaded()? {
        return Err(Error::new("clone3 with more than one thread", Errno::BUSY));
    }
    let mut flags = options.namespaces.bits() | CLONE_PIDFD | CLONE_CLEAR_SIGHAND;
    let mut exit_signal = libc::SIGCHLD as u64;
    if options.sibling {
        flags |= CLONE_PARENT;
        exit_signal = 0;
    }
    let mut cgroup = 0;
    if let Some(directory) = options.cgroup {
        flags |= CLONE_INTO_CGROUP;
        cgroup = directory.as_raw_fd() as u64;
    }
    let mut pidfd: libc::c_int = -1;
    let args = CloneArgs {
        flags,
        pidfd: std::ptr::from_mut(&mut pidfd) as u64,
        exit_signal,
        cgroup,
        ..CloneArgs::default()
    };
    let mut keep = options.keep.to_vec();
    // SAFETY: no CLONE_VM and no new stack: the child goes on on a copy of this stack, as after fork. The process has
    // one thread (checked above), so no lock of the allocator or the C library is held by someone who is not copied.
    // `args` and `pidfd` outlive the call.
    let pid = unsafe {
        libc::syscall(
            libc::SYS_clone3,
            std::ptr::from_ref(&args),
            std::mem::size_of::<CloneArgs>(),
        )
    };
    match pid {
        0 => run_child(&mut keep, child),
        1.. => {
            // SAFETY: CLONE_PIDFD made the kernel store a new descriptor there, which nobody else owns.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            Ok(Child {
                pid: pid as u32,
                pidfd,
            })
        }
        _ => Err(Error::new("clone3", last_errno())),
    }
}

/// The child's side: never returns into the caller's frames, not even by a panic.
fn run_child(keep: &mut [RawFd], child: impl FnOnce() -> i32) -> ! {
    struct NoReturn;
    impl Drop for NoReturn {
        fn drop(&mut self) {
            exit_now(70);
        }
    }
    let guard = NoReturn;
    if close_all_except(keep).is_err() {
        exit_now(71);
    }
    let status = child();
    std::mem::forget(guard);
    exit_now(status)
}

/// The calling thread's errno.
pub(crate) fn last_errno() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}
