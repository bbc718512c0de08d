//! Making one file of each kind, and its attributes.

use std::ffi::CString;
use std::fs::File;
use std::io::BufRead;
use std::os::unix::fs::FileExt;

use ketch_sys as sys;
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;

use super::place::{At, failed, mkdir, set_opaque, stat, timestamps, unlink};
use super::{DEFAULT_LIST, Extractor};
use crate::tar::{Entry, Kind, Problem, Reader, TarError, shown};
use crate::tree::attributes::is_taken;
use crate::tree::path::{Clean, as_name, as_path};

impl Extractor {
    pub(super) fn directory(&mut self, at: &At<'_>, path: &Clean) -> Result<(), TarError> {
        match rustix::fs::mkdirat(at.directory, at.name, Mode::from(0o700)) {
            Ok(()) => self.new_name(at)?,
            Err(Errno::EXIST) => match stat(at)? {
                (FileType::Directory, _) => {}
                (_, whiteout) => {
                    unlink(at.directory, at.name).map_err(|source| failed(at.entry, source))?;
                    self.last_parent = None;
                    mkdir(at.directory, at.name).map_err(|source| failed(at.entry, source))?;
                    self.new_name(at)?;
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
        self.remember_times(at.entry, &self.real(at, path)?)
    }

    pub(super) fn file<R: BufRead>(
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
        self.new_name(at)?;
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

    pub(super) fn hard_link(&mut self, at: &At<'_>, path: &Clean) -> Result<(), TarError> {
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

    pub(super) fn special(&mut self, at: &At<'_>, path: &Clean) -> Result<(), TarError> {
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
        if entry.kind != Kind::Symlink {
            self.new_name(at)?;
        }
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
        let (kind, _) = stat(at)?;
        sys::fs::remove_tree_at(at.directory, at.name)
            .map_err(|source| failed(at.entry, source))?;
        match kind {
            FileType::Directory => self.forget(at.entry, &self.real(at, path)?),
            _ => {
                // It may be a link that the last parent was reached through.
                self.last_parent = None;
                Ok(())
            }
        }
    }

    /// What was just made has nothing but what its entry says.
    fn new_name(&self, at: &At<'_>) -> Result<(), TarError> {
        self.drop_lists(at.directory, at.name)
            .map_err(|errno| at.failed("lremovexattr", errno))
    }

    fn must_chown(&self, entry: &Entry) -> bool {
        entry.uid != 0 || entry.gid != 0 || self.group_inherited
    }

    /// Owner, mode and extended attributes, by name.
    pub(super) fn attributes(&mut self, at: &At<'_>) -> Result<(), TarError> {
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
                Ok(()) => self.list_inherited |= key.as_c_str() == DEFAULT_LIST,
                // The data root's file system has no such attributes, or not on this kind of file: noted in the record.
                Err(Errno::OPNOTSUPP) => self.totals.lost_xattrs += 1,
                // Only files and directories have users' attributes (xattr(7)).
                Err(Errno::PERM) if key.to_bytes().starts_with(b"user.") => {
                    self.totals.lost_xattrs += 1
                }
                Err(errno) => return Err(at.failed("lsetxattr", errno)),
            }
        }
        Ok(())
    }
}
