//! Extended attributes by directory and name.

use std::ffi::{CStr, CString, OsStr};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::PathBuf;

use rustix::fs::XattrFlags;
use rustix::io::Errno;

/// The path by which calls that take no directory descriptor reach `name` in `directory` without following any link of
/// the tree: `/proc/self/fd/<n>/<name>`.
pub fn path_at(directory: BorrowedFd<'_>, name: &OsStr) -> PathBuf {
    let mut path = PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd()));
    path.push(name);
    path
}

/// Sets an extended attribute of `name` in `directory`, of the link itself if it is one.
///
/// # Errors
/// The kernel's.
pub fn set_xattr_at(
    directory: BorrowedFd<'_>,
    name: &OsStr,
    key: &CStr,
    value: &[u8],
) -> rustix::io::Result<()> {
    rustix::fs::lsetxattr(path_at(directory, name), key, value, XattrFlags::empty())
}

/// Removes an extended attribute of `name` in `directory`; it may be missing.
///
/// # Errors
/// The kernel's.
pub fn remove_xattr_at(
    directory: BorrowedFd<'_>,
    name: &OsStr,
    key: &CStr,
) -> rustix::io::Result<()> {
    match rustix::fs::lremovexattr(path_at(directory, name), key) {
        Err(Errno::NODATA) => Ok(()),
        other => other,
    }
}

/// The extended attributes of `name` in `directory` (of the link itself if it is one), sorted by key. Empty where the
/// file system has none.
///
/// # Errors
/// The kernel's.
pub fn xattrs_at(
    directory: BorrowedFd<'_>,
    name: &OsStr,
) -> rustix::io::Result<Vec<(CString, Vec<u8>)>> {
    let path = path_at(directory, name);
    let keys = match fill(|buffer| rustix::fs::llistxattr(&path, buffer)) {
        Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
        other => other?,
    };
    let mut found = Vec::new();
    for key in keys.split(|byte| *byte == 0).filter(|key| !key.is_empty()) {
        let Ok(key) = CString::new(key) else { continue };
        match fill(|buffer| rustix::fs::lgetxattr(&path, &*key, buffer)) {
            Ok(value) => found.push((key, value)),
            // Gone since the listing, or listed though not for us to read.
            Err(Errno::NODATA | Errno::PERM | Errno::ACCESS) => {}
            Err(errno) => return Err(errno),
        }
    }
    found.sort();
    Ok(found)
}

/// Calls with a growing buffer until the value fits; the kernel's own limit is 64 KiB.
fn fill(
    mut call: impl FnMut(&mut [u8]) -> rustix::io::Result<usize>,
) -> rustix::io::Result<Vec<u8>> {
    let mut buffer = vec![0u8; 256];
    loop {
        match call(&mut buffer) {
            Ok(length) => {
                buffer.truncate(length);
                return Ok(buffer);
            }
            Err(Errno::RANGE) if buffer.len() < 1 << 20 => buffer.resize(buffer.len() * 4, 0),
            Err(errno) => return Err(errno),
        }
    }
}
