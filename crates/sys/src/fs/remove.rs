//! Removing trees.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{AtFlags, FileType};
use rustix::io::Errno;

use super::{open_directory, open_directory_at, random_hex};
use crate::{Error, Result};

/// Removes `name` in `directory` with everything below it, following no link and crossing no mount (`EBUSY` there).
/// It may be missing. Another process may remove the same tree at the same time.
///
/// # Errors
/// The first failure; what could be removed is gone.
pub fn remove_tree_at(directory: BorrowedFd<'_>, name: &OsStr) -> Result<()> {
    match rustix::fs::unlinkat(directory, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(errno) => return Err(Error::on("unlinkat", name, errno)),
    }
    let top = match open_directory_at(directory, name) {
        Ok(top) => top,
        Err(Error {
            errno: Errno::NOENT,
            ..
        }) => return Ok(()),
        Err(error) => return Err(error),
    };
    empty_directory(top)?;
    match rustix::fs::unlinkat(directory, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(Error::on("unlinkat", name, errno)),
    }
}

/// Removes the tree at `path`, a path of ours; see [`remove_tree_at`].
///
/// # Errors
/// As [`remove_tree_at`].
pub fn remove_tree(path: &Path) -> Result<()> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(Error::on("unlinkat", path, Errno::INVAL));
    };
    match open_directory(parent) {
        Ok(directory) => remove_tree_at(directory.as_fd(), name).map_err(|error| Error {
            path: Some(path.into()),
            ..error
        }),
        Err(Error {
            errno: Errno::NOENT,
            ..
        }) => Ok(()),
        Err(error) => Err(error),
    }
}

/// A directory that is being emptied.
struct Level {
    directory: OwnedFd,
    /// Its name in the level above.
    name: OsString,
    /// Directories found in it.
    below: Vec<OsString>,
}

/// Removes everything in `top`, depth first. Open directories are bounded: what is deeper is moved up under the top
/// first, and its turn comes there.
fn empty_directory(top: OwnedFd) -> Result<()> {
    /// Levels kept open at once.
    const DEPTH: usize = 64;
    let below = clear_files(top.as_fd())?;
    let mut levels = vec![Level {
        directory: top,
        name: OsString::new(),
        below,
    }];
    while let Some(mut level) = levels.pop() {
        let Some(name) = level.below.pop() else {
            if let Some(above) = levels.last() {
                match rustix::fs::unlinkat(&above.directory, &*level.name, AtFlags::REMOVEDIR) {
                    Ok(()) | Err(Errno::NOENT) => {}
                    Err(errno) => return Err(Error::on("unlinkat", level.name, errno)),
                }
            }
            continue;
        };
        if levels.len() >= DEPTH {
            let moved = OsString::from(format!(".deep.{}", random_hex(8)));
            match rustix::fs::renameat(&level.directory, &*name, &levels[0].directory, &*moved) {
                Ok(()) => levels[0].below.push(moved),
                Err(Errno::NOENT) => {}
                Err(errno) => return Err(Error::on("renameat", name, errno)),
            }
            levels.push(level);
            continue;
        }
        let opened = open_directory_at(level.directory.as_fd(), &name);
        levels.push(level);
        match opened {
            Ok(directory) => {
                let below = clear_files(directory.as_fd())?;
                levels.push(Level {
                    directory,
                    name,
                    below,
                });
            }
            Err(Error {
                errno: Errno::NOENT,
                ..
            }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Removes what is not a directory in `directory`, and returns the names of the directories in it.
fn clear_files(directory: BorrowedFd<'_>) -> Result<Vec<OsString>> {
    let mut entries =
        rustix::fs::Dir::read_from(directory).map_err(|errno| Error::new("getdents64", errno))?;
    let mut below = Vec::new();
    while let Some(entry) = entries.read() {
        let entry = entry.map_err(|errno| Error::new("getdents64", errno))?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        let owned = || OsStr::from_bytes(name.to_bytes()).to_owned();
        if entry.file_type() == FileType::Directory {
            below.push(owned());
            continue;
        }
        match rustix::fs::unlinkat(directory, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            // A file system that does not tell types in its listing.
            Err(Errno::ISDIR) => below.push(owned()),
            Err(errno) => return Err(Error::on("unlinkat", owned(), errno)),
        }
    }
    Ok(below)
}
