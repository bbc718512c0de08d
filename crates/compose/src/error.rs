//! What can be wrong with a project: always a place, and what is wrong there.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

/// A place in a file; lines and columns count from 1, 0 where unknown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    /// The file as the user named it.
    pub file: Arc<str>,
    /// Line.
    pub line: u64,
    /// Column.
    pub column: u64,
}

impl Position {
    /// The whole file.
    pub fn of_file(file: &str) -> Self {
        Self {
            file: file.into(),
            line: 0,
            column: 0,
        }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}", self.file),
            line => write!(f, "{}:{line}:{}", self.file, self.column),
        }
    }
}

/// A project that cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// No file was given and none is found.
    #[error("no configuration file provided: not found in {} or its parents", .directory.display())]
    NoFile {
        /// Where the search began.
        directory: PathBuf,
    },
    /// A file cannot be read.
    #[error("{}: {source}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file is not YAML, or not what a compose file may be.
    #[error("{position}: {message}")]
    Invalid {
        /// Where.
        position: Position,
        /// What is wrong.
        message: String,
    },
    /// The project as a whole does not make sense.
    #[error("{message}")]
    Project {
        /// What is wrong.
        message: String,
    },
}

impl LoadError {
    pub(crate) fn at(position: &Position, message: impl Into<String>) -> Self {
        Self::Invalid {
            position: position.clone(),
            message: message.into(),
        }
    }

    pub(crate) fn project(message: impl Into<String>) -> Self {
        Self::Project {
            message: message.into(),
        }
    }
}
