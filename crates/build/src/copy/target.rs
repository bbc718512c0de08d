//! Where files are written: directories of a stage's root, found and made without ever leaving it.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;

use super::CopyError;

/// Links followed in one name, at most.
const MAX_LINKS: usize = 40;

/// Owner and group.
pub type Owner = (u32, u32);

/// A directory, and whether it was made just now.
pub struct Made {
    /// The directory, open for reading.
    pub directory: OwnedFd,
    /// Whether it was not there before.
    pub created: bool,
}

/// Opens the directory at `path` inside `root`; None if nothing or something else is there.
pub fn existing_directory(root: BorrowedFd<'_>, path: &Path) -> Result<Option<OwnedFd>, CopyError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    match ketch_sys::fs::open_in_root(root, path, flags, Mode::empty()) {
        Ok(directory) => Ok(Some(directory)),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(errno) => Err(CopyError::target("openat2", path, errno)),
    }
}

/// Opens the directory at the absolute `path` inside `root` and makes what is missing, mode 0755, owned by `owner`.
/// Links are followed inside the root, those that lead to nothing too.
pub fn make_directories(
    root: BorrowedFd<'_>,
    path: &Path,
    owner: Owner,
) -> Result<Made, CopyError> {
    let mut links = 0;
    make(root, path, owner, &mut links)
}

fn make(
    root: BorrowedFd<'_>,
    path: &Path,
    owner: Owner,
    links: &mut usize,
) -> Result<Made, CopyError> {
    if let Some(directory) = existing_directory(root, path)? {
        return Ok(Made {
            directory,
            created: false,
        });
    }
    let (Some(parent_path), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(CopyError::target("openat2", path, Errno::NOENT));
    };
    let parent = make(root, parent_path, owner, links)?.directory;
    match rustix::fs::mkdirat(&parent, name, Mode::from_raw_mode(0o755)) {
        Ok(()) => {
            let directory = ketch_sys::fs::open_directory_at(parent.as_fd(), name)
                .map_err(|error| CopyError::target("openat", path, error.errno))?;
            // The caller's umask is not the image's.
            rustix::fs::fchmod(&directory, Mode::from_raw_mode(0o755))
                .map_err(|errno| CopyError::target("fchmod", path, errno))?;
            change_owner(&directory, owner)
                .map_err(|errno| CopyError::target("fchown", path, errno))?;
            Ok(Made {
                directory,
                created: true,
            })
        }
        Err(Errno::EXIST) => match link_target(parent.as_fd(), name, parent_path)? {
            Some(target) if *links < MAX_LINKS => {
                *links += 1;
                make(root, &target, owner, links)
            }
            Some(_) => Err(CopyError::target("openat2", path, Errno::LOOP)),
            None => Err(CopyError::NotDirectory {
                path: path.to_owned(),
            }),
        },
        Err(errno) => Err(CopyError::target("mkdirat", path, errno)),
    }
}

/// Where the file at the absolute `path` goes: its directory, made if missing, and its name there; a link in its place
/// is followed, so that the file replaces what the link means.
pub fn file_place(
    root: BorrowedFd<'_>,
    path: &Path,
    owner: Owner,
) -> Result<(OwnedFd, OsString), CopyError> {
    let mut path = path.to_owned();
    for _ in 0..MAX_LINKS {
        let (Some(parent_path), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(CopyError::NotFile { path });
        };
        let parent = make_directories(root, parent_path, owner)?.directory;
        match link_target(parent.as_fd(), name, parent_path)? {
            Some(target) => path = target,
            None => return Ok((parent, name.to_owned())),
        }
    }
    Err(CopyError::target("openat2", path, Errno::LOOP))
}

/// The target of the link `name` as a path from the root, `..` resolved as text; None if it is no link or not there.
fn link_target(
    directory: BorrowedFd<'_>,
    name: &OsStr,
    parent: &Path,
) -> Result<Option<PathBuf>, CopyError> {
    let target = match rustix::fs::readlinkat(directory, name, Vec::new()) {
        Ok(target) => PathBuf::from(OsString::from_vec(target.into_bytes())),
        Err(Errno::INVAL | Errno::NOENT) => return Ok(None),
        Err(errno) => return Err(CopyError::target("readlinkat", parent.join(name), errno)),
    };
    let mut path = PathBuf::from("/");
    for component in parent.join(target).components() {
        match component {
            Component::Normal(part) => path.push(part),
            Component::ParentDir => {
                path.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    Ok(Some(path))
}

/// Takes a file, link or device out of the way; a directory stays and is an error.
pub fn clear(directory: BorrowedFd<'_>, name: &OsStr, path: &Path) -> Result<(), CopyError> {
    match rustix::fs::unlinkat(directory, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(Errno::ISDIR) => Err(CopyError::IsDirectory {
            path: path.to_owned(),
        }),
        Err(errno) => Err(CopyError::target("unlinkat", path, errno)),
    }
}

/// Opens or makes the directory `name`, following no link.
pub fn enter(directory: BorrowedFd<'_>, name: &OsStr, path: &Path) -> Result<Made, CopyError> {
    let created = match rustix::fs::mkdirat(directory, name, Mode::from_raw_mode(0o700)) {
        Ok(()) => true,
        Err(Errno::EXIST) => {
            let stat = rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)
                .map_err(|errno| CopyError::target("fstatat", path, errno))?;
            if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
                return Err(CopyError::NotDirectory {
                    path: path.to_owned(),
                });
            }
            false
        }
        Err(errno) => return Err(CopyError::target("mkdirat", path, errno)),
    };
    let directory = ketch_sys::fs::open_directory_at(directory, name)
        .map_err(|error| CopyError::target("openat", path, error.errno))?;
    Ok(Made { directory, created })
}

/// fchown(2).
pub fn change_owner(file: impl AsFd, owner: Owner) -> rustix::io::Result<()> {
    rustix::fs::fchown(
        file,
        Some(Uid::from_raw(owner.0)),
        Some(Gid::from_raw(owner.1)),
    )
}
