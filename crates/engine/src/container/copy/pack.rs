//! A tree as a tar archive, entered name by name without following links.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;

use ketch_store::tar::{Entry, Kind, Time, Writer};
use rustix::fs::{FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::rules::Source;
use super::stat_at;
use crate::{Error, ErrorKind, Result};

/// How deep a tree may be; each level holds a descriptor.
const MAX_DEPTH: usize = 200;

/// Writes an archive of `source` whose entries begin with `name`.
pub(super) fn pack(source: &Source, name: &str, writer: impl Write) -> Result<()> {
    let mut pack = Pack {
        writer: Writer::new(writer),
        links: HashMap::new(),
    };
    pack.entry(source.dir.as_fd(), &source.entry, name.as_bytes(), 0)?;
    pack.writer
        .finish()
        .map_err(|error| failed(name.as_bytes(), &error))?;
    Ok(())
}

struct Pack<W> {
    writer: Writer<W>,
    /// Files with several names: device and inode to the path in the archive.
    links: HashMap<(u64, u64), Vec<u8>>,
}

impl<W: Write> Pack<W> {
    fn entry(
        &mut self,
        dir: BorrowedFd<'_>,
        name: &OsStr,
        path: &[u8],
        depth: usize,
    ) -> Result<()> {
        if depth > MAX_DEPTH {
            return Err(failed(path, &Errno::NAMETOOLONG));
        }
        let (stat, kind) = match stat_at(dir, name) {
            Ok(found) => found,
            // A running container removes files while we read.
            Err(Errno::NOENT) if depth > 0 => return Ok(()),
            Err(errno) => return Err(failed(path, &errno)),
        };
        match kind {
            FileType::Directory => return self.directory(dir, name, path, &stat, depth),
            FileType::Socket | FileType::Unknown => return Ok(()),
            _ => {}
        }
        let mut entry = entry(kind, path, &stat);
        entry.xattrs = attributes(dir, name, path)?;
        let identity = (stat.st_dev, stat.st_ino);
        if stat.st_nlink > 1 {
            if let Some(first) = self.links.get(&identity) {
                entry.kind = Kind::HardLink;
                entry.link.clone_from(first);
                entry.size = 0;
                entry.xattrs.clear();
                return self
                    .writer
                    .append(&entry)
                    .map_err(|error| failed(path, &error));
            }
            self.links.insert(identity, path.to_owned());
        }
        if kind == FileType::Symlink {
            let text = rustix::fs::readlinkat(dir, name, Vec::new())
                .map_err(|errno| failed(path, &errno))?;
            entry.link = text.into_bytes();
        }
        if kind != FileType::RegularFile {
            return self
                .writer
                .append(&entry)
                .map_err(|error| failed(path, &error));
        }
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        match rustix::fs::openat(dir, name, flags, Mode::empty()) {
            Ok(file) => self
                .writer
                .append_file(&entry, File::from(file))
                .map_err(|error| failed(path, &error)),
            Err(Errno::NOENT) if depth > 0 => Ok(()),
            Err(errno) => Err(failed(path, &errno)),
        }
    }

    fn directory(
        &mut self,
        dir: BorrowedFd<'_>,
        name: &OsStr,
        path: &[u8],
        stat: &Stat,
        depth: usize,
    ) -> Result<()> {
        let opened =
            ketch_sys::fs::open_directory_at(dir, name).map_err(|error| failed(path, &error))?;
        let mut entry = entry(FileType::Directory, path, stat);
        entry.xattrs = attributes(dir, name, path)?;
        self.writer
            .append(&entry)
            .map_err(|error| failed(path, &error))?;
        let mut names = Vec::new();
        for found in rustix::fs::Dir::read_from(&opened).map_err(|errno| failed(path, &errno))? {
            let found = found.map_err(|errno| failed(path, &errno))?;
            let name = found.file_name().to_bytes();
            if name != b"." && name != b".." {
                names.push(OsStr::from_bytes(name).to_owned());
            }
        }
        names.sort();
        for name in names {
            let below = [path, b"/", name.as_bytes()].concat();
            self.entry(opened.as_fd(), &name, &below, depth + 1)?;
        }
        Ok(())
    }
}

fn entry(kind: FileType, path: &[u8], stat: &Stat) -> Entry {
    let (kind, mut path) = match kind {
        FileType::Directory => (Kind::Directory, path.to_owned()),
        FileType::Symlink => (Kind::Symlink, path.to_owned()),
        FileType::Fifo => (Kind::Fifo, path.to_owned()),
        FileType::CharacterDevice => (Kind::CharacterDevice, path.to_owned()),
        FileType::BlockDevice => (Kind::BlockDevice, path.to_owned()),
        _ => (Kind::File, path.to_owned()),
    };
    if kind == Kind::Directory && !path.ends_with(b"/") {
        path.push(b'/');
    }
    let mut entry = Entry::new(kind, path);
    entry.mode = stat.st_mode & 0o7777;
    entry.uid = stat.st_uid;
    entry.gid = stat.st_gid;
    entry.mtime = Time {
        seconds: stat.st_mtime,
        nanoseconds: u32::try_from(stat.st_mtime_nsec).unwrap_or(0),
    };
    if kind == Kind::File {
        entry.size = u64::try_from(stat.st_size).unwrap_or(0);
    }
    if matches!(kind, Kind::CharacterDevice | Kind::BlockDevice) {
        entry.major = rustix::fs::major(stat.st_rdev);
        entry.minor = rustix::fs::minor(stat.st_rdev);
    }
    entry
}

fn attributes(dir: BorrowedFd<'_>, name: &OsStr, path: &[u8]) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let found = match ketch_sys::fs::xattrs_at(dir, name) {
        Ok(found) => found,
        Err(Errno::NOENT) => Vec::new(),
        Err(errno) => return Err(failed(path, &errno)),
    };
    Ok(found
        .into_iter()
        .map(|(key, value)| (key.into_bytes(), value))
        .filter(|(key, _)| super::is_taken(key))
        .collect())
}

fn failed(path: &[u8], error: &(dyn std::error::Error + 'static)) -> Error {
    Error::caused(
        ErrorKind::Internal,
        format!("cannot read {}", String::from_utf8_lossy(path)),
        error,
    )
}
