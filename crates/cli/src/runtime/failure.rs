//! Why a verb failed, and the exit status.

use std::path::PathBuf;

use ketch_runtime::oci;

/// Why a verb failed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The runtime says so.
    #[error(transparent)]
    Runtime(#[from] oci::Error),
    /// The same, with the verb before it as runc writes it, and its exit status.
    #[error("{prefix}: {error}")]
    Verb {
        /// `runc create failed`.
        prefix: &'static str,
        /// Why.
        error: oci::Error,
        /// The exit status.
        status: u8,
    },
    /// A flag or an operand makes no sense.
    #[error("invalid {what} {value:?}: {reason}")]
    Invalid {
        /// Which.
        what: &'static str,
        /// What was given.
        value: String,
        /// Why not.
        reason: String,
    },
    /// Something that this runtime does not do.
    #[error("{what} is not supported: {reason}")]
    Refused {
        /// What.
        what: &'static str,
        /// Why.
        reason: &'static str,
    },
    /// A file that was given cannot be read or written.
    #[error("{}: {source}", path.display())]
    Path {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file that was given is no JSON of that form.
    #[error("parse {}: {source}", path.display())]
    Parse {
        /// Which.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// A value cannot be written as JSON.
    #[error("write JSON: {0}")]
    Json(serde_json::Error),
    /// Standard output cannot be written.
    #[error("write to standard output: {0}")]
    Output(std::io::Error),
    /// A system call of the command itself.
    #[error("{0}")]
    System(#[from] ketch_sys::Error),
    /// A part of the runtime below the verbs.
    #[error(transparent)]
    Below(#[from] ketch_runtime::Error),
}

impl Failure {
    /// Something that this runtime does not do.
    pub fn refused(what: &'static str, reason: &'static str) -> Self {
        Self::Refused { what, reason }
    }

    /// The exit status: 1, as runc's, but for `exec`.
    pub fn status(&self) -> u8 {
        match self {
            Self::Verb { status, .. } => *status,
            _ => 1,
        }
    }
}
