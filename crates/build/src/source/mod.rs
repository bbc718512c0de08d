//! Where COPY reads from: the context, a stage's root, an image's root. All access is by directory descriptor; a link
//! of the context cannot lead out of it (openat2(2), `RESOLVE_BENEATH`), a link of an image's root is followed inside
//! that root (`RESOLVE_IN_ROOT`).

mod digest;
mod select;
mod stat_cache;
mod walk;

pub use digest::{digest, xattrs};
pub use select::{Request, Selection};
pub use stat_cache::StatCache;

use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::ignore::Matcher;

/// More entries than this in one COPY are refused, so that a wrong context cannot eat the memory.
pub const MAX_ENTRIES: usize = 4_000_000;

/// Why a source cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// A system call failed.
    #[error("{call} {path}: {error}", path = path.display())]
    Io {
        /// Which call.
        call: &'static str,
        /// On what, relative to the source's root.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// A source is not there (or ignored).
    #[error("failed to calculate checksum of ref: \"/{path}\": not found")]
    NotFound {
        /// The source as written, cleaned.
        path: String,
    },
    /// A source leads out of the context.
    #[error("forbidden path outside the build context: {path}")]
    Outside {
        /// The source as written.
        path: String,
    },
    /// A wildcard that is none.
    #[error("{pattern}: syntax error in pattern")]
    Pattern {
        /// The source as written.
        pattern: String,
    },
    /// A file changed between the moment its digest was taken and its copy.
    #[error("{path} changed while it was being read", path = path.display())]
    Changed {
        /// Relative to the source's root.
        path: PathBuf,
    },
    /// Too much.
    #[error("more than {MAX_ENTRIES} files and directories")]
    TooMany,
}

impl SourceError {
    /// A failed call on `path`.
    pub fn io(call: &'static str, path: impl Into<PathBuf>, errno: Errno) -> Self {
        Self::Io {
            call,
            path: path.into(),
            error: errno.into(),
        }
    }
}

/// A tree to read from.
#[derive(Debug)]
pub struct SourceRoot {
    directory: OwnedFd,
    /// Links may not lead out (a context); else they are resolved inside.
    beneath: bool,
    /// What is not there for COPY.
    ignore: Matcher,
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link and its target.
    Link(OsString),
    /// A fifo.
    Fifo,
    /// A device: whether it is a block device, and its number.
    Device {
        /// Block, else character.
        block: bool,
        /// As `st_rdev`.
        number: u64,
    },
}

/// The fields of a stat that tell whether a file is still the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// Size in bytes.
    pub size: u64,
    /// Modification time in nanoseconds.
    pub modified_ns: i128,
    /// Change time in nanoseconds.
    pub changed_ns: i128,
    /// Inode.
    pub inode: u64,
    /// Device.
    pub device: u64,
}

/// A file, directory, link or device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Relative to the source's root; empty for the root itself.
    pub path: PathBuf,
    /// What it is.
    pub kind: Kind,
    /// Permission bits, set-id and sticky bits.
    pub mode: u32,
    /// Owner; 0 for a context, as whoever checked it out does not matter.
    pub uid: u32,
    /// Group; 0 for a context.
    pub gid: u32,
    /// Whether other names may have the same inode.
    pub linked: bool,
    /// Size, times, inode.
    pub stamp: Stamp,
}

impl SourceRoot {
    /// A build context, without what `ignore` says.
    pub fn context(directory: OwnedFd, ignore: Matcher) -> Self {
        Self {
            directory,
            beneath: true,
            ignore,
        }
    }

    /// The root of a stage or image.
    pub fn root(directory: OwnedFd) -> Self {
        Self {
            directory,
            beneath: false,
            ignore: Matcher::default(),
        }
    }

    /// Opens `path`; empty means the root.
    pub fn open(&self, path: &Path, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        let scope = if self.beneath {
            ResolveFlags::BENEATH
        } else {
            ResolveFlags::IN_ROOT
        };
        let path = if path.as_os_str().is_empty() {
            Path::new(".")
        } else {
            path
        };
        let mut attempts = 0;
        loop {
            let resolve = scope | ResolveFlags::NO_MAGICLINKS;
            match rustix::fs::openat2(
                &self.directory,
                path,
                flags | OFlags::CLOEXEC,
                Mode::empty(),
                resolve,
            ) {
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) if attempts < 32 => attempts += 1,
                other => return other,
            }
        }
    }

    /// Opens an entry's file for reading, and makes sure that it is the one that was seen.
    ///
    /// # Errors
    /// [`SourceError::Changed`] if it is not.
    pub fn open_entry(&self, entry: &Entry) -> Result<OwnedFd, SourceError> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = self.open(&entry.path, flags).map_err(|errno| match errno {
            Errno::NOENT | Errno::LOOP => SourceError::Changed {
                path: entry.path.clone(),
            },
            _ => SourceError::io("openat2", &entry.path, errno),
        })?;
        self.check_unchanged(entry, file.as_fd())?;
        Ok(file)
    }

    /// Makes sure that an open file is still as it was when it was walked over.
    pub fn check_unchanged(&self, entry: &Entry, file: BorrowedFd<'_>) -> Result<(), SourceError> {
        let stat = rustix::fs::fstat(file)
            .map_err(|errno| SourceError::io("fstat", &entry.path, errno))?;
        if walk::stamp(&stat) == entry.stamp {
            return Ok(());
        }
        Err(SourceError::Changed {
            path: entry.path.clone(),
        })
    }
}

#[cfg(test)]
mod tests;
