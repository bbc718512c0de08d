//! What the server itself can fail with, and the one table from error kinds to HTTP status.

use std::io;
use std::path::PathBuf;

use hyper::StatusCode;
use ketch_engine::{Error, ErrorKind};

/// Why the server could not serve. Errors of single requests are answers, not these.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// A system call on the socket's path failed.
    #[error("{call} {}", path.display())]
    Socket {
        /// What was tried.
        call: &'static str,
        /// On which path.
        path: PathBuf,
        /// What came of it.
        source: io::Error,
    },
    /// Another server answers on the path.
    #[error("another server listens on {}", path.display())]
    AlreadyServed {
        /// The path.
        path: PathBuf,
    },
    /// The runtime could not be made, or the handed-over socket not used.
    #[error("cannot {call}")]
    Runtime {
        /// What was tried.
        call: &'static str,
        /// What came of it.
        source: io::Error,
    },
}

impl From<ServeError> for Error {
    fn from(error: ServeError) -> Self {
        let kind = match &error {
            ServeError::AlreadyServed { .. } => ErrorKind::Conflict,
            ServeError::Socket { source, .. }
                if source.kind() == io::ErrorKind::PermissionDenied =>
            {
                ErrorKind::Forbidden
            }
            ServeError::Socket { .. } | ServeError::Runtime { .. } => ErrorKind::Internal,
        };
        match std::error::Error::source(&error) {
            Some(source) => Self::caused(kind, error.to_string(), source),
            None => Self::new(kind, error.to_string()),
        }
    }
}

/// The status of an error kind.
pub fn status(kind: ErrorKind) -> StatusCode {
    match kind {
        ErrorKind::NotFound => StatusCode::NOT_FOUND,
        ErrorKind::Conflict => StatusCode::CONFLICT,
        ErrorKind::Invalid => StatusCode::BAD_REQUEST,
        ErrorKind::NotModified => StatusCode::NOT_MODIFIED,
        ErrorKind::Unauthorised => StatusCode::UNAUTHORIZED,
        ErrorKind::Forbidden => StatusCode::FORBIDDEN,
        ErrorKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        ErrorKind::Unsupported => StatusCode::NOT_IMPLEMENTED,
        ErrorKind::Interrupted | ErrorKind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_dockers_status() {
        let table = [
            (ErrorKind::NotFound, 404),
            (ErrorKind::Conflict, 409),
            (ErrorKind::Invalid, 400),
            (ErrorKind::NotModified, 304),
            (ErrorKind::Unauthorised, 401),
            (ErrorKind::Forbidden, 403),
            (ErrorKind::Unavailable, 503),
            (ErrorKind::Unsupported, 501),
            (ErrorKind::Interrupted, 500),
            (ErrorKind::Internal, 500),
        ];
        for (kind, expected) in table {
            assert_eq!(status(kind).as_u16(), expected, "{kind:?}");
        }
    }
}
