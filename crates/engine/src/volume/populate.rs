//! An empty volume takes over what the image has at its mount point: content, owners, modes, times, attributes.
//!
//! The leaf lock is held for the length of the copy, so that a second container that mounts the volume waits until it
//! is whole. A copy that was cut short is known by the record's `populating`, thrown away and made again.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, Dir, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid};
use rustix::io::Errno;

use super::{VolumeRecord, read, users};
use crate::record::{self, Durability};
use crate::{Engine, Error, ErrorKind, Result};

/// How deep a tree is copied; each level holds two descriptors.
const MAX_DEPTH: usize = 200;

/// Copies what `root` has at `target` into the volume, if the volume is empty. `root` is the container's mounted root.
///
/// # Errors
/// `NotFound` for a volume that is not there; input and output (the next mount then copies again).
pub fn populate(engine: &Engine, name: &str, root: BorrowedFd<'_>, target: &Path) -> Result<()> {
    let record = read(engine, name)?;
    if record.options.contains_key("device") {
        return Ok(());
    }
    let data = open_data(engine, name)?;
    // Nearly always there is something, and then no lock is needed to see that there is nothing to do.
    if !record.populating && !is_empty(data.as_fd(), name)? {
        return Ok(());
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    let source = match ketch_sys::fs::open_in_root(root, target, flags, Mode::empty()) {
        Ok(source) => source,
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(()),
        Err(errno) => return Err(failed("open", name, errno)),
    };
    let _lock = users::lock(engine, name)?;
    let mut record = read(engine, name)?;
    if record.populating {
        empty(data.as_fd(), name)?;
    } else if !is_empty(data.as_fd(), name)? {
        return Ok(());
    }
    if is_empty(source.as_fd(), name)? {
        return copy_attributes(source.as_fd(), data.as_fd())
            .map_err(|errno| failed("copy to", name, errno));
    }
    mark(engine, &mut record, true)?;
    let mut copy = Copy {
        links: HashMap::new(),
    };
    copy.directory(source.as_fd(), data.as_fd(), 0)
        .map_err(|errno| failed("copy to", name, errno))?;
    mark(engine, &mut record, false)
}

fn mark(engine: &Engine, record: &mut VolumeRecord, populating: bool) -> Result<()> {
    record.populating = populating;
    // A power cut may lose the content that was copied as well as this mark; the files' own writes are not synced.
    Ok(record::write(
        &engine.paths().volume_record(&record.name),
        record,
        Durability::Volatile,
    )?)
}

fn open_data(engine: &Engine, name: &str) -> Result<OwnedFd> {
    let path = engine.paths().volume_data(name);
    ketch_sys::fs::open_directory(&path).map_err(|error| {
        Error::caused(
            ErrorKind::Internal,
            format!("cannot open volume {name}"),
            &error,
        )
    })
}

fn is_empty(dir: BorrowedFd<'_>, name: &str) -> Result<bool> {
    Ok(entries(dir)
        .map_err(|errno| failed("read", name, errno))?
        .is_empty())
}

fn empty(dir: BorrowedFd<'_>, name: &str) -> Result<()> {
    for entry in entries(dir).map_err(|errno| failed("read", name, errno))? {
        ketch_sys::fs::remove_tree_at(dir, &entry).map_err(|error| {
            Error::caused(
                ErrorKind::Internal,
                format!("cannot empty volume {name}"),
                &error,
            )
        })?;
    }
    Ok(())
}

/// Names in a directory, sorted.
fn entries(dir: BorrowedFd<'_>) -> rustix::io::Result<Vec<OsString>> {
    use std::os::unix::ffi::OsStrExt;
    let mut names = Vec::new();
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(OsStr::from_bytes(name).to_owned());
        }
    }
    names.sort();
    Ok(names)
}

/// One copy of a tree. Both trees are opened name by name without following links.
struct Copy {
    /// Files with several names: device and inode of the source to where the first copy is.
    links: HashMap<(u64, u64), (OwnedFd, OsString)>,
}

impl Copy {
    fn directory(
        &mut self,
        from: BorrowedFd<'_>,
        to: BorrowedFd<'_>,
        depth: usize,
    ) -> rustix::io::Result<()> {
        if depth > MAX_DEPTH {
            return Err(Errno::NAMETOOLONG);
        }
        for name in entries(from)? {
            let stat = rustix::fs::statat(from, &name, AtFlags::SYMLINK_NOFOLLOW)?;
            self.entry(from, to, &name, &stat, depth)?;
        }
        copy_attributes(from, to)
    }

    fn entry(
        &mut self,
        from: BorrowedFd<'_>,
        to: BorrowedFd<'_>,
        name: &OsStr,
        stat: &Stat,
        depth: usize,
    ) -> rustix::io::Result<()> {
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind == FileType::Directory {
            rustix::fs::mkdirat(to, name, Mode::RWXU)?;
            let open = |dir| {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                rustix::fs::openat(dir, name, flags, Mode::empty())
            };
            let (from, to) = (open(from)?, open(to)?);
            return self.directory(from.as_fd(), to.as_fd(), depth + 1);
        }
        let key = (stat.st_dev, stat.st_ino);
        if stat.st_nlink > 1 {
            if let Some((dir, first)) = self.links.get(&key) {
                return rustix::fs::linkat(dir, first, to, name, AtFlags::empty());
            }
            self.links.insert(
                key,
                (rustix::io::fcntl_dupfd_cloexec(to, 3)?, name.to_owned()),
            );
        }
        match kind {
            FileType::RegularFile => return copy_file(from, to, name, stat),
            FileType::Symlink => {
                let text = rustix::fs::readlinkat(from, name, Vec::new())?;
                rustix::fs::symlinkat(text, to, name)?;
            }
            // An overlay shows no whiteouts; nodes, fifos and sockets are made anew.
            _ => rustix::fs::mknodat(
                to,
                name,
                kind,
                Mode::from_raw_mode(stat.st_mode),
                stat.st_rdev,
            )?,
        }
        set_attributes_at(from, to, name, stat)
    }
}

fn copy_file(
    from: BorrowedFd<'_>,
    to: BorrowedFd<'_>,
    name: &OsStr,
    stat: &Stat,
) -> rustix::io::Result<()> {
    let read = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let write = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let source = rustix::fs::openat(from, name, read, Mode::empty())?;
    let target = rustix::fs::openat(to, name, write, Mode::RUSR | Mode::WUSR)?;
    let length = u64::try_from(stat.st_size).unwrap_or(0);
    ketch_sys::fs::copy_file(source.as_fd(), target.as_fd(), length)
        .map_err(|error| error.errno)?;
    copy_attributes(source.as_fd(), target.as_fd())
}

/// Owner, mode, extended attributes and times of an open file or directory. The owner first: chown clears bits.
fn copy_attributes(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> rustix::io::Result<()> {
    let stat = rustix::fs::fstat(from)?;
    rustix::fs::fchown(
        to,
        Some(Uid::from_raw(stat.st_uid)),
        Some(Gid::from_raw(stat.st_gid)),
    )?;
    rustix::fs::fchmod(to, Mode::from_raw_mode(stat.st_mode))?;
    for (key, value) in ketch_sys::fs::xattrs_at(from, OsStr::new(".")).or_else(|errno| {
        if errno == Errno::NOTDIR {
            own_xattrs(from)
        } else {
            Err(errno)
        }
    })? {
        if !key.as_bytes().starts_with(b"trusted.overlay.") {
            rustix::fs::fsetxattr(to, &*key, &value, rustix::fs::XattrFlags::empty())?;
        }
    }
    rustix::fs::futimens(to, &times(&stat))
}

/// Extended attributes of an open file that is no directory.
fn own_xattrs(file: BorrowedFd<'_>) -> rustix::io::Result<Vec<(std::ffi::CString, Vec<u8>)>> {
    let mut list = vec![0u8; 64 << 10];
    let length = match rustix::fs::flistxattr(file, &mut list) {
        Ok(length) => length,
        Err(Errno::OPNOTSUPP) => 0,
        Err(errno) => return Err(errno),
    };
    let mut found = Vec::new();
    for key in list[..length]
        .split(|&byte| byte == 0)
        .filter(|key| !key.is_empty())
    {
        let Ok(key) = std::ffi::CString::new(key) else {
            continue;
        };
        let mut value = vec![0u8; 64 << 10];
        match rustix::fs::fgetxattr(file, &*key, &mut value) {
            Ok(length) => {
                value.truncate(length);
                found.push((key, value));
            }
            Err(Errno::NODATA | Errno::PERM | Errno::ACCESS) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(found)
}

/// The same for links and nodes, which cannot be opened.
fn set_attributes_at(
    from: BorrowedFd<'_>,
    to: BorrowedFd<'_>,
    name: &OsStr,
    stat: &Stat,
) -> rustix::io::Result<()> {
    let owner = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    rustix::fs::chownat(
        to,
        name,
        Some(owner.0),
        Some(owner.1),
        AtFlags::SYMLINK_NOFOLLOW,
    )?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
        rustix::fs::chmodat(
            to,
            name,
            Mode::from_raw_mode(stat.st_mode),
            AtFlags::empty(),
        )?;
    }
    for (key, value) in ketch_sys::fs::xattrs_at(from, name)? {
        if !key.as_bytes().starts_with(b"trusted.overlay.") {
            ketch_sys::fs::set_xattr_at(to, name, &key, &value)?;
        }
    }
    rustix::fs::utimensat(to, name, &times(stat), AtFlags::SYMLINK_NOFOLLOW)
}

fn times(stat: &Stat) -> Timestamps {
    let time = |seconds: i64, nanoseconds: i64| Timespec {
        tv_sec: seconds,
        tv_nsec: nanoseconds,
    };
    Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec as i64),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec as i64),
    }
}

fn failed(call: &str, name: &str, errno: Errno) -> Error {
    Error::caused(ErrorKind::Internal, format!("{call} volume {name}"), &errno)
}
