//! Names of entries.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::tar::Problem;

/// An entry's path relative to the root, without `.` and `..` and double slashes: `usr/bin/env`. Empty for the root.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Clean(Vec<u8>);

impl Clean {
    /// Cleans a path by its text alone, as Docker does: a leading slash means the root, `a/../b` is `b`.
    ///
    /// # Errors
    /// [`Problem::Outside`] for a path with more `..` than there is to leave.
    pub fn new(path: &[u8]) -> Result<Self, Problem> {
        let mut parts: Vec<&[u8]> = Vec::new();
        for part in path.split(|byte| *byte == b'/') {
            match part {
                b"" | b"." => {}
                b".." => {
                    parts.pop().ok_or(Problem::Outside)?;
                }
                part => parts.push(part),
            }
        }
        Ok(Self(parts.join(&b'/')))
    }

    /// The root itself.
    pub fn root() -> Self {
        Self(Vec::new())
    }

    /// Whether it is the root itself.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The directory it is in, and its name there.
    pub fn split(&self) -> (&[u8], &[u8]) {
        match self.0.iter().rposition(|byte| *byte == b'/') {
            Some(at) => (&self.0[..at], &self.0[at + 1..]),
            None => (&[], &self.0),
        }
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Bytes as a path; the empty path as `.`.
pub fn as_path(bytes: &[u8]) -> &Path {
    Path::new(as_name(if bytes.is_empty() { b"." } else { bytes }))
}

/// Bytes as a name.
pub fn as_name(bytes: &[u8]) -> &OsStr {
    OsStr::from_bytes(bytes)
}
