//! Mount points: files and directories that a container's mounts need are made in its writable layer, and are no change
//! that anybody made.

use std::collections::BTreeSet;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::config::ContainerConfig;
use crate::{Error, ErrorKind, Result};

/// What every container has mounted.
pub const ALWAYS_MOUNTED: [&str; 6] = [
    "/dev",
    "/proc",
    "/sys",
    "/etc/hosts",
    "/etc/hostname",
    "/etc/resolv.conf",
];

/// The paths, relative, of the mount points in `upper` that `lower`, the image, does not have and that are empty, and of
/// directories above them that have nothing else.
pub(super) fn mount_points(
    config: &ContainerConfig,
    lower: BorrowedFd<'_>,
    upper: BorrowedFd<'_>,
) -> Result<BTreeSet<Vec<u8>>> {
    let targets = config.mounts.iter().map(|mount| mount.target.as_str());
    let mut candidates = BTreeSet::new();
    for target in ALWAYS_MOUNTED.into_iter().chain(targets) {
        for path in Path::new(target.trim_start_matches('/')).ancestors() {
            if !path.as_os_str().is_empty() {
                candidates.insert(path.as_os_str().as_bytes().to_vec());
            }
        }
    }
    let mut found = BTreeSet::new();
    // The deepest first: a directory is empty if what is in it is left out.
    for path in candidates.into_iter().rev() {
        if stat_beneath(lower, &path)?.is_some() {
            continue;
        }
        if is_empty(upper, &path, &found)? {
            found.insert(path);
        }
    }
    Ok(found)
}

fn is_empty(root: BorrowedFd<'_>, path: &[u8], left_out: &BTreeSet<Vec<u8>>) -> Result<bool> {
    let Some(stat) = stat_beneath(root, path)? else {
        return Ok(false);
    };
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Ok(stat.st_size == 0),
        FileType::Directory => {
            let names = names_beneath(root, path)?.unwrap_or_default();
            let below = |name: &Vec<u8>| left_out.contains(&join(path, name));
            Ok(names.iter().all(below))
        }
        _ => Ok(false),
    }
}

/// What stat(2) tells of a path in a tree, no link followed on the way; None if it is not there.
pub(super) fn stat_beneath(root: BorrowedFd<'_>, path: &[u8]) -> Result<Option<Stat>> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW;
    match open_beneath(root, path, flags)? {
        Some(file) => rustix::fs::fstat(&file)
            .map(Some)
            .map_err(|errno| failed("fstat", path, errno)),
        None => Ok(None),
    }
}

/// The names in a directory of a tree, sorted; None if there is none.
pub(super) fn names_beneath(root: BorrowedFd<'_>, path: &[u8]) -> Result<Option<Vec<Vec<u8>>>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
    let Some(directory) = open_beneath(root, path, flags)? else {
        return Ok(None);
    };
    let refused = |errno| failed("getdents64", path, errno);
    let mut names = Vec::new();
    for entry in Dir::new(directory).map_err(refused)? {
        let entry = entry.map_err(refused)?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(name.to_vec());
        }
    }
    names.sort_unstable();
    Ok(Some(names))
}

/// Opens a path in a tree that may change meanwhile; None if it is not there.
pub(super) fn open_beneath(
    root: BorrowedFd<'_>,
    path: &[u8],
    flags: OFlags,
) -> Result<Option<std::os::fd::OwnedFd>> {
    use rustix::fs::ResolveFlags;
    let name: &[u8] = if path.is_empty() { b"." } else { path };
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    loop {
        match rustix::fs::openat2(root, name, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            Ok(file) => return Ok(Some(file)),
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
            // With NOFOLLOW a link at the end is what is wanted; one on the way is not the tree's directory.
            Err(Errno::LOOP) => return open_link(root, path, flags),
            Err(Errno::INTR | Errno::AGAIN) => {}
            Err(errno) => return Err(failed("openat2", path, errno)),
        }
    }
}

/// A link at the end of a path: `RESOLVE_NO_SYMLINKS` refuses that too.
fn open_link(
    root: BorrowedFd<'_>,
    path: &[u8],
    flags: OFlags,
) -> Result<Option<std::os::fd::OwnedFd>> {
    if !flags.contains(OFlags::PATH) {
        return Ok(None);
    }
    let (parent, name) = match path.iter().rposition(|byte| *byte == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (&b""[..], path),
    };
    let flags_of_parent = OFlags::PATH | OFlags::DIRECTORY;
    // One component less each time, so this ends.
    let Some(parent) = (match parent.is_empty() {
        true => open_beneath(root, b"", flags_of_parent)?,
        false => open_beneath(root, parent, flags_of_parent)?,
    }) else {
        return Ok(None);
    };
    if rustix::fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW)
        .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) != FileType::Symlink)
    {
        return Ok(None);
    }
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match rustix::fs::openat(&parent, name, flags, Mode::empty()) {
        Ok(link) => Ok(Some(link)),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(errno) => Err(failed("openat", path, errno)),
    }
}

pub(super) fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    match directory.is_empty() {
        true => name.to_vec(),
        false => [directory, b"/", name].concat(),
    }
}

pub(super) fn failed(call: &str, path: &[u8], errno: Errno) -> Error {
    let path = String::from_utf8_lossy(path).into_owned();
    Error::caused(
        ErrorKind::Internal,
        format!("cannot look at the container's files: {call} /{path}"),
        &errno,
    )
}
