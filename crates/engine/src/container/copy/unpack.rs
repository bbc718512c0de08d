//! A tar archive into a directory. Every name is resolved by the kernel inside the root: links in the archive, in the
//! target, or made by someone else meanwhile lead nowhere outside of it.

use std::ffi::OsStr;
use std::fs::File;
use std::io::BufRead;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use ketch_store::tar::{Entry, Kind, Reader};
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid};
use rustix::io::Errno;

use super::{join, rules, stat_at};
use crate::{Error, ErrorKind, Result};

/// Why the content of a file could not be written.
#[derive(Debug, thiserror::Error)]
enum DataError {
    /// The archive is damaged or ends.
    #[error(transparent)]
    Archive(#[from] ketch_store::tar::TarError),
    /// The file cannot be written.
    #[error("write")]
    Write(#[source] std::io::Error),
}

/// Bytes of the paths of directories whose times wait.
const MAX_PATH_BYTES: usize = 4 << 20;

/// Who owns what is unpacked.
#[derive(Debug, Clone, Copy)]
pub(super) enum Owner {
    /// Whom the archive says.
    Archive,
    /// This user and group.
    Fixed(u32, u32),
}

/// One unpacking.
pub(super) struct Unpack<'a> {
    root: BorrowedFd<'a>,
    dir: PathBuf,
    owner: Owner,
    /// Directories get their times last: what is put into them changes them.
    times: Vec<(PathBuf, Timestamps)>,
    /// Bytes of their paths.
    path_bytes: usize,
    bytes: u64,
}

impl<'a> Unpack<'a> {
    /// Into the directory `dir` inside `root`.
    pub(super) fn new(root: BorrowedFd<'a>, dir: &Path, owner: Owner) -> Self {
        let dir = rules::clean(&dir.to_string_lossy());
        Self {
            root,
            dir,
            owner,
            times: Vec::new(),
            path_bytes: 0,
            bytes: 0,
        }
    }

    /// Unpacks a whole archive and returns how many bytes of content it had.
    pub(super) fn run(mut self, reader: impl BufRead) -> Result<u64> {
        let mut reader = Reader::new(reader);
        while let Some(entry) = reader.next_entry().map_err(|error| damaged(&error))? {
            let path = self.place(&entry.path)?;
            self.entry(&mut reader, &entry, &path)?;
        }
        self.set_times(None);
        Ok(self.bytes)
    }

    /// Keeps a directory's times for later. Of many, those are set whose content has passed: an archive has what is in a
    /// directory right behind it.
    fn remember_times(&mut self, path: &Path, times: Timestamps) {
        self.path_bytes += path.as_os_str().len();
        if self.path_bytes > MAX_PATH_BYTES {
            self.set_times(Some(path));
        }
        self.times.push((path.to_owned(), times));
    }

    /// Sets the times of directories, the last one first; not of those that `inside` is in.
    fn set_times(&mut self, inside: Option<&Path>) {
        let mut kept = Vec::new();
        for (path, times) in std::mem::take(&mut self.times).into_iter().rev() {
            if inside.is_some_and(|inside| inside.starts_with(&path)) {
                kept.push((path, times));
                continue;
            }
            let flags = OFlags::RDONLY | OFlags::DIRECTORY;
            // Somebody may have removed it since.
            if let Ok(dir) = ketch_sys::fs::open_in_root(self.root, &path, flags, Mode::empty()) {
                let _ = rustix::fs::futimens(&dir, &times);
            }
        }
        kept.reverse();
        self.path_bytes = kept.iter().map(|(path, _)| path.as_os_str().len()).sum();
        self.times = kept;
    }

    /// An entry's path inside the root.
    fn place(&self, path: &[u8]) -> Result<PathBuf> {
        let text = Path::new(OsStr::from_bytes(path));
        if text
            .components()
            .any(|part| part == std::path::Component::ParentDir)
        {
            return Err(Error::new(
                ErrorKind::Invalid,
                format!(
                    "invalid archive: the entry {} leaves its directory",
                    text.display()
                ),
            ));
        }
        let inside: PathBuf = text
            .components()
            .filter(|part| matches!(part, std::path::Component::Normal(_)))
            .collect();
        Ok(join(&self.dir, &inside))
    }

    fn entry<R: BufRead>(
        &mut self,
        reader: &mut Reader<R>,
        entry: &Entry,
        path: &Path,
    ) -> Result<()> {
        let failed = |errno: Errno| failed(path, errno);
        if path == self.dir {
            // `./`: the target itself takes the attributes of the directory whose content comes.
            let dir = self.open_dir(path).map_err(failed)?;
            return self.finish_dir(&dir, entry, path).map_err(failed);
        }
        let Some(name) = path.file_name() else {
            return Ok(());
        };
        let parent = self
            .parent(path.parent().unwrap_or(Path::new("/")))
            .map_err(failed)?;
        let old = stat_at(&parent, name).ok().map(|(_, kind)| kind);
        match (old, entry.kind) {
            (Some(FileType::Directory), Kind::Directory) | (None, _) => {}
            (Some(FileType::Directory), _) => {
                return Err(overwrite("directory", path, "non-directory"));
            }
            (Some(_), Kind::Directory) => {
                return Err(overwrite("non-directory", path, "directory"));
            }
            (Some(_), _) => {
                rustix::fs::unlinkat(&parent, name, AtFlags::empty()).map_err(failed)?
            }
        }
        match entry.kind {
            Kind::Directory => {
                match rustix::fs::mkdirat(&parent, name, Mode::RWXU) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(errno) => return Err(failed(errno)),
                }
                let dir = ketch_sys::fs::open_directory_at(parent.as_fd(), name)
                    .map_err(|error| failed(error.errno))?;
                return self.finish_dir(&dir, entry, path).map_err(failed);
            }
            Kind::File => return self.file(reader, entry, &parent, name, path),
            Kind::HardLink => {
                let first = self.place(&entry.link)?;
                let (Some(dir), Some(first)) = (first.parent(), first.file_name()) else {
                    return Err(failed(Errno::INVAL));
                };
                let dir = self.parent(dir).map_err(failed)?;
                return rustix::fs::linkat(&dir, first, &parent, name, AtFlags::empty())
                    .map_err(failed);
            }
            _ => make_node(&parent, name, entry).map_err(failed)?,
        }
        self.finish_at(&parent, name, entry).map_err(failed)
    }

    fn file<R: BufRead>(
        &mut self,
        reader: &mut Reader<R>,
        entry: &Entry,
        parent: &OwnedFd,
        name: &OsStr,
        path: &Path,
    ) -> Result<()> {
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(parent, name, flags, Mode::RUSR | Mode::WUSR)
            .map_err(|e| failed(path, e))?;
        let file = File::from(file);
        reader
            .copy_data(|offset, bytes| file.write_all_at(bytes, offset).map_err(DataError::Write))
            .map_err(|error| {
                Error::caused(
                    ErrorKind::Internal,
                    format!("cannot write {}", path.display()),
                    &error,
                )
            })?;
        self.bytes = self.bytes.saturating_add(entry.size);
        let finished = file
            .set_len(entry.size)
            .map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::IO))
            .and_then(|()| {
                let (uid, gid) = self.owner_of(entry);
                rustix::fs::fchown(&file, Some(uid), Some(gid))?;
                rustix::fs::fchmod(&file, Mode::from_raw_mode(entry.mode))?;
                set_xattrs(&file, entry)?;
                rustix::fs::futimens(&file, &times(entry))
            });
        finished.map_err(|errno| failed(path, errno))
    }

    fn finish_dir(&mut self, dir: &OwnedFd, entry: &Entry, path: &Path) -> rustix::io::Result<()> {
        let (uid, gid) = self.owner_of(entry);
        rustix::fs::fchown(dir, Some(uid), Some(gid))?;
        rustix::fs::fchmod(dir, Mode::from_raw_mode(entry.mode))?;
        set_xattrs(dir, entry)?;
        self.remember_times(path, times(entry));
        Ok(())
    }

    /// Links and nodes, which are not opened.
    fn finish_at(&self, parent: &OwnedFd, name: &OsStr, entry: &Entry) -> rustix::io::Result<()> {
        let (uid, gid) = self.owner_of(entry);
        rustix::fs::chownat(
            parent,
            name,
            Some(uid),
            Some(gid),
            AtFlags::SYMLINK_NOFOLLOW,
        )?;
        if entry.kind != Kind::Symlink {
            rustix::fs::chmodat(
                parent,
                name,
                Mode::from_raw_mode(entry.mode),
                AtFlags::empty(),
            )?;
        }
        rustix::fs::utimensat(parent, name, &times(entry), AtFlags::SYMLINK_NOFOLLOW)
    }

    fn owner_of(&self, entry: &Entry) -> (Uid, Gid) {
        match self.owner {
            Owner::Archive => (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid)),
            Owner::Fixed(uid, gid) => (Uid::from_raw(uid), Gid::from_raw(gid)),
        }
    }

    fn open_dir(&self, path: &Path) -> rustix::io::Result<OwnedFd> {
        ketch_sys::fs::open_in_root(
            self.root,
            path,
            OFlags::RDONLY | OFlags::DIRECTORY,
            Mode::empty(),
        )
    }

    /// Opens the directory of an entry, making what is missing: archives need not list their directories.
    fn parent(&self, path: &Path) -> rustix::io::Result<OwnedFd> {
        match self.open_dir(path) {
            Err(Errno::NOENT) => {}
            other => return other,
        }
        let (Some(above), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(Errno::NOENT);
        };
        let above = self.parent(above)?;
        match rustix::fs::mkdirat(&above, name, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno),
        }
        self.open_dir(path)
    }
}

/// Makes a link, a fifo or a device node.
fn make_node(parent: &OwnedFd, name: &OsStr, entry: &Entry) -> rustix::io::Result<()> {
    let kind = match entry.kind {
        Kind::Symlink => {
            return rustix::fs::symlinkat(OsStr::from_bytes(&entry.link), parent, name);
        }
        Kind::CharacterDevice => FileType::CharacterDevice,
        Kind::BlockDevice => FileType::BlockDevice,
        _ => FileType::Fifo,
    };
    let device = rustix::fs::makedev(entry.major, entry.minor);
    rustix::fs::mknodat(parent, name, kind, Mode::RUSR | Mode::WUSR, device)
}

/// Sets the attributes that are the archive's to say. One that the file system cannot keep is left out, as by Docker.
fn set_xattrs(file: impl AsFd, entry: &Entry) -> rustix::io::Result<()> {
    let flags = rustix::fs::XattrFlags::empty();
    for (key, value) in entry.xattrs.iter().filter(|(key, _)| super::is_taken(key)) {
        match rustix::fs::fsetxattr(&file, key.as_slice(), value, flags) {
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::PERM) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

fn times(entry: &Entry) -> Timestamps {
    let time = Timespec {
        tv_sec: entry.mtime.seconds,
        tv_nsec: entry.mtime.nanoseconds.into(),
    };
    Timestamps {
        last_access: time,
        last_modification: time,
    }
}

fn overwrite(old: &str, path: &Path, new: &str) -> Error {
    Error::new(
        ErrorKind::Invalid,
        format!(
            "cannot overwrite {old} {:?} with {new}",
            path.display().to_string()
        ),
    )
}

fn damaged(error: &(dyn std::error::Error + 'static)) -> Error {
    Error::caused(ErrorKind::Invalid, "invalid archive", error)
}

fn failed(path: &Path, errno: Errno) -> Error {
    let kind = match errno {
        Errno::ROFS => ErrorKind::Invalid,
        Errno::NOENT | Errno::NOTDIR => ErrorKind::NotFound,
        _ => ErrorKind::Internal,
    };
    Error::caused(kind, format!("cannot write {}", path.display()), &errno)
}
