//! One selection, entry by entry, with all that belongs to a file: owner, mode, attributes, times, second names.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid};

use super::target::{self, Owner, change_owner, make_directories};
use super::{CopyError, Destination};
use crate::source::{Entry, Kind, Selection, SourceRoot, xattrs};

/// Writes entries of one selection.
pub struct Writer<'a> {
    source: &'a SourceRoot,
    destination: &'a Destination,
    /// Inode of the source to the first copy's path below the top directory.
    copied: HashMap<(u64, u64), PathBuf>,
}

/// A directory that is being filled.
struct Open<'a> {
    /// Path in the source.
    source: &'a Path,
    directory: OwnedFd,
    /// What to give it when it is full; None if it was there before and keeps what it has.
    metadata: Option<&'a Entry>,
}

impl<'a> Writer<'a> {
    /// For one selection.
    pub fn new(source: &'a SourceRoot, destination: &'a Destination) -> Self {
        Self {
            source,
            destination,
            copied: HashMap::new(),
        }
    }

    /// `--parents`: the kept path below the destination, then the source itself.
    pub fn with_parents(
        &mut self,
        selection: &'a Selection,
        root: BorrowedFd<'_>,
    ) -> Result<(), CopyError> {
        let mut path = self.destination.path.clone();
        let mut directory =
            make_directories(root, &path, self.destination.owner_of_new())?.directory;
        let mut opened: Vec<(OwnedFd, &Entry, PathBuf)> = Vec::new();
        let mut parts = selection.name.components().peekable();
        let mut above = selection.above.iter();
        while let Some(part) = parts.next() {
            path.push(part);
            if parts.peek().is_none() {
                break;
            }
            let made = target::enter(directory.as_fd(), part.as_os_str(), &path)?;
            if let (true, Some(entry)) = (made.created, above.next()) {
                let again = made
                    .directory
                    .try_clone()
                    .map_err(|error| CopyError::Target {
                        call: "fcntl",
                        path: path.clone(),
                        error,
                    })?;
                opened.push((again, entry, path.clone()));
            }
            directory = made.directory;
        }
        if selection.top.kind == Kind::Directory {
            let made = match path
                .file_name()
                .filter(|_| !selection.name.as_os_str().is_empty())
            {
                Some(name) => target::enter(directory.as_fd(), name, &path)?,
                None => target::Made {
                    directory,
                    created: false,
                },
            };
            let metadata = made.created.then_some(&selection.top);
            self.contents(selection, made.directory, &path, metadata)?;
        } else {
            self.entry(&selection.top, directory.as_fd(), &path)?;
        }
        for (directory, entry, path) in opened.into_iter().rev() {
            self.finish_directory(entry, directory.as_fd(), &path)?;
        }
        Ok(())
    }

    /// Everything below the selection's top into `directory`, which is at `path`.
    pub fn contents(
        &mut self,
        selection: &'a Selection,
        directory: OwnedFd,
        path: &Path,
        metadata: Option<&'a Entry>,
    ) -> Result<(), CopyError> {
        let top = &selection.top.path;
        let mut open = vec![Open {
            source: top,
            directory,
            metadata,
        }];
        for entry in &selection.below {
            let parent = entry.path.parent().unwrap_or(Path::new(""));
            while open.len() > 1 && open.last().is_some_and(|last| last.source != parent) {
                self.close(open.pop(), top, path)?;
            }
            let Some(name) = entry.path.file_name() else {
                continue;
            };
            let relative = entry.path.strip_prefix(top).unwrap_or(&entry.path);
            let at = path.join(relative);
            let (Some(first), Some(last)) = (open.first(), open.last()) else {
                break;
            };
            if entry.kind == Kind::Directory {
                let made = target::enter(last.directory.as_fd(), name, &at)?;
                open.push(Open {
                    source: &entry.path,
                    directory: made.directory,
                    metadata: Some(entry),
                });
                continue;
            }
            if entry.linked {
                let inode = (entry.stamp.device, entry.stamp.inode);
                if let Some(copied) = self.copied.get(&inode) {
                    target::clear(last.directory.as_fd(), name, &at)?;
                    rustix::fs::linkat(
                        &first.directory,
                        copied,
                        &last.directory,
                        name,
                        AtFlags::empty(),
                    )
                    .map_err(|errno| CopyError::target("linkat", &at, errno))?;
                    continue;
                }
                self.copied.insert(inode, relative.to_owned());
            }
            self.entry(entry, last.directory.as_fd(), &at)?;
        }
        while !open.is_empty() {
            self.close(open.pop(), top, path)?;
        }
        Ok(())
    }

    fn close(&self, open: Option<Open<'_>>, top: &Path, path: &Path) -> Result<(), CopyError> {
        let Some(Open {
            source,
            directory,
            metadata: Some(entry),
        }) = open
        else {
            return Ok(());
        };
        let at = path.join(source.strip_prefix(top).unwrap_or(Path::new("")));
        self.finish_directory(entry, directory.as_fd(), &at)
    }

    /// One entry that is not a directory, to be called as `path` ends.
    pub fn entry(
        &self,
        entry: &Entry,
        directory: BorrowedFd<'_>,
        path: &Path,
    ) -> Result<(), CopyError> {
        let name = path.file_name().unwrap_or(OsStr::new(""));
        target::clear(directory, name, path)?;
        match &entry.kind {
            Kind::File => return self.file(entry, directory, name, path),
            Kind::Link(link) => rustix::fs::symlinkat(link.as_os_str(), directory, name)
                .map_err(|errno| CopyError::target("symlinkat", path, errno))?,
            Kind::Fifo => self.node(directory, name, FileType::Fifo, 0, path)?,
            Kind::Device { block, number } => {
                let kind = if *block {
                    FileType::BlockDevice
                } else {
                    FileType::CharacterDevice
                };
                self.node(directory, name, kind, *number, path)?;
            }
            Kind::Directory => {
                return Err(CopyError::IsDirectory {
                    path: path.to_owned(),
                });
            }
        }
        let failed = |call| move |errno| CopyError::target(call, path, errno);
        let (uid, gid) = self.owner(entry);
        rustix::fs::chownat(
            directory,
            name,
            Some(Uid::from_raw(uid)),
            Some(Gid::from_raw(gid)),
            AtFlags::SYMLINK_NOFOLLOW,
        )
        .map_err(failed("fchownat"))?;
        if !matches!(entry.kind, Kind::Link(_)) {
            rustix::fs::chmodat(directory, name, self.mode(entry), AtFlags::empty())
                .map_err(failed("fchmodat"))?;
        }
        for (key, value) in xattrs(self.source, entry)? {
            let key = std::ffi::CString::new(key).unwrap_or_default();
            ketch_sys::fs::set_xattr_at(directory, name, &key, &value)
                .map_err(failed("lsetxattr"))?;
        }
        rustix::fs::utimensat(directory, name, &times(entry), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(failed("utimensat"))
    }

    fn node(
        &self,
        directory: BorrowedFd<'_>,
        name: &OsStr,
        kind: FileType,
        number: u64,
        path: &Path,
    ) -> Result<(), CopyError> {
        rustix::fs::mknodat(directory, name, kind, Mode::from_raw_mode(0o600), number)
            .map_err(|errno| CopyError::target("mknodat", path, errno))
    }

    fn file(
        &self,
        entry: &Entry,
        directory: BorrowedFd<'_>,
        name: &OsStr,
        path: &Path,
    ) -> Result<(), CopyError> {
        let failed = |call| move |errno| CopyError::target(call, path, errno);
        let from = self.source.open_entry(entry)?;
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let to = rustix::fs::openat(directory, name, flags, Mode::from_raw_mode(0o600))
            .map_err(failed("openat"))?;
        ketch_sys::fs::copy_file(from.as_fd(), to.as_fd(), entry.stamp.size)
            .map_err(|error| CopyError::target(error.call, path, error.errno))?;
        self.source.check_unchanged(entry, from.as_fd())?;
        // The owner before the mode and the attributes: a change of owner drops set-id bits and capabilities.
        change_owner(&to, self.owner(entry)).map_err(failed("fchown"))?;
        rustix::fs::fchmod(&to, self.mode(entry)).map_err(failed("fchmod"))?;
        self.attributes(entry, to.as_fd(), path)?;
        rustix::fs::futimens(&to, &times(entry)).map_err(failed("futimens"))
    }

    fn finish_directory(
        &self,
        entry: &Entry,
        directory: BorrowedFd<'_>,
        path: &Path,
    ) -> Result<(), CopyError> {
        let failed = |call| move |errno| CopyError::target(call, path, errno);
        change_owner(directory, self.owner(entry)).map_err(failed("fchown"))?;
        rustix::fs::fchmod(directory, self.mode(entry)).map_err(failed("fchmod"))?;
        self.attributes(entry, directory, path)?;
        rustix::fs::futimens(directory, &times(entry)).map_err(failed("futimens"))
    }

    fn attributes(
        &self,
        entry: &Entry,
        file: BorrowedFd<'_>,
        path: &Path,
    ) -> Result<(), CopyError> {
        for (key, value) in xattrs(self.source, entry)? {
            rustix::fs::fsetxattr(
                file,
                OsStr::from_bytes(&key),
                &value,
                rustix::fs::XattrFlags::empty(),
            )
            .map_err(|errno| CopyError::target("fsetxattr", path, errno))?;
        }
        Ok(())
    }

    fn owner(&self, entry: &Entry) -> Owner {
        self.destination.owner.unwrap_or((entry.uid, entry.gid))
    }

    fn mode(&self, entry: &Entry) -> Mode {
        let change = self.destination.mode.as_ref();
        let is_directory = entry.kind == Kind::Directory;
        Mode::from_raw_mode(
            change.map_or(entry.mode, |change| change.apply(entry.mode, is_directory)),
        )
    }
}

/// The source's modification time, for both times.
fn times(entry: &Entry) -> Timestamps {
    let ns = entry.stamp.modified_ns;
    let time = Timespec {
        tv_sec: i64::try_from(ns.div_euclid(1_000_000_000)).unwrap_or(0),
        tv_nsec: i64::try_from(ns.rem_euclid(1_000_000_000)).unwrap_or(0),
    };
    Timestamps {
        last_access: time,
        last_modification: time,
    }
}
