//! One error type for all system calls.

use std::fmt;
use std::path::PathBuf;

use rustix::io::Errno;

/// Shorthand.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failed system call: which one, on what, and what the kernel said.
#[derive(Debug)]
pub struct Error {
    /// Name of the call, `mount_setattr`.
    pub call: &'static str,
    /// The path it was about, if any.
    pub path: Option<PathBuf>,
    /// What the kernel said.
    pub errno: Errno,
}

impl Error {
    /// A failure without a path.
    pub fn new(call: &'static str, errno: Errno) -> Self {
        Self {
            call,
            path: None,
            errno,
        }
    }

    /// A failure on `path`.
    pub fn on(call: &'static str, path: impl Into<PathBuf>, errno: Errno) -> Self {
        Self {
            call,
            path: Some(path.into()),
            errno,
        }
    }

    /// A failure of a standard library call; unknown errors become `EIO`.
    pub fn from_io(call: &'static str, path: impl Into<PathBuf>, error: &std::io::Error) -> Self {
        Self {
            call,
            path: Some(path.into()),
            errno: Errno::from_io_error(error).unwrap_or(Errno::IO),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.call)?;
        if let Some(path) = &self.path {
            write!(f, " {}", path.display())?;
        }
        write!(f, ": {}", std::io::Error::from(self.errno))
    }
}

impl std::error::Error for Error {}
