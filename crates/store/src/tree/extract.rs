//! Archive to tree.
//!
//! Every name is resolved relative to the root's descriptor by the kernel (openat2(2), `RESOLVE_IN_ROOT`): links inside
//! the tree are followed inside the tree only, so that no archive can reach anything else, whatever the order of its
//! entries. Attributes are set in the order the kernel needs: owner, then mode (a change of owner drops set-user-id),
//! then extended attributes (it drops capabilities too), then times; times of directories last of all.

use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io::BufRead;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;

use ketch_sys as sys;
use ketch_sys::fs::{NAME_MAX_BYTES, Root};
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT, Uid};
use rustix::io::Errno;

use super::attributes::is_taken;
use super::path::{Clean, as_name, as_path};
use super::{AUFS_PREFIX, OPAQUE, OPAQUE_XATTR, Totals, WHITEOUT_PREFIX};
use crate::tar::{Entry, Kind, Problem, Reader, TarError, Time, shown};

/// How many directories whose times wait one archive can have: some hundred megabytes of names at worst.
const MAX_DIRECTORIES: usize = 4 << 20;

/// Makes the files of one archive below one directory, which nobody else writes meanwhile.
#[derive(Debug)]
pub struct Extractor {
    root: Root,
    /// The directory that the last entry was in: the next one usually is too.
    last_parent: Option<(Vec<u8>, OwnedFd)>,
    /// Times of directories, to be set when nothing is made in them any more.
    times: Vec<(Clean, Time)>,
    /// Some directory hands its group on, so groups must be set even when they are 0.
    group_inherited: bool,
    totals: Totals,
}

impl Extractor {
    /// Begins below `root`.
    pub fn new(root: OwnedFd) -> Self {
        Self {
            root: Root::from_directory(root, "/"),
            last_parent: None,
            times: Vec::new(),
            group_inherited: false,
            totals: Totals::default(),
        }
    }

    /// Makes everything in the archive and returns what it was; `archive_bytes` is the caller's to fill in.
    ///
    /// # Errors
    /// A damaged or hostile archive, a full disk; the message names the entry.
    pub fn run<R: BufRead>(mut self, reader: &mut Reader<R>) -> Result<Totals, TarError> {
        while let Some(entry) = reader.next_entry()? {
            self.entry(&entry, reader)?;
            self.totals.entries += 1;
        }
        self.set_directory_times()?;
        Ok(self.totals)
    }

    fn entry<R: BufRead>(&mut self, entry: &Entry, reader: &mut Reader<R>) -> Result<(), TarError> {
        let fail = |problem| TarError::Entry {
            entry: entry.shown(),
            problem,
        };
        let path = Clean::new(&entry.path).map_err(fail)?;
        if path.is_root() {
            return self.root_entry(entry, &path);
        }
        let (directory, name) = path.split();
        if name.len() > NAME_MAX_BYTES {
            return Err(fail(Problem::Long {
                field: "name",
                limit: NAME_MAX_BYTES as u64,
            }));
        }
        if name == OPAQUE {
            return self.make_opaque(entry, directory);
        }
        if name.starts_with(AUFS_PREFIX) {
            // aufs's own bookkeeping (a directory of hard links, for one): no part of the image.
            return Ok(());
        }
        if let Some(hidden) = name.strip_prefix(WHITEOUT_PREFIX) {
            if hidden.is_empty() || hidden == b"." || hidden == b".." {
                return Err(fail(Problem::Whiteout));
            }
            return self.whiteout(entry, directory, hidden);
        }
        let parent = self.parent(entry, directory)?;
        let at = At {
            directory: parent.as_fd(),
            name: as_name(name),
            entry,
        };
        match entry.kind {
            Kind::Directory => self.directory(&at, &path)?,
            Kind::File => self.file(&at, &path, reader)?,
            Kind::HardLink => self.hard_link(&at, &path)?,
            Kind::Symlink | Kind::Fifo | Kind::CharacterDevice | Kind::BlockDevice => {
                self.special(&at, &path)?
            }
        }
        self.last_parent = Some((directory.to_vec(), parent));
        Ok(())
    }

    /// The directory of an entry, opened; made (root's, 0755) if no entry made it.
    fn parent(&mut self, entry: &Entry, directory: &[u8]) -> Result<OwnedFd, TarError> {
        if let Some((path, parent)) = self.last_parent.take()
            && path == directory
        {
            return Ok(parent);
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        match self.root.open_at(as_path(directory), flags, Mode::empty()) {
            Err(error) if error.errno == Errno::NOENT || error.errno == Errno::NOTDIR => {
                self.make_parents(entry, directory)
            }
            other => other.map_err(|source| failed(entry, source)),
        }
    }

    /// Makes what is missing of a directory's path, one name at a time, each in the directory before it.
    fn make_parents(&mut self, entry: &Entry, directory: &[u8]) -> Result<OwnedFd, TarError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let open = |root: &Root, end: usize| {
            root.open_at(as_path(&directory[..end]), flags, Mode::empty())
        };
        let ends = directory
            .iter()
            .enumerate()
            .filter(|(_, byte)| **byte == b'/')
            .map(|(at, _)| at);
        let mut current = open(&self.root, 0).map_err(|source| failed(entry, source))?;
        let mut start = 0;
        for end in ends.chain([directory.len()]) {
            let name = as_name(&directory[start..end]);
            start = end + 1;
            match open(&self.root, end) {
                Ok(next) => {
                    current = next;
                    continue;
                }
                Err(error) if error.errno == Errno::NOENT => {}
                // A whiteout of an earlier entry: the directory is new, and hides what is below.
                Err(error)
                    if error.errno == Errno::NOTDIR && is_whiteout(current.as_fd(), name) =>
                {
                    unlink(current.as_fd(), name).map_err(|source| failed(entry, source))?;
                    mkdir(current.as_fd(), name).map_err(|source| failed(entry, source))?;
                    set_opaque(current.as_fd(), name).map_err(|source| failed(entry, source))?;
                    current = open(&self.root, end).map_err(|source| failed(entry, source))?;
                    continue;
                }
                Err(source) => return Err(failed(entry, source)),
            }
            mkdir(current.as_fd(), name).map_err(|source| failed(entry, source))?;
            rustix::fs::chmodat(&current, name, Mode::from(0o755), AtFlags::empty())
                .map_err(|errno| failed(entry, sys::Error::new("fchmodat", errno)))?;
            current = open(&self.root, end).map_err(|source| failed(entry, source))?;
        }
        Ok(current)
    }

    fn root_entry(&mut self, entry: &Entry, path: &Clean) -> Result<(), TarError> {
        if entry.kind != Kind::Directory {
            return Err(TarError::Entry {
                entry: entry.shown(),
                problem: Problem::Root,
            });
        }
        let root = self
            .root
            .as_directory()
            .try_clone_to_owned()
            .map_err(|error| failed(entry, sys::Error::from_io("dup", "/", &error)))?;
        self.attributes(&At {
            directory: root.as_fd(),
            name: OsStr::new("."),
            entry,
        })?;
        self.remember_times(entry, path)
    }

    fn directory(&mut self, at: &At<'_>, path: &Clean) -> Result<(), TarError> {
        match rustix::fs::mkdirat(at.directory, at.name, Mode::from(0o700)) {
            Ok(()) => {}
            Err(Errno::EXIST) => match stat(at)? {
                (FileType::Directory, _) => {}
                (_, whiteout) => {
                    unlink(at.directory, at.name).map_err(|source| failed(at.entry, source))?;
                    mkdir(at.directory, at.name).map_err(|source| failed(at.entry, source))?;
                    if whiteout {
                        set_opaque(at.directory, at.name)
                            .map_err(|source| failed(at.entry, source))?;
                    }
                }
            },
            Err(errno) => return Err(at.failed("mkdirat", errno)),
        }
        self.group_inherited |= at.entry.mode & 0o2000 != 0;
        self.attributes(at)?;
        self.remember_times(at.entry, path)
    }

    fn remember_times(&mut self, entry: &Entry, path: &Clean) -> Result<(), TarError> {
        if self.times.len() >= MAX_DIRECTORIES {
            let problem = Problem::Many {
                what: "directories before it",
                limit: MAX_DIRECTORIES as u64,
            };
            return Err(TarError::Entry {
                entry: entry.shown(),
                problem,
            });
        }
        self.times.push((path.clone(), entry.mtime));
        Ok(())
    }

    fn file<R: BufRead>(
        &mut self,
        at: &At<'_>,
        path: &Clean,
        reader: &mut Reader<R>,
    ) -> Result<(), TarError> {
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let create = || rustix::fs::openat(at.directory, at.name, flags, Mode::from(0o600));
        let file = match create() {
            Err(Errno::EXIST) => {
                self.clear(at, path)?;
                create()
            }
            other => other,
        };
        let file = File::from(file.map_err(|errno| at.failed("openat", errno))?);
        let written =
            |error: std::io::Error| failed(at.entry, sys::Error::from_io("write", "", &error));
        if at.entry.segments.is_some() {
            file.set_len(at.entry.size).map_err(written)?;
        }
        reader.copy_data(|offset, bytes| file.write_all_at(bytes, offset).map_err(written))?;
        self.totals.size_bytes = self.totals.size_bytes.saturating_add(at.entry.size);
        self.file_attributes(at, &file)
    }

    /// By descriptor, which is quicker than by name and the usual case.
    fn file_attributes(&mut self, at: &At<'_>, file: &File) -> Result<(), TarError> {
        let entry = at.entry;
        if self.must_chown(entry) {
            rustix::fs::fchown(
                file,
                Some(Uid::from_raw(entry.uid)),
                Some(Gid::from_raw(entry.gid)),
            )
            .map_err(|errno| at.failed("fchown", errno))?;
        }
        rustix::fs::fchmod(file, Mode::from(entry.mode))
            .map_err(|errno| at.failed("fchmod", errno))?;
        self.xattrs(at)?;
        rustix::fs::futimens(file, &timestamps(entry.mtime))
            .map_err(|errno| at.failed("futimens", errno))
    }

    fn hard_link(&mut self, at: &At<'_>, path: &Clean) -> Result<(), TarError> {
        let problem = |problem| TarError::Entry {
            entry: at.entry.shown(),
            problem,
        };
        let missing = || {
            problem(Problem::LinkTarget {
                target: shown(&at.entry.link),
            })
        };
        let target = Clean::new(&at.entry.link).map_err(problem)?;
        if target.is_root() {
            return Err(missing());
        }
        if target == *path {
            // An archive made of the same names twice; the file is there already.
            return stat(at).map(|_| ()).map_err(|_| missing());
        }
        let (directory, name) = target.split();
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let directory = self
            .root
            .open_at(as_path(directory), flags, Mode::empty())
            .map_err(|_| missing())?;
        let link = || {
            rustix::fs::linkat(
                &directory,
                as_name(name),
                at.directory,
                at.name,
                AtFlags::empty(),
            )
        };
        let linked = match link() {
            Err(Errno::EXIST) => {
                self.clear(at, path)?;
                link()
            }
            other => other,
        };
        match linked {
            Ok(()) => Ok(()),
            Err(Errno::NOENT | Errno::PERM) => Err(missing()),
            Err(errno) => Err(at.failed("linkat", errno)),
        }
    }

    fn special(&mut self, at: &At<'_>, path: &Clean) -> Result<(), TarError> {
        let entry = at.entry;
        let create = || match entry.kind {
            Kind::Symlink => rustix::fs::symlinkat(as_name(&entry.link), at.directory, at.name),
            Kind::Fifo => {
                rustix::fs::mknodat(at.directory, at.name, FileType::Fifo, Mode::from(0o600), 0)
            }
            kind => {
                let file_type = if kind == Kind::BlockDevice {
                    FileType::BlockDevice
                } else {
                    FileType::CharacterDevice
                };
                let device = rustix::fs::makedev(entry.major, entry.minor);
                rustix::fs::mknodat(at.directory, at.name, file_type, Mode::from(0o600), device)
            }
        };
        let created = match create() {
            Err(Errno::EXIST) => {
                self.clear(at, path)?;
                create()
            }
            other => other,
        };
        created.map_err(|errno| {
            at.failed(
                if entry.kind == Kind::Symlink {
                    "symlinkat"
                } else {
                    "mknodat"
                },
                errno,
            )
        })?;
        self.attributes(at)?;
        rustix::fs::utimensat(
            at.directory,
            at.name,
            &timestamps(entry.mtime),
            AtFlags::SYMLINK_NOFOLLOW,
        )
        .map_err(|errno| at.failed("utimensat", errno))
    }

    /// Removes what an earlier entry made under the same name.
    fn clear(&mut self, at: &At<'_>, path: &Clean) -> Result<(), TarError> {
        sys::fs::remove_tree_at(at.directory, at.name)
            .map_err(|source| failed(at.entry, source))?;
        // What was in it has no times to be set any more, and may not be what the last parent was.
        self.times
            .retain(|(directory, _)| !directory.is_in(path.as_bytes()));
        self.last_parent = None;
        Ok(())
    }

    fn must_chown(&self, entry: &Entry) -> bool {
        entry.uid != 0 || entry.gid != 0 || self.group_inherited
    }

    /// Owner, mode and extended attributes, by name.
    fn attributes(&mut self, at: &At<'_>) -> Result<(), TarError> {
        let entry = at.entry;
        // A directory may be there from an earlier entry, with another owner.
        if self.must_chown(entry) || entry.kind == Kind::Directory {
            let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
            rustix::fs::chownat(
                at.directory,
                at.name,
                Some(uid),
                Some(gid),
                AtFlags::SYMLINK_NOFOLLOW,
            )
            .map_err(|errno| at.failed("fchownat", errno))?;
        }
        if entry.kind != Kind::Symlink {
            // Not a link (nobody else writes here), so nothing is followed.
            rustix::fs::chmodat(
                at.directory,
                at.name,
                Mode::from(entry.mode),
                AtFlags::empty(),
            )
            .map_err(|errno| at.failed("fchmodat", errno))?;
        }
        self.xattrs(at)
    }

    fn xattrs(&mut self, at: &At<'_>) -> Result<(), TarError> {
        for (key, value) in at.entry.xattrs.iter().filter(|(key, _)| is_taken(key)) {
            let Ok(key) = CString::new(key.clone()) else {
                continue;
            };
            match sys::fs::set_xattr_at(at.directory, at.name, &key, value) {
                Ok(()) => {}
                // The data root's file system has no such attributes, or not on this kind of file: noted in the record.
                Err(Errno::OPNOTSUPP) => self.totals.lost_xattrs += 1,
                Err(errno) => return Err(at.failed("lsetxattr", errno)),
            }
        }
        Ok(())
    }

    fn whiteout(&mut self, entry: &Entry, directory: &[u8], hidden: &[u8]) -> Result<(), TarError> {
        let parent = self.parent(entry, directory)?;
        let at = At {
            directory: parent.as_fd(),
            name: as_name(hidden),
            entry,
        };
        match rustix::fs::mknodat(
            at.directory,
            at.name,
            FileType::CharacterDevice,
            Mode::empty(),
            0,
        ) {
            Ok(()) => {}
            // This layer has something new under the name: whiteouts are about the layers below (image specification,
            // "Whiteouts"), of which a directory would otherwise show through.
            Err(Errno::EXIST) => {
                if let (FileType::Directory, _) = stat(&at)? {
                    set_opaque(at.directory, at.name).map_err(|source| failed(entry, source))?;
                }
            }
            Err(errno) => return Err(at.failed("mknodat", errno)),
        }
        self.last_parent = Some((directory.to_vec(), parent));
        Ok(())
    }

    fn make_opaque(&mut self, entry: &Entry, directory: &[u8]) -> Result<(), TarError> {
        let parent = self.parent(entry, directory)?;
        set_opaque(parent.as_fd(), OsStr::new(".")).map_err(|source| failed(entry, source))?;
        self.last_parent = Some((directory.to_vec(), parent));
        Ok(())
    }

    fn set_directory_times(&mut self) -> Result<(), TarError> {
        for (path, time) in std::mem::take(&mut self.times) {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
            let set = self
                .root
                .open_at(as_path(path.as_bytes()), flags, Mode::empty())
                .and_then(|d| {
                    rustix::fs::futimens(&d, &timestamps(time))
                        .map_err(|e| sys::Error::new("futimens", e))
                });
            set.map_err(|source| TarError::Extract {
                entry: shown(path.as_bytes()),
                source,
            })?;
        }
        Ok(())
    }
}

/// An entry's place.
struct At<'a> {
    directory: BorrowedFd<'a>,
    name: &'a OsStr,
    entry: &'a Entry,
}

impl At<'_> {
    fn failed(&self, call: &'static str, errno: Errno) -> TarError {
        failed(self.entry, sys::Error::new(call, errno))
    }
}

fn failed(entry: &Entry, source: sys::Error) -> TarError {
    TarError::Extract {
        entry: entry.shown(),
        source,
    }
}

/// Type, and whether it is a whiteout.
fn stat(at: &At<'_>) -> Result<(FileType, bool), TarError> {
    let stat = rustix::fs::statat(at.directory, at.name, AtFlags::SYMLINK_NOFOLLOW)
        .map_err(|e| at.failed("fstatat", e))?;
    let file_type = FileType::from_raw_mode(stat.st_mode);
    Ok((
        file_type,
        file_type == FileType::CharacterDevice && stat.st_rdev == 0,
    ))
}

fn is_whiteout(directory: BorrowedFd<'_>, name: &OsStr) -> bool {
    rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW).is_ok_and(|stat| {
        FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
    })
}

fn set_opaque(directory: BorrowedFd<'_>, name: &OsStr) -> sys::Result<()> {
    sys::fs::set_xattr_at(directory, name, OPAQUE_XATTR, b"y")
        .map_err(|errno| sys::Error::new("lsetxattr", errno))
}

fn mkdir(directory: BorrowedFd<'_>, name: &OsStr) -> sys::Result<()> {
    rustix::fs::mkdirat(directory, name, Mode::from(0o755))
        .map_err(|errno| sys::Error::new("mkdirat", errno))
}

fn unlink(directory: BorrowedFd<'_>, name: &OsStr) -> sys::Result<()> {
    rustix::fs::unlinkat(directory, name, AtFlags::empty())
        .map_err(|errno| sys::Error::new("unlinkat", errno))
}

/// The access time stays as it is.
fn timestamps(time: Time) -> Timestamps {
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
