//! A name in a directory, and what is done with it.

use std::ffi::OsStr;
use std::os::fd::BorrowedFd;

use ketch_sys as sys;
use rustix::fs::{AtFlags, FileType, Mode, Timespec, Timestamps, UTIME_OMIT};
use rustix::io::Errno;

use crate::tar::{Entry, TarError, Time};
use crate::tree::OPAQUE_XATTR;

/// An entry's place.
pub(super) struct At<'a> {
    pub directory: BorrowedFd<'a>,
    pub name: &'a OsStr,
    pub entry: &'a Entry,
}

impl At<'_> {
    pub fn failed(&self, call: &'static str, errno: Errno) -> TarError {
        failed(self.entry, sys::Error::new(call, errno))
    }
}

pub(super) fn failed(entry: &Entry, source: sys::Error) -> TarError {
    TarError::Extract {
        entry: entry.shown(),
        source,
    }
}

/// Type, and whether it is a whiteout.
pub(super) fn stat(at: &At<'_>) -> Result<(FileType, bool), TarError> {
    let stat = rustix::fs::statat(at.directory, at.name, AtFlags::SYMLINK_NOFOLLOW)
        .map_err(|e| at.failed("fstatat", e))?;
    let file_type = FileType::from_raw_mode(stat.st_mode);
    Ok((
        file_type,
        file_type == FileType::CharacterDevice && stat.st_rdev == 0,
    ))
}

pub(super) fn is_whiteout(directory: BorrowedFd<'_>, name: &OsStr) -> bool {
    rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW).is_ok_and(|stat| {
        FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
    })
}

pub(super) fn set_opaque(directory: BorrowedFd<'_>, name: &OsStr) -> sys::Result<()> {
    sys::fs::set_xattr_at(directory, name, OPAQUE_XATTR, b"y")
        .map_err(|errno| sys::Error::new("lsetxattr", errno))
}

pub(super) fn mkdir(directory: BorrowedFd<'_>, name: &OsStr) -> sys::Result<()> {
    rustix::fs::mkdirat(directory, name, Mode::from(0o755))
        .map_err(|errno| sys::Error::new("mkdirat", errno))
}

pub(super) fn unlink(directory: BorrowedFd<'_>, name: &OsStr) -> sys::Result<()> {
    rustix::fs::unlinkat(directory, name, AtFlags::empty())
        .map_err(|errno| sys::Error::new("unlinkat", errno))
}

/// The access time stays as it is.
pub(super) fn timestamps(time: Time) -> Timestamps {
    Timestamps {
        last_access: Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_OMIT,
        },
        last_modification: Timespec {
            tv_sec: time.seconds,
            tv_nsec: time.nanoseconds.into(),
        },
    }
}
