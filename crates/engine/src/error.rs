//! The engine's errors: exactly one kind each, a message, the chain of causes and hints.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Shorthand for results of verbs.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What class of failure it is; one table maps kinds to exit codes, one to HTTP status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ErrorKind {
    /// The named object does not exist.
    NotFound,
    /// The object's state or another object forbids it.
    Conflict,
    /// The request itself is wrong.
    Invalid,
    /// It was so already.
    NotModified,
    /// Credentials are missing or wrong.
    Unauthorised,
    /// It is not allowed.
    Forbidden,
    /// Something needed cannot be reached now.
    Unavailable,
    /// The kernel, the machine or this version cannot do it.
    Unsupported,
    /// It was cancelled.
    Interrupted,
    /// Anything else: an input/output error, damaged state, a bug.
    Internal,
}

/// A failed verb. Serialisable, so that a monitor can report it to the command that started it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Error {
    /// The class.
    pub kind: ErrorKind,
    /// What failed, on what: lower case, no full stop, unless it is Docker's wording.
    pub message: String,
    /// Why, outermost cause first.
    pub causes: Vec<String>,
    /// What the user can do, one sentence each.
    pub hints: Vec<String>,
}

impl Error {
    /// An error with no cause yet.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            causes: Vec::new(),
            hints: Vec::new(),
        }
    }

    /// An error caused by `source`, whose whole chain is kept.
    pub fn caused(
        kind: ErrorKind,
        message: impl Into<String>,
        source: &(dyn std::error::Error + 'static),
    ) -> Self {
        let mut causes = Vec::new();
        let mut next = Some(source);
        while let Some(cause) = next {
            causes.push(cause.to_string());
            next = cause.source();
        }
        Self {
            kind,
            message: message.into(),
            causes,
            hints: Vec::new(),
        }
    }

    /// The same error under a new outermost message.
    #[must_use]
    pub fn context(mut self, message: impl Into<String>) -> Self {
        let inner = std::mem::replace(&mut self.message, message.into());
        self.causes.insert(0, inner);
        self
    }

    /// The same error with one more hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        for cause in &self.causes {
            write!(f, ": {cause}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}
