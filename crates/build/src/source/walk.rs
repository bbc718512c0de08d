//! One pass over a tree: what is there, in the order of names, without what is ignored.

use std::ffi::{CStr, OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, OFlags, Stat};

use super::{Entry, Kind, MAX_ENTRIES, SourceError, SourceRoot, Stamp};
use crate::ignore::Above;

/// Deeper than this is refused: the path would be longer than the kernel takes.
const MAX_DEPTH: usize = 2048;

/// The identity of a file's content.
#[allow(clippy::useless_conversion)] // the fields' types differ between architectures
pub fn stamp(stat: &Stat) -> Stamp {
    let ns = |seconds: i128, nanoseconds: i128| seconds * 1_000_000_000 + nanoseconds;
    Stamp {
        size: u64::try_from(stat.st_size).unwrap_or(0),
        modified_ns: ns(stat.st_mtime.into(), stat.st_mtime_nsec.into()),
        changed_ns: ns(stat.st_ctime.into(), stat.st_ctime_nsec.into()),
        inode: stat.st_ino.into(),
        device: stat.st_dev.into(),
    }
}

impl SourceRoot {
    /// The entry at `path`, its last link not followed; None if it is not there, ignored, or a socket.
    pub fn entry(&self, path: &Path) -> Result<Option<Entry>, SourceError> {
        let file = match self.open(path, OFlags::PATH | OFlags::NOFOLLOW) {
            Ok(file) => file,
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => return Ok(None),
            Err(errno) => return Err(SourceError::io("openat2", path, errno)),
        };
        let stat =
            rustix::fs::fstat(&file).map_err(|errno| SourceError::io("fstat", path, errno))?;
        self.make(path.to_owned(), &stat, || {
            rustix::fs::readlinkat(&file, c"", Vec::new())
        })
    }

    /// Everything below the directory `top`, without itself, parents before children, siblings by name.
    pub fn walk(&self, top: &Path) -> Result<Vec<Entry>, SourceError> {
        let mut found = Vec::new();
        let directory = self
            .open(top, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW)
            .map_err(|errno| SourceError::io("openat2", top, errno))?;
        let above = if self.ignore.is_empty() {
            Above::default()
        } else {
            self.ignore.above(&top.to_string_lossy())
        };
        self.walk_into(directory.as_fd(), top, &above, &mut found, 0)?;
        Ok(found)
    }

    fn walk_into(
        &self,
        directory: BorrowedFd<'_>,
        path: &Path,
        above: &Above,
        found: &mut Vec<Entry>,
        depth: usize,
    ) -> Result<(), SourceError> {
        if depth > MAX_DEPTH {
            return Err(SourceError::io(
                "open",
                path,
                rustix::io::Errno::NAMETOOLONG,
            ));
        }
        for name in names(directory).map_err(|errno| SourceError::io("getdents64", path, errno))? {
            let child = path.join(&name);
            let (ignored, matched) = self.is_ignored(&child, above);
            if ignored && !self.ignore.may_take_back_below(&child.to_string_lossy()) {
                continue;
            }
            let stat = match rustix::fs::statat(directory, &name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => stat,
                // Gone since the listing.
                Err(rustix::io::Errno::NOENT) => continue,
                Err(errno) => return Err(SourceError::io("fstatat", child, errno)),
            };
            let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
            if ignored && !is_directory {
                continue;
            }
            let index = found.len();
            let read_link = || rustix::fs::readlinkat(directory, &name, Vec::new());
            let Some(entry) = self.make(child, &stat, read_link)? else {
                continue;
            };
            if index >= MAX_ENTRIES {
                return Err(SourceError::TooMany);
            }
            let child = entry.path.clone();
            found.push(entry);
            if is_directory {
                let open = ketch_sys::fs::open_directory_at(directory, &name)
                    .map_err(|error| SourceError::io("openat", &child, error.errno))?;
                self.walk_into(open.as_fd(), &child, &matched, found, depth + 1)?;
                // An ignored directory is there only for what was taken back below it.
                if ignored && found.len() == index + 1 {
                    found.pop();
                }
            }
        }
        Ok(())
    }

    /// Whether a path is ignored, given what matched the directory it is in.
    pub(super) fn is_ignored(&self, path: &Path, above: &Above) -> (bool, Above) {
        if self.ignore.is_empty() {
            return (false, Above::default());
        }
        self.ignore.matches(&path.to_string_lossy(), above)
    }

    /// Whether a path is ignored, its parents considered; a directory that may have something left below it is not.
    pub(super) fn is_hidden(&self, path: &Path) -> bool {
        let text = path.to_string_lossy();
        !text.is_empty() && self.ignore.ignores(&text) && !self.ignore.may_take_back_below(&text)
    }

    fn make(
        &self,
        path: PathBuf,
        stat: &Stat,
        read_link: impl FnOnce() -> rustix::io::Result<std::ffi::CString>,
    ) -> Result<Option<Entry>, SourceError> {
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Kind::File,
            FileType::Directory => Kind::Directory,
            FileType::Symlink => {
                let target =
                    read_link().map_err(|errno| SourceError::io("readlinkat", &path, errno))?;
                Kind::Link(OsString::from_vec(target.into_bytes()))
            }
            FileType::Fifo => Kind::Fifo,
            FileType::CharacterDevice => Kind::Device {
                block: false,
                number: stat.st_rdev,
            },
            FileType::BlockDevice => Kind::Device {
                block: true,
                number: stat.st_rdev,
            },
            // A socket is nothing without the process behind it.
            _ => return Ok(None),
        };
        let owner = |id: u32| if self.beneath { 0 } else { id };
        Ok(Some(Entry {
            linked: stat.st_nlink > 1 && kind == Kind::File,
            kind,
            mode: stat.st_mode & 0o7777,
            uid: owner(stat.st_uid),
            gid: owner(stat.st_gid),
            stamp: stamp(stat),
            path,
        }))
    }
}

/// The names in a directory, sorted by their bytes.
pub fn names(directory: BorrowedFd<'_>) -> rustix::io::Result<Vec<OsString>> {
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(directory)? {
        let entry = entry?;
        let name: &CStr = entry.file_name();
        if name != c"." && name != c".." {
            names.push(OsStr::from_bytes(name.to_bytes()).to_owned());
        }
    }
    names.sort();
    Ok(names)
}
