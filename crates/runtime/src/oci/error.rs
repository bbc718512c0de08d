//! Errors of the verbs. Callers of OCI runtimes look for runc's words, so the words are those.

use std::os::fd::RawFd;
use std::path::PathBuf;

use crate::hooks::{HookError, Status};

/// Shorthand.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a verb failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Not an id.
    #[error("invalid container ID format: {0:?}")]
    InvalidId(String),
    /// No container of that id.
    #[error("container does not exist: {0}")]
    NotFound(String),
    /// The id is taken.
    #[error("container with given ID already exists: {0}")]
    Exists(String),
    /// Its first process has ended, or it was never started.
    #[error("container not running: {id} is {status}")]
    NotRunning {
        /// Which.
        id: String,
        /// What it is instead.
        status: Status,
    },
    /// `resume` of one that is not paused.
    #[error("container not paused: {id} is {status}")]
    NotPaused {
        /// Which.
        id: String,
        /// What it is instead.
        status: Status,
    },
    /// `start` of one that is not created.
    #[error("{}", cannot_start(*.0))]
    CannotStart(Status),
    /// `exec` in one that does not run.
    #[error("cannot exec in a {0} container")]
    CannotExec(Status),
    /// `delete` without force.
    #[error("cannot delete container {id} that is not stopped: {status}")]
    NotStopped {
        /// Which.
        id: String,
        /// What it is instead.
        status: Status,
    },
    /// The bundle's configuration cannot be read.
    #[error("read {}: {source}", path.display())]
    ReadConfig {
        /// Where it is.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The bundle's configuration is a directory, a device or a pipe.
    #[error("{} is no regular file", .0.display())]
    NoRegularFile(PathBuf),
    /// A document that is too long.
    #[error("{} is longer than {max} bytes", path.display())]
    TooLong {
        /// Where it is.
        path: PathBuf,
        /// How long it may be, in bytes.
        max: usize,
    },
    /// The directory of a container is not the caller's: what its state says must not be done, its hooks not be run.
    #[error("the container's directory {} belongs to user {owner}, not to the caller", path.display())]
    Foreign {
        /// Which.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
    },
    /// JSON that does not fit.
    #[error("parse {}: {source}", path.display())]
    Parse {
        /// Which file.
        path: PathBuf,
        /// Where and why.
        source: serde_json::Error,
    },
    /// A configuration or a combination of options that makes no sense.
    #[error("{0}")]
    Refused(Refusal),
    /// A hook failed.
    #[error(transparent)]
    Hook(#[from] Box<HookError>),
    /// The runtime itself.
    #[error(transparent)]
    Runtime(#[from] crate::Error),
}

/// Combinations that make no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// A terminal whose other end nobody would hold.
    #[error("cannot allocate tty if runc will detach without setting console socket")]
    TerminalWithoutConsole,
    /// A console socket without a terminal.
    #[error("cannot use console socket if runc will not detach or allocate tty")]
    ConsoleWithoutTerminal,
    /// The configuration's version is none that we know.
    #[error("ociVersion {0:?} is not supported: it must be 1.x")]
    Version(String),
    /// A part of the configuration is missing.
    #[error("{0} is missing in config.json")]
    Missing(&'static str),
    /// A text that goes to the kernel or becomes a path ends at its first zero byte.
    #[error("invalid {0}: it has a zero byte")]
    ZeroByte(&'static str),
    /// The path of the cgroup is not of the form that was asked for.
    #[error(
        "expected cgroupsPath to be of format \"slice:prefix:name\" with --systemd-cgroup and a path without, got {0:?} \
         instead"
    )]
    CgroupsPath(String),
    /// The cgroup has processes of someone else.
    #[error("container's cgroup {0} is not empty")]
    CgroupInUse(String),
    /// The cgroup was frozen by someone else: no process in it would ever run.
    #[error("container's cgroup unexpectedly frozen: {0}")]
    CgroupFrozen(String),
    /// A descriptor that was to be passed on is not open.
    #[error("preserved descriptor {0} is not open")]
    NotOpen(RawFd),
    /// A container without a cgroup of its own.
    #[error("the container has no cgroup of its own")]
    NoCgroup,
    /// A container without a class of `linux.intelRdt`.
    #[error("the container has no class of linux.intelRdt")]
    NoClass,
}

fn cannot_start(status: Status) -> String {
    match status {
        Status::Running => "cannot start an already running container".into(),
        Status::Stopped => "cannot start a container that has stopped".into(),
        other => format!("cannot start a container in the {other} state"),
    }
}

impl Error {
    /// Whether the container is not there.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound(_))
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}
