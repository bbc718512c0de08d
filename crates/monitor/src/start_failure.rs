//! Why a start failed, for the user and for the record.

use jiff::Timestamp;
use ketch_engine::container::state::ExitRecord;
use ketch_engine::{Error, ErrorKind};

/// A start that failed.
#[derive(Debug)]
pub struct StartFailure {
    /// What the user is told.
    pub error: Error,
    /// 127: no such program; 126: it cannot be executed; 125: anything else.
    pub code: i32,
}

impl StartFailure {
    /// As the container's record has it.
    pub fn exit_record(&self) -> ExitRecord {
        ExitRecord {
            code: self.code,
            signal: None,
            out_of_memory: false,
            at: Timestamp::now(),
            error: self.error.to_string(),
        }
    }
}

impl From<Error> for StartFailure {
    fn from(error: Error) -> Self {
        Self { error, code: 125 }
    }
}

impl From<ketch_runtime::Error> for StartFailure {
    fn from(error: ketch_runtime::Error) -> Self {
        Self {
            code: error.exit_code(),
            error: runtime_error(&error),
        }
    }
}

/// The runtime's error as the engine's; its text is what users know from runc.
pub fn runtime_error(error: &ketch_runtime::Error) -> Error {
    use ketch_runtime::ErrorKind as Kind;
    let kind = match error.kind() {
        Kind::ProgramNotFound => ErrorKind::NotFound,
        Kind::ProgramNotExecutable => ErrorKind::Forbidden,
        Kind::Invalid => ErrorKind::Invalid,
        Kind::Unsupported => ErrorKind::Unsupported,
        Kind::System => ErrorKind::Internal,
    };
    Error::new(kind, error.to_string())
}
