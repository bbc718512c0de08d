//! Tree to archive.

use std::collections::{BTreeSet, HashMap};
use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use ketch_spec::Digest;
use ketch_sys as sys;
use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat, Timespec, Timestamps, UTIME_OMIT,
};
use rustix::io::Errno;
use sha2::{Digest as _, Sha256};

use super::attributes::is_taken;
use super::path::as_path;
use super::{OPAQUE, OPAQUE_XATTR, Totals, WHITEOUT_PREFIX};
use crate::tar::{Entry, Kind, TarError, Time, Writer, shown};
use crate::{Error, Result};

/// What the archive is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// The directory stays what it is and may change meanwhile (a container's writable layer): what disappears while it
    /// is read is left out.
    Export,
    /// The directory becomes the layer that the archive describes: it is made equal to what the archive says, by cutting
    /// times to seconds and taking overlayfs's own attributes off.
    Finish,
    /// As `Export`, of a merged root file system: there are no whiteouts, a device 0:0 is a device.
    Root,
}

/// Writes an overlay's upper directory as a layer archive: entries sorted by name, a directory before what is in it,
/// whiteouts in their archive form, later names of a file as hard links, times in whole seconds (as Docker's archives
/// have them), no sockets. The same tree gives the same bytes. Returns the archive's digest.
///
/// # Errors
/// The tree cannot be read, the archive cannot be written.
pub fn archive(
    root: BorrowedFd<'_>,
    target: impl Write,
    purpose: Purpose,
) -> Result<(Digest, Totals)> {
    archive_without(root, target, purpose, &BTreeSet::new())
}

/// As [`archive`], without what is at the paths `left_out` (relative, no `.` in them), and what is below those.
///
/// # Errors
/// As [`archive`].
pub fn archive_without(
    root: BorrowedFd<'_>,
    target: impl Write,
    purpose: Purpose,
    left_out: &BTreeSet<Vec<u8>>,
) -> Result<(Digest, Totals)> {
    let target = Hashing {
        target: std::io::BufWriter::with_capacity(1 << 17, target),
        hash: Sha256::new(),
    };
    let mut archiver = Archiver {
        root,
        writer: Writer::new(target),
        purpose,
        left_out,
        links: HashMap::new(),
        totals: Totals::default(),
    };
    archiver.root_entry()?;
    archiver.walk()?;
    let Archiver {
        writer, mut totals, ..
    } = archiver;
    let (hashing, bytes) = writer.finish()?;
    totals.archive_bytes = bytes;
    Ok((Digest::from_sha256(hashing.hash.finalize().into()), totals))
}

/// Hashes what passes.
struct Hashing<W> {
    target: W,
    hash: Sha256,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let count = self.target.write(bytes)?;
        self.hash.update(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.target.flush()
    }
}

struct Archiver<'a, W: Write> {
    root: BorrowedFd<'a>,
    writer: Writer<W>,
    purpose: Purpose,
    left_out: &'a BTreeSet<Vec<u8>>,
    /// First names of files that have more than one, by device and inode.
    links: HashMap<(u64, u64), Vec<u8>>,
    totals: Totals,
}

/// A directory whose entries are being written.
struct Level {
    /// Relative to the root, empty for the root.
    path: Vec<u8>,
    /// Names still to come, in reverse order.
    names: Vec<CString>,
    /// As it was before, to be set when nothing in it changes any more.
    mtime: Time,
}

impl<W: Write> Archiver<'_, W> {
    /// The root has an entry only where it is not what every tool makes of a missing one.
    fn root_entry(&mut self) -> Result<()> {
        let stat = rustix::fs::fstat(self.root).map_err(|e| archive_failed(b"/", "fstat", e))?;
        let root = self.open_directory(b"")?;
        let mut entry = describe(Kind::Directory, b"./", &stat);
        let opaque = self.take_xattrs(&mut entry, root.as_fd(), OsStr::new("."), b"/")?;
        if entry.mode != 0o755 || entry.uid != 0 || entry.gid != 0 || !entry.xattrs.is_empty() {
            self.append(&entry)?;
        }
        if opaque {
            self.append(&whiteout(OPAQUE.to_vec()))?;
        }
        Ok(())
    }

    /// Depth first. Directories are opened anew by their path when they are needed, so depth costs no descriptors.
    fn walk(&mut self) -> Result<()> {
        let stat = rustix::fs::fstat(self.root).map_err(|e| archive_failed(b"/", "fstat", e))?;
        let names = self.names(b"")?.unwrap_or_default();
        let mut levels = vec![Level {
            path: Vec::new(),
            names,
            mtime: mtime_of(&stat),
        }];
        let mut open: Option<(Vec<u8>, OwnedFd)> = None;
        while let Some(level) = levels.last_mut() {
            let Some(name) = level.names.pop() else {
                if let Some(done) = levels.pop() {
                    open = None;
                    self.finish_directory(&done)?;
                }
                continue;
            };
            let name = OsStr::from_bytes(name.as_bytes());
            let path = join(&level.path, name.as_bytes());
            if self.left_out.contains(&path) {
                continue;
            }
            let directory = match open.take() {
                Some((path, directory)) if path == level.path => directory,
                _ => self.open_directory(&level.path)?,
            };
            let below = self.one(directory.as_fd(), name, &path)?;
            open = Some((level.path.clone(), directory));
            if let Some(mtime) = below
                && let Some(names) = self.names(&path)?
            {
                levels.push(Level { path, names, mtime });
            }
        }
        Ok(())
    }

    /// Writes one file's entry; for a directory returns its time, because what is in it comes next.
    fn one(
        &mut self,
        directory: BorrowedFd<'_>,
        name: &OsStr,
        path: &[u8],
    ) -> Result<Option<Time>> {
        let stat = match rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) if self.purpose != Purpose::Finish => return Ok(None),
            other => other.map_err(|e| archive_failed(path, "fstatat", e))?,
        };
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Kind::File,
            FileType::Directory => Kind::Directory,
            FileType::Symlink => Kind::Symlink,
            FileType::Fifo => Kind::Fifo,
            FileType::BlockDevice => Kind::BlockDevice,
            FileType::CharacterDevice if stat.st_rdev == 0 && self.purpose != Purpose::Root => {
                let (parent, name) = path.split_at(path.len() - name.len());
                self.append(&whiteout([parent, WHITEOUT_PREFIX, name].concat()))?;
                return Ok(None);
            }
            FileType::CharacterDevice => Kind::CharacterDevice,
            // A socket is nothing without the process that listens: archives have no such type.
            _ => {
                if self.purpose == Purpose::Finish {
                    rustix::fs::unlinkat(directory, name, AtFlags::empty())
                        .map_err(|e| archive_failed(path, "unlinkat", e))?;
                }
                return Ok(None);
            }
        };
        if kind != Kind::Directory && stat.st_nlink > 1 {
            let identity = (stat.st_dev, stat.st_ino);
            if let Some(first) = self.links.get(&identity) {
                let mut entry = describe(Kind::HardLink, path, &stat);
                entry.link = first.clone();
                self.append(&entry)?;
                return Ok(None);
            }
            self.links.insert(identity, path.to_vec());
        }
        let mut entry = describe(kind, path, &stat);
        let opaque = self.take_xattrs(&mut entry, directory, name, path)?;
        match kind {
            Kind::Symlink => {
                let target = rustix::fs::readlinkat(directory, name, Vec::new());
                entry.link = target
                    .map_err(|e| archive_failed(path, "readlinkat", e))?
                    .into_bytes();
                self.append(&entry)?;
            }
            Kind::File => self.file(&mut entry, directory, name)?,
            _ => self.append(&entry)?,
        }
        if kind == Kind::Directory {
            if opaque {
                self.append(&whiteout(join(path, OPAQUE)))?;
            }
            return Ok(Some(entry.mtime));
        }
        if self.purpose == Purpose::Finish {
            set_mtime(directory, name, entry.mtime)
                .map_err(|e| archive_failed(path, "utimensat", e))?;
        }
        Ok(None)
    }

    fn file(&mut self, entry: &mut Entry, directory: BorrowedFd<'_>, name: &OsStr) -> Result<()> {
        // Without O_NONBLOCK a pipe that took the file's place meanwhile would keep us waiting.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match rustix::fs::openat(directory, name, flags, Mode::empty()) {
            Err(Errno::NOENT | Errno::LOOP) if self.purpose != Purpose::Finish => return Ok(()),
            other => other.map_err(|e| archive_failed(&entry.path, "openat", e))?,
        };
        let now = rustix::fs::fstat(&file).map_err(|e| archive_failed(&entry.path, "fstat", e))?;
        if FileType::from_raw_mode(now.st_mode) != FileType::RegularFile {
            return Ok(());
        }
        entry.size = u64::try_from(now.st_size).unwrap_or(0);
        self.totals.size_bytes += entry.size;
        self.totals.entries += 1;
        Ok(self.writer.append_file(entry, File::from(file))?)
    }

    /// Adds the attributes that belong to the layer; returns whether the directory is opaque.
    fn take_xattrs(
        &mut self,
        entry: &mut Entry,
        directory: BorrowedFd<'_>,
        name: &OsStr,
        path: &[u8],
    ) -> Result<bool> {
        let found = match sys::fs::xattrs_at(directory, name) {
            Err(Errno::NOENT) if self.purpose != Purpose::Finish => Vec::new(),
            other => other.map_err(|e| archive_failed(path, "llistxattr", e))?,
        };
        let mut opaque = false;
        for (key, value) in found {
            if key.as_c_str() == OPAQUE_XATTR && self.purpose != Purpose::Root {
                // `x` marks something else: a directory that may have whiteouts in their attribute form.
                opaque |= value == b"y";
                continue;
            }
            if is_taken(key.as_bytes()) {
                entry.xattrs.push((key.into_bytes(), value));
            } else if self.purpose == Purpose::Finish
                && key.as_bytes().starts_with(b"trusted.overlay.")
            {
                sys::fs::remove_xattr_at(directory, name, &key)
                    .map_err(|e| archive_failed(path, "lremovexattr", e))?;
            }
        }
        Ok(opaque)
    }

    fn append(&mut self, entry: &Entry) -> Result<()> {
        self.totals.entries += 1;
        Ok(self.writer.append(entry)?)
    }

    fn finish_directory(&mut self, level: &Level) -> Result<()> {
        if self.purpose == Purpose::Finish {
            let directory = self.open_directory(&level.path)?;
            set_mtime(directory.as_fd(), OsStr::new("."), level.mtime)
                .map_err(|e| archive_failed(&level.path, "utimensat", e))?;
        }
        Ok(())
    }

    /// The names in a directory, in reverse order; None if it has gone.
    fn names(&mut self, path: &[u8]) -> Result<Option<Vec<CString>>> {
        let directory = match self.open_directory(path) {
            Err(Error::Tar(TarError::Archive { source, .. }))
                if source.errno == Errno::NOENT && self.purpose != Purpose::Finish =>
            {
                return Ok(None);
            }
            other => other?,
        };
        let failed = |errno| archive_failed(path, "getdents64", errno);
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::new(directory).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            if entry.file_name() != c"." && entry.file_name() != c".." {
                names.push(entry.file_name().to_owned());
            }
        }
        names.sort_unstable_by(|a, b| b.cmp(a));
        Ok(Some(names))
    }

    fn open_directory(&self, path: &[u8]) -> Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        loop {
            match rustix::fs::openat2(self.root, as_path(path), flags, Mode::empty(), resolve) {
                Err(Errno::INTR | Errno::AGAIN) => {}
                other => return other.map_err(|e| archive_failed(path, "openat2", e)),
            }
        }
    }
}

fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    if directory.is_empty() {
        name.to_vec()
    } else {
        [directory, b"/", name].concat()
    }
}

/// What stat(2) tells of a file.
fn describe(kind: Kind, path: &[u8], stat: &Stat) -> Entry {
    let mut entry = Entry::new(kind, path);
    entry.mode = stat.st_mode & 0o7777;
    entry.uid = stat.st_uid;
    entry.gid = stat.st_gid;
    entry.mtime = mtime_of(stat);
    if matches!(kind, Kind::CharacterDevice | Kind::BlockDevice) {
        entry.major = rustix::fs::major(stat.st_rdev);
        entry.minor = rustix::fs::minor(stat.st_rdev);
    }
    entry
}

/// In whole seconds, as the archive has it.
fn mtime_of(stat: &Stat) -> Time {
    Time {
        seconds: stat.st_mtime,
        nanoseconds: 0,
    }
}

/// The archive form of a whiteout or an opaque mark: an empty file with nothing to tell but its name.
fn whiteout(path: Vec<u8>) -> Entry {
    Entry::new(Kind::File, path)
}

fn set_mtime(directory: BorrowedFd<'_>, name: &OsStr, time: Time) -> rustix::io::Result<()> {
    let times = Timestamps {
        last_access: Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_OMIT,
        },
        last_modification: Timespec {
            tv_sec: time.seconds,
            tv_nsec: 0,
        },
    };
    rustix::fs::utimensat(directory, name, &times, AtFlags::SYMLINK_NOFOLLOW)
}

fn archive_failed(path: &[u8], call: &'static str, errno: Errno) -> Error {
    let entry = if path.is_empty() {
        "/".to_owned()
    } else {
        shown(path)
    };
    TarError::Archive {
        entry,
        source: sys::Error::new(call, errno),
    }
    .into()
}
