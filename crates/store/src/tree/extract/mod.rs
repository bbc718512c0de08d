//! Archive to tree.
//!
//! Every name is resolved relative to the root's descriptor by the kernel (openat2(2), `RESOLVE_IN_ROOT`): links inside
//! the tree are followed inside the tree only, so that no archive can reach anything else, whatever the order of its
//! entries. Attributes are set in the order the kernel needs: owner, then mode (a change of owner drops set-user-id),
//! then extended attributes (it drops capabilities too), then times; times of directories last of all.

mod make;
mod place;
mod times;

use std::ffi::OsStr;
use std::io::BufRead;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use ketch_sys as sys;
use ketch_sys::fs::Root;
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;

use self::place::{At, failed, is_whiteout, mkdir, set_opaque, stat, timestamps, unlink};
use self::times::{MAX_DIRECTORIES, MAX_PATH_BYTES, Refused, Times};
use super::Totals;
use super::entries::{self, Maker};
use super::path::{Clean, as_name, as_path};
use crate::erofs::Taken;
use crate::spill::Backing;
use crate::tar::{Entry, Kind, Problem, Reader, TarError, shown};

/// An access control list, and the one that what is made in a directory begins with (acl(5)).
const ACCESS_LIST: &std::ffi::CStr = c"system.posix_acl_access";
const DEFAULT_LIST: &std::ffi::CStr = c"system.posix_acl_default";

/// Makes the files of one archive below one directory, which nobody else writes meanwhile.
#[derive(Debug)]
pub struct Extractor {
    root: Root,
    /// The directory that the last entry was in: the next one usually is too.
    last_parent: Option<(Vec<u8>, OwnedFd)>,
    /// That one was reached through links of the archive's own making.
    through_links: bool,
    /// Times of directories, to be set when nothing is made in them any more.
    times: Option<Times>,
    /// Some directory hands its group on, so groups must be set even when they are 0.
    group_inherited: bool,
    /// Some directory hands a default access control list on, which no entry's attributes said.
    list_inherited: bool,
    totals: Totals,
}

impl Extractor {
    /// Begins below `root`.
    pub fn new(root: OwnedFd) -> Self {
        Self {
            root: Root::from_directory(root, "/"),
            last_parent: None,
            through_links: false,
            times: None,
            group_inherited: false,
            list_inherited: false,
            totals: Totals::default(),
        }
    }

    /// Makes everything in the archive and returns what it was; `archive_bytes` is the caller's to fill in.
    ///
    /// # Errors
    /// A damaged or hostile archive, a full disk; the message names the entry.
    pub fn run<R: BufRead>(mut self, reader: &mut Reader<R>) -> Result<Totals, TarError> {
        self.plain_root()?;
        self.totals.entries = entries::each(&mut self, reader)?;
        self.set_directory_times()?;
        Ok(self.totals)
    }

    /// Takes off the root what the directory that it was made in handed on.
    fn plain_root(&mut self) -> Result<(), TarError> {
        self.list_inherited = true;
        let dropped = self.drop_lists(self.root.as_directory(), OsStr::new("."));
        self.list_inherited = false;
        dropped.map_err(|errno| TarError::Extract {
            entry: "/".to_owned(),
            source: sys::Error::new("lremovexattr", errno),
        })
    }

    /// The directory of an entry, opened; made (root's, 0755) if no entry made it.
    fn parent(&mut self, entry: &Entry, directory: &[u8]) -> Result<OwnedFd, TarError> {
        if let Some((path, parent)) = self.last_parent.take()
            && path == directory
        {
            return Ok(parent);
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let path = as_path(directory);
        let mut opened = self.root.open_without_links(path, flags, Mode::empty());
        self.through_links = matches!(&opened, Err(error) if error.errno == Errno::LOOP);
        if self.through_links {
            opened = self.root.open_at(path, flags, Mode::empty());
        }
        match opened {
            Err(error) if error.errno == Errno::NOENT || error.errno == Errno::NOTDIR => {
                let made = self.make_parents(entry, directory);
                let plain = self.root.open_without_links(path, flags, Mode::empty());
                self.through_links = plain.is_err();
                made
            }
            other => other.map_err(|source| failed(entry, source)),
        }
    }

    /// Where the entry at `path` really is, whose directory is open: not through the archive's own links.
    fn real(&self, at: &At<'_>, path: &Clean) -> Result<Clean, TarError> {
        if !self.through_links {
            return Ok(path.clone());
        }
        let place = |fd: BorrowedFd<'_>| {
            let link = format!("/proc/self/fd/{}", fd.as_raw_fd());
            rustix::fs::readlink(link, Vec::new())
                .map_err(|errno| at.failed("readlink", errno))
                .map(|place| place.into_bytes())
        };
        let (root, directory) = (place(self.root.as_directory())?, place(at.directory)?);
        let below = directory.strip_prefix(&root[..]).unwrap_or(&directory);
        let (_, name) = path.split();
        Clean::new(&[below, b"/", name].concat()).map_err(|problem| TarError::Entry {
            entry: at.entry.shown(),
            problem,
        })
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
                    self.make_implicit(entry, current.as_fd(), name)?;
                    set_opaque(current.as_fd(), name).map_err(|source| failed(entry, source))?;
                    current = open(&self.root, end).map_err(|source| failed(entry, source))?;
                    continue;
                }
                Err(source) => return Err(failed(entry, source)),
            }
            self.make_implicit(entry, current.as_fd(), name)?;
            current = open(&self.root, end).map_err(|source| failed(entry, source))?;
        }
        Ok(current)
    }

    /// A directory that no entry describes, whatever the one it is in hands on.
    fn make_implicit(
        &self,
        entry: &Entry,
        parent: BorrowedFd<'_>,
        name: &OsStr,
    ) -> Result<(), TarError> {
        let call = |call| move |errno| failed(entry, sys::Error::new(call, errno));
        mkdir(parent, name).map_err(|source| failed(entry, source))?;
        self.keep_group(parent, name).map_err(call("fchownat"))?;
        self.drop_lists(parent, name)
            .map_err(call("lremovexattr"))?;
        rustix::fs::chmodat(parent, name, Mode::from(0o755), AtFlags::empty())
            .map_err(call("fchmodat"))
    }

    /// Undoes what a directory with a set-group-id bit does to what is made in it.
    fn keep_group(&self, parent: BorrowedFd<'_>, name: &OsStr) -> rustix::io::Result<()> {
        if !self.group_inherited {
            return Ok(());
        }
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        rustix::fs::chownat(parent, name, Some(Uid::ROOT), Some(Gid::ROOT), flags)
    }

    /// Undoes what a directory with a default access control list does to what is made in it. Comes before modes are
    /// set, which a list changes.
    fn drop_lists(&self, parent: BorrowedFd<'_>, name: &OsStr) -> rustix::io::Result<()> {
        if !self.list_inherited {
            return Ok(());
        }
        for key in [ACCESS_LIST, DEFAULT_LIST] {
            match sys::fs::remove_xattr_at(parent, name, key) {
                Ok(()) | Err(Errno::OPNOTSUPP) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(())
    }

    fn times(&mut self, entry: &Entry) -> Result<&mut Times, TarError> {
        if self.times.is_none() {
            let root = self.root.as_directory().try_clone_to_owned();
            let root =
                root.map_err(|error| failed(entry, sys::Error::from_io("dup", "/", &error)))?;
            self.times = Some(Times::new(Arc::new(Backing::unnamed_in(root))));
        }
        self.times
            .as_mut()
            .ok_or_else(|| refused(entry, Refused::Many))
    }

    fn remember_times(&mut self, entry: &Entry, path: &Clean) -> Result<(), TarError> {
        self.times(entry)?
            .remember(path, entry.mtime)
            .map_err(|why| refused(entry, why))
    }

    /// What was at `path` is gone: what was in it has no times to be set any more, and may not be what the last parent
    /// was.
    fn forget(&mut self, entry: &Entry, path: &Clean) -> Result<(), TarError> {
        self.last_parent = None;
        self.times(entry)?
            .forget(path)
            .map_err(|why| refused(entry, why))
    }

    fn set_directory_times(&mut self) -> Result<(), TarError> {
        let Some(times) = self.times.take() else {
            return Ok(());
        };
        let lost = |error: std::io::Error| TarError::Extract {
            entry: "/".to_owned(),
            source: sys::Error::from_io("read", "/", &error),
        };
        let mut times = times.finish().map_err(lost)?;
        while let Some((path, time)) = times.next().map_err(lost)? {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
            let directory = match self.root.open_at(as_path(&path), flags, Mode::empty()) {
                // It was reached through a link, and what that led to was replaced.
                Err(error) if matches!(error.errno, Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {
                    continue;
                }
                other => other,
            };
            let set = directory.and_then(|directory| {
                rustix::fs::futimens(&directory, &timestamps(time))
                    .map_err(|errno| sys::Error::new("futimens", errno))
            });
            set.map_err(|source| TarError::Extract {
                entry: shown(&path),
                source,
            })?;
        }
        Ok(())
    }
}

/// Refuses malformed lists and capabilities as images do, whatever the file system makes of them.
fn check_attributes(entry: &Entry) -> Result<(), TarError> {
    if entry.xattrs.is_empty() {
        return Ok(());
    }
    Taken::of(entry)
        .map(drop)
        .map_err(|problem| TarError::Entry {
            entry: entry.shown(),
            problem,
        })
}

fn refused(entry: &Entry, why: Refused) -> TarError {
    let problem = match why {
        Refused::Many => Problem::Many {
            what: "directories before it",
            limit: MAX_DIRECTORIES,
        },
        Refused::Long => Problem::Long {
            field: "path, with those of the directories before it,",
            limit: MAX_PATH_BYTES,
        },
        Refused::Disk(error) => return failed(entry, sys::Error::from_io("write", "", &error)),
    };
    TarError::Entry {
        entry: entry.shown(),
        problem,
    }
}

impl Maker for Extractor {
    fn root(&mut self, entry: &Entry) -> Result<(), TarError> {
        let root = self
            .root
            .as_directory()
            .try_clone_to_owned()
            .map_err(|error| failed(entry, sys::Error::from_io("dup", "/", &error)))?;
        check_attributes(entry)?;
        self.attributes(&At {
            directory: root.as_fd(),
            name: OsStr::new("."),
            entry,
        })?;
        self.group_inherited |= entry.mode & 0o2000 != 0;
        self.remember_times(entry, &Clean::root())
    }

    fn make<R: BufRead>(
        &mut self,
        entry: &Entry,
        path: &Clean,
        reader: &mut Reader<R>,
    ) -> Result<(), TarError> {
        let (directory, name) = path.split();
        let parent = self.parent(entry, directory)?;
        if entry.kind != Kind::HardLink {
            check_attributes(entry)?;
        }
        let at = At {
            directory: parent.as_fd(),
            name: as_name(name),
            entry,
        };
        match entry.kind {
            Kind::Directory => self.directory(&at, path)?,
            Kind::File => self.file(&at, path, reader)?,
            Kind::HardLink => self.hard_link(&at, path)?,
            Kind::Symlink | Kind::Fifo | Kind::CharacterDevice | Kind::BlockDevice => {
                self.special(&at, path)?
            }
        }
        self.last_parent = Some((directory.to_vec(), parent));
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
            Ok(()) => {
                self.keep_group(at.directory, at.name)
                    .map_err(|errno| at.failed("fchownat", errno))?;
                self.drop_lists(at.directory, at.name)
                    .map_err(|errno| at.failed("lremovexattr", errno))?;
            }
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

    fn opaque(&mut self, entry: &Entry, directory: &[u8]) -> Result<(), TarError> {
        let parent = self.parent(entry, directory)?;
        set_opaque(parent.as_fd(), OsStr::new(".")).map_err(|source| failed(entry, source))?;
        self.last_parent = Some((directory.to_vec(), parent));
        Ok(())
    }
}
