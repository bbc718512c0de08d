//! Errors of the runtime, those of the child included: they come to the parent as a [`Report`].

use std::path::PathBuf;

use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::cgroup::SystemdError;
use crate::hooks::HookError;
use crate::seccomp::SeccompError;

/// Shorthand.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong. The text names the step, the path and what the kernel said; where runc has a wording that users
/// know, it is that.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A system call failed.
    #[error("{step}: {failure}")]
    System {
        /// What was being done.
        step: String,
        /// The call, its path and errno.
        failure: ketch_sys::Error,
    },
    /// The specification asks for something that this runtime or this kernel cannot do.
    #[error("{what} is not supported{}", because(reason))]
    Unsupported {
        /// The field or option, with its value.
        what: String,
        /// Why, or empty.
        reason: String,
    },
    /// The specification contradicts itself or the OCI's.
    #[error("invalid {field}: {reason}")]
    Invalid {
        /// The field.
        field: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A system call filter cannot be compiled.
    #[error(transparent)]
    Seccomp(#[from] SeccompError),
    /// systemd does not make a scope, or is not there.
    #[error(transparent)]
    Systemd(#[from] SystemdError),
    /// A hook failed.
    #[error(transparent)]
    Hook(Box<HookError>),
    /// The container's program was not found: exit code 127.
    #[error("exec: {name:?}: {}", stat_prefix(name, reason))]
    ProgramNotFound {
        /// As given.
        name: String,
        /// `executable file not found in $PATH`, `no such file or directory`.
        reason: String,
    },
    /// The container's program was found and cannot be executed: exit code 126.
    #[error("exec: {name:?}: {reason}")]
    ProgramNotExecutable {
        /// As given.
        name: String,
        /// `permission denied`, `is a directory`, `exec format error`.
        reason: String,
    },
    /// The child said why it failed.
    #[error("{}", .0.message)]
    Child(Report),
    /// The child ended without a word.
    #[error(
        "the container's first process was killed before its program started{}",
        with_status(status)
    )]
    ChildLost {
        /// Its status as of waitpid(2), where known.
        status: Option<i32>,
    },
    /// Something did not happen in time.
    #[error("{what} did not happen within {seconds} s")]
    Timeout {
        /// What was waited for.
        what: String,
        /// How long.
        seconds: u64,
    },
}

fn because(reason: &str) -> String {
    if reason.is_empty() {
        String::new()
    } else {
        format!(": {reason}")
    }
}

fn stat_prefix(name: &str, reason: &str) -> String {
    if name.contains('/') {
        format!("stat {name}: {reason}")
    } else {
        reason.to_owned()
    }
}

fn with_status(status: &Option<i32>) -> String {
    status.map_or(String::new(), |status| {
        format!(" (wait status {status:#x})")
    })
}

/// Classes of errors, for exit codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ErrorKind {
    /// A system call failed.
    System,
    /// Not supported here.
    Unsupported,
    /// A wrong specification.
    Invalid,
    /// No such program.
    ProgramNotFound,
    /// The program cannot be executed.
    ProgramNotExecutable,
}

/// A child's error on its way to the parent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Its class.
    pub kind: ErrorKind,
    /// Its text.
    pub message: String,
    /// The kernel's errno, where one was the cause.
    pub errno: Option<i32>,
}

impl Error {
    /// The class of the error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::System { .. }
            | Self::Systemd(_)
            | Self::ChildLost { .. }
            | Self::Timeout { .. }
            | Self::Hook(_) => ErrorKind::System,
            Self::Unsupported { .. } => ErrorKind::Unsupported,
            Self::Invalid { .. } | Self::Seccomp(_) => ErrorKind::Invalid,
            Self::ProgramNotFound { .. } => ErrorKind::ProgramNotFound,
            Self::ProgramNotExecutable { .. } => ErrorKind::ProgramNotExecutable,
            Self::Child(report) => report.kind,
        }
    }

    /// The exit code of `run` for it: 127 no such program, 126 not executable, else 125.
    pub fn exit_code(&self) -> i32 {
        match self.kind() {
            ErrorKind::ProgramNotFound => 127,
            ErrorKind::ProgramNotExecutable => 126,
            _ => 125,
        }
    }

    /// The kernel's errno, where one was the cause.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::System { failure, .. } => Some(failure.errno),
            Self::Child(report) => report.errno.map(Errno::from_raw_os_error),
            _ => None,
        }
    }

    /// The error as the child sends it.
    pub(crate) fn report(&self) -> Report {
        Report {
            kind: self.kind(),
            message: self.to_string(),
            errno: self.errno().map(Errno::raw_os_error),
        }
    }

    pub(crate) fn invalid(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Invalid {
            field: field.into(),
            reason: reason.into(),
        }
    }

    pub(crate) fn unsupported(what: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Unsupported {
            what: what.into(),
            reason: reason.into(),
        }
    }
}

/// Gives a failed call the name of the step it was part of.
pub(crate) trait During<T> {
    /// `step`, in the words of a user: "mount /proc".
    fn during(self, step: impl Into<String>) -> Result<T>;
}

impl<T> During<T> for Result<T, ketch_sys::Error> {
    fn during(self, step: impl Into<String>) -> Result<T> {
        self.map_err(|failure| Error::System {
            step: step.into(),
            failure,
        })
    }
}

/// Gives an errno the name of its call.
pub(crate) trait Called<T> {
    /// A call without a path.
    fn called(self, call: &'static str) -> Result<T, ketch_sys::Error>;
    /// A call on `path`.
    fn called_on(self, call: &'static str, path: impl Into<PathBuf>)
    -> Result<T, ketch_sys::Error>;
}

impl<T> Called<T> for Result<T, Errno> {
    fn called(self, call: &'static str) -> Result<T, ketch_sys::Error> {
        self.map_err(|errno| ketch_sys::Error::new(call, errno))
    }

    fn called_on(
        self,
        call: &'static str,
        path: impl Into<PathBuf>,
    ) -> Result<T, ketch_sys::Error> {
        self.map_err(|errno| ketch_sys::Error::on(call, path, errno))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_is_missing_reads_as_with_runc() {
        let reason = || "executable file not found in $PATH".to_owned();
        let error = Error::ProgramNotFound {
            name: "foo".into(),
            reason: reason(),
        };
        assert_eq!(
            error.to_string(),
            r#"exec: "foo": executable file not found in $PATH"#
        );
        let reason = "no such file or directory".into();
        let error = Error::ProgramNotFound {
            name: "/foo".into(),
            reason,
        };
        assert_eq!(
            error.to_string(),
            r#"exec: "/foo": stat /foo: no such file or directory"#
        );
        assert_eq!(error.exit_code(), 127);
    }

    #[test]
    fn a_report_keeps_kind_text_and_errno() {
        let failure = ketch_sys::Error::on("open", "/x", Errno::ACCESS);
        let error = Error::System {
            step: "mount /x".into(),
            failure,
        };
        let text = serde_json::to_string(&error.report()).unwrap();
        let back = Error::Child(serde_json::from_str(&text).unwrap());
        assert_eq!(back.to_string(), error.to_string());
        assert_eq!(back.errno(), Some(Errno::ACCESS));
        assert_eq!(back.exit_code(), 125);
    }
}
