//! Writing what COPY and ADD selected into a stage's root.

mod mode;
mod target;
mod tree;

pub use mode::ModeChange;
pub use target::{Owner, existing_directory, make_directories};

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::source::{Kind, Selection, SourceError, SourceRoot};

/// Why a COPY failed.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// Reading failed.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// Writing failed.
    #[error("{call} {path}: {error}", path = path.display())]
    Target {
        /// Which call.
        call: &'static str,
        /// In the stage's root.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// A directory should go where something else is.
    #[error("cannot copy to non-directory: {path}", path = path.display())]
    NotDirectory {
        /// In the stage's root.
        path: PathBuf,
    },
    /// A file should go where a directory is.
    #[error("cannot replace the directory {path} with a file", path = path.display())]
    IsDirectory {
        /// In the stage's root.
        path: PathBuf,
    },
    /// The destination of a file is no file's name.
    #[error("{path} is not a name for a file", path = path.display())]
    NotFile {
        /// In the stage's root.
        path: PathBuf,
    },
    /// A wildcard means several files, and the destination is not a directory.
    #[error(
        "When using COPY with more than one source file, the destination must be a directory and end with a /"
    )]
    ManyToOne,
}

impl CopyError {
    fn target(call: &'static str, path: impl Into<PathBuf>, errno: Errno) -> Self {
        Self::Target {
            call,
            path: path.into(),
            error: errno.into(),
        }
    }
}

/// Where and how to write.
#[derive(Debug, Clone, Default)]
pub struct Destination {
    /// Absolute, cleaned.
    pub path: PathBuf,
    /// Whether it was written with a slash at its end: a directory, whatever is there.
    pub is_directory: bool,
    /// `--chown`, resolved; None keeps the sources' owners.
    pub owner: Option<Owner>,
    /// `--chmod`.
    pub mode: Option<ModeChange>,
    /// `--parents`.
    pub parents: bool,
}

impl Destination {
    fn owner_of_new(&self) -> Owner {
        self.owner.unwrap_or((0, 0))
    }

    /// The directory and the name that a file called `name` goes to.
    fn place(
        &self,
        root: BorrowedFd<'_>,
        name: &OsStr,
        many: bool,
    ) -> Result<(OwnedFd, PathBuf), CopyError> {
        if !self.is_directory {
            if let Some(directory) = existing_directory(root, &self.path)? {
                return Ok((directory, self.path.join(name)));
            }
            if many {
                return Err(CopyError::ManyToOne);
            }
            let (directory, name) = target::file_place(root, &self.path, self.owner_of_new())?;
            return Ok((directory, self.path.with_file_name(name)));
        }
        let made = make_directories(root, &self.path, self.owner_of_new())?;
        Ok((made.directory, self.path.join(name)))
    }
}

/// Copies all selections into `root`.
///
/// # Errors
/// Reading or writing failed; something of another kind is in the way; a source changed since it was selected.
pub fn copy(
    source: &SourceRoot,
    selections: &[Selection],
    root: BorrowedFd<'_>,
    destination: &Destination,
) -> Result<(), CopyError> {
    let many = selections.len() > 1;
    for selection in selections {
        let mut writer = tree::Writer::new(source, destination);
        if destination.parents {
            writer.with_parents(selection, root)?;
        } else if selection.top.kind == Kind::Directory {
            let made = make_directories(root, &destination.path, destination.owner_of_new())?;
            let metadata = made.created.then_some(&selection.top);
            writer.contents(selection, made.directory, &destination.path, metadata)?;
        } else {
            let name = selection.name.file_name().unwrap_or(OsStr::new(""));
            let (directory, path) = destination.place(root, name, many)?;
            writer.entry(&selection.top, directory.as_fd(), &path)?;
        }
    }
    Ok(())
}

/// Writes a heredoc as the file `name`.
///
/// # Errors
/// As [`copy`].
pub fn inline(
    root: BorrowedFd<'_>,
    destination: &Destination,
    name: &str,
    content: &[u8],
    many: bool,
) -> Result<(), CopyError> {
    let (directory, path) = destination.place(root, OsStr::new(name), many)?;
    let name = path.file_name().unwrap_or(OsStr::new(name));
    target::clear(directory.as_fd(), name, &path)?;
    let path = path.as_path();
    let failed = |call| move |errno| CopyError::target(call, path, errno);
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(&directory, name, flags, Mode::from_raw_mode(0o600))
        .map_err(failed("openat"))?;
    ketch_sys::fs::write_all(file.as_fd(), content).map_err(failed("write"))?;
    target::change_owner(&file, destination.owner_of_new()).map_err(failed("fchown"))?;
    let mode = destination
        .mode
        .as_ref()
        .map_or(0o644, |change| change.apply(0o644, false));
    rustix::fs::fchmod(&file, Mode::from_raw_mode(mode)).map_err(failed("fchmod"))
}

#[cfg(test)]
mod tests;
