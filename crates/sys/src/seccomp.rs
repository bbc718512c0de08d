//! seccomp(2): loading a system call filter.

use std::os::fd::{FromRawFd, OwnedFd};

use rustix::io::Errno;

use crate::clone::last_errno;
use crate::{Error, Result};

/// Flag: log all actions but allow.
pub const FLAG_LOG: u32 = 1 << 1;
/// Flag: leave speculative store bypass as it is.
pub const FLAG_SPEC_ALLOW: u32 = 1 << 2;
/// Flag: return a descriptor that gets the calls whose action is notify.
pub const FLAG_NEW_LISTENER: u32 = 1 << 3;
/// Flag: a call that is being notified about waits killably.
pub const FLAG_WAIT_KILLABLE: u32 = 1 << 5;

const SET_MODE_FILTER: libc::c_ulong = 1;

/// One instruction of classic BPF: `struct sock_filter`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instruction {
    /// Operation.
    pub code: u16,
    /// Instructions to skip if a condition holds.
    pub jump_true: u8,
    /// Instructions to skip if it does not.
    pub jump_false: u8,
    /// Operand.
    pub k: u32,
}

#[repr(C)]
struct Program {
    len: u16,
    filter: *const Instruction,
}

/// Loads a filter for the calling thread. With [`FLAG_NEW_LISTENER`] the listener comes back.
///
/// # Errors
/// What seccomp(2) says: `EACCES` without `CAP_SYS_ADMIN` or no-new-privileges, `EINVAL` for a program or flag that
/// the kernel does not take.
pub fn load(program: &[Instruction], flags: u32) -> Result<Option<OwnedFd>> {
    let len = u16::try_from(program.len()).map_err(|_| Error::new("seccomp", Errno::INVAL))?;
    let argument = Program {
        len,
        filter: program.as_ptr(),
    };
    // SAFETY: `argument` points to `len` instructions, which the kernel copies.
    let result = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            SET_MODE_FILTER,
            libc::c_ulong::from(flags),
            std::ptr::from_ref(&argument),
        )
    };
    if result > 0 && flags & FLAG_NEW_LISTENER != 0 {
        // SAFETY: with that flag a positive result is a new descriptor, close-on-exec, which nobody else owns.
        return Ok(Some(unsafe { OwnedFd::from_raw_fd(result as i32) }));
    }
    if result == 0 {
        Ok(None)
    } else {
        Err(Error::new("seccomp", last_errno()))
    }
}
