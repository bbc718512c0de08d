//! Namespaces: sets of kinds, unshare(2), setns(2).

use std::ops::{BitOr, BitOrAssign};
use std::os::fd::{AsFd, AsRawFd};

use crate::clone::last_errno;
use crate::{Error, Result};

/// A set of kinds of namespaces, as flags of clone3(2).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Namespaces(u64);

impl Namespaces {
    /// Clocks.
    pub const TIME: Self = Self(0x80);
    /// Mounts.
    pub const MOUNT: Self = Self(0x0002_0000);
    /// View of the cgroups.
    pub const CGROUP: Self = Self(0x0200_0000);
    /// Host name and domain name.
    pub const UTS: Self = Self(0x0400_0000);
    /// System V IPC and POSIX message queues.
    pub const IPC: Self = Self(0x0800_0000);
    /// Users and capabilities.
    pub const USER: Self = Self(0x1000_0000);
    /// Process ids.
    pub const PID: Self = Self(0x2000_0000);
    /// Network.
    pub const NETWORK: Self = Self(0x4000_0000);

    /// The empty set.
    pub const fn empty() -> Self {
        Self(0)
    }

    /// The flags.
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// Whether it has no kind.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether it has all kinds of `other`.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Without the kinds of `other`.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

impl BitOr for Namespaces {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for Namespaces {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

/// What kind of namespace `fd` is open on (ioctl_ns(2), `NS_GET_NSTYPE`).
///
/// # Errors
/// `ENOTTY` if it is no namespace.
pub fn kind_of(fd: impl AsFd) -> Result<Namespaces> {
    const NS_GET_NSTYPE: libc::c_long = 0xb703;
    // SAFETY: no memory is passed.
    let result =
        unsafe { libc::syscall(libc::SYS_ioctl, fd.as_fd().as_raw_fd(), NS_GET_NSTYPE, 0) };
    if result < 0 {
        Err(Error::new("ioctl NS_GET_NSTYPE", last_errno()))
    } else {
        Ok(Namespaces(result as u64))
    }
}

/// setns(2): joins namespaces. `fd` is a namespace (then `kinds` is its kind, or empty for any) or a pidfd (then
/// `kinds` are those of that process to join, all or none of them). A pid namespace is for children yet to be made.
///
/// # Errors
/// What setns(2) says.
pub fn join(fd: impl AsFd, kinds: Namespaces) -> Result<()> {
    // SAFETY: no memory is passed.
    let result = unsafe { libc::setns(fd.as_fd().as_raw_fd(), kinds.bits() as libc::c_int) };
    if result == 0 {
        Ok(())
    } else {
        Err(Error::new("setns", last_errno()))
    }
}

/// unshare(2): moves the caller into new namespaces.
///
/// # Errors
/// What unshare(2) says.
pub fn unshare(kinds: Namespaces) -> Result<()> {
    // SAFETY: no memory is passed; namespaces only, no CLONE_FILES or CLONE_FS that would split threads apart.
    let result = unsafe { libc::unshare(kinds.bits() as libc::c_int) };
    if result == 0 {
        Ok(())
    } else {
        Err(Error::new("unshare", last_errno()))
    }
}
