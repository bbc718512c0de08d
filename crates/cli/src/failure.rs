//! What a command can fail with, the exit code of each, and how it is told.

use std::io;
use std::path::PathBuf;

use ketch_engine::{Error, ErrorKind};

/// The exit code of the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit(pub u8);

impl Exit {
    /// 0.
    pub const SUCCESS: Self = Self(0);
    /// 1: an ordinary failure.
    pub const FAILURE: Self = Self(1);

    /// A container's exit code as ours.
    pub fn from_code(code: i32) -> Self {
        Self(u8::try_from(code & 0xff).unwrap_or(u8::MAX))
    }

    /// Ended by a signal: 128 + its number.
    pub fn from_signal(signal: i32) -> Self {
        Self::from_code(128 + signal)
    }
}

/// A flag that is wrong: exit code 125 on any command.
#[derive(Debug, thiserror::Error, PartialEq)]
pub enum FlagError {
    /// No such long flag.
    #[error("unknown flag: {flag}")]
    Unknown {
        /// As typed, without its value.
        flag: String,
    },
    /// No such short flag.
    #[error("unknown shorthand flag: '{letter}' in {word}")]
    UnknownShort {
        /// The letter.
        letter: char,
        /// The word it stood in.
        word: String,
    },
    /// A value is missing.
    #[error("flag needs an argument: {flag}")]
    NeedsValue {
        /// `--name`, or `'n' in -n`.
        flag: String,
    },
    /// A value is wrong.
    #[error("invalid argument {value:?} for {flag:?} flag: {reason}")]
    Value {
        /// What was given.
        value: String,
        /// `-m, --memory`.
        flag: String,
        /// Why.
        reason: String,
    },
    /// Docker has it, we do not.
    #[error("{flag} is not supported")]
    Refused {
        /// The flag, with dashes.
        flag: String,
    },
    /// Anything else the parser found.
    #[error("{text}")]
    Syntax {
        /// The parser's first line.
        text: String,
    },
}

/// A failed command.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// A wrong flag.
    #[error("{0}")]
    Flag(FlagError),
    /// Too few or too many operands.
    #[error("{message}")]
    OperandCount {
        /// The complaint.
        message: String,
        /// `See` or `Run`, as Docker begins its pointer to the help.
        see: &'static str,
    },
    /// Not a command.
    #[error("unknown command: {command}")]
    UnknownCommand {
        /// With the program's name.
        command: String,
        /// The command group it was looked for in, with the program's name.
        group: String,
    },
    /// `help` for something that is not there.
    #[error("unknown help topic: {topic}")]
    UnknownTopic {
        /// What was asked for.
        topic: String,
    },
    /// Flags that contradict each other, or values that only fail together.
    #[error("{message}")]
    Request {
        /// Why.
        message: String,
    },
    /// An operand or the surroundings forbid it: a terminal that is not there, a file that should not be.
    #[error("{message}")]
    Usage {
        /// Why.
        message: String,
    },
    /// A verb of the engine failed.
    #[error(transparent)]
    Engine(#[from] Error),
    /// `run`'s start failed, or its create: the words decide between 125, 126 and 127.
    #[error(transparent)]
    Start(Error),
    /// `exec`'s process could not be started: as [`Failure::Start`], but otherwise an ordinary failure.
    #[error(transparent)]
    Exec(Error),
    /// A `--format` template.
    #[error("{message}")]
    Template {
        /// Why.
        message: String,
        /// 1 for listings, 64 for `inspect` and `events`.
        code: u8,
    },
    /// A file of the caller's.
    #[error("{action} {}: {source}", path.display())]
    File {
        /// `open`, `create`, …
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Our own streams.
    #[error("{stream}: {source}")]
    Stream {
        /// Which.
        stream: &'static str,
        /// Why.
        source: io::Error,
    },
    /// A build; the report is whole.
    #[error("{report}")]
    Build {
        /// What the builder says.
        report: String,
    },
    /// All has been told already.
    #[error("exit code {0}")]
    Told(u8),
}

impl Failure {
    /// Flags that do not go together.
    pub fn request(message: impl Into<String>) -> Self {
        Self::Request {
            message: message.into(),
        }
    }

    /// Something about the surroundings.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::Usage {
            message: message.into(),
        }
    }

    /// Writing to standard output failed.
    pub fn stdout(source: io::Error) -> Self {
        Self::Stream {
            stream: "standard output",
            source,
        }
    }

    /// Whether the reader of our output has gone: nothing to tell.
    pub fn is_broken_pipe(&self) -> bool {
        matches!(self, Self::Stream { source, .. } if source.kind() == io::ErrorKind::BrokenPipe)
    }

    /// The exit code of a command that failed so.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Flag(_) | Self::Request { .. } => Exit(125),
            Self::Start(error) => start_code(error),
            Self::Exec(error) => match start_code(error) {
                Exit(125) => kind_code(error.kind),
                code => code,
            },
            Self::Engine(error) => kind_code(error.kind),
            Self::Template { code, .. } | Self::Told(code) => Exit(*code),
            // What a shell reports for a program that SIGPIPE ended, as other programs are.
            _ if self.is_broken_pipe() => Exit(141),
            _ => Exit::FAILURE,
        }
    }
}

/// The table of error kinds: what an ordinary command exits with.
fn kind_code(kind: ErrorKind) -> Exit {
    match kind {
        ErrorKind::Interrupted => Exit(130),
        ErrorKind::NotFound
        | ErrorKind::Conflict
        | ErrorKind::Invalid
        | ErrorKind::NotModified
        | ErrorKind::Unauthorised
        | ErrorKind::Forbidden
        | ErrorKind::Unavailable
        | ErrorKind::Unsupported
        | ErrorKind::Internal => Exit::FAILURE,
    }
}

/// What `run` exits with when create or start failed: Docker's decision by the error's words.
pub fn start_code(error: &Error) -> Exit {
    let text = error.to_string().to_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| text.contains(word));
    if error.kind == ErrorKind::Interrupted {
        Exit(130)
    } else if has(&[
        "executable file not found",
        "no such file or directory",
        "system cannot find the file specified",
    ]) {
        Exit(127)
    } else if has(&["permission denied", "is a directory"]) {
        Exit(126)
    } else {
        Exit(125)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn start_failures_are_told_apart_by_their_words() {
        let code = |text: &str| start_code(&Error::new(ErrorKind::Invalid, text)).0;
        assert_eq!(
            code("exec: \"nosuch\": executable file not found in $PATH"),
            127
        );
        assert_eq!(
            code("exec: \"/x\": stat /x: no such file or directory"),
            127
        );
        assert_eq!(code("exec: \"/etc/passwd\": permission denied"), 126);
        assert_eq!(code("exec: \"/etc\": is a directory"), 126);
        assert_eq!(
            code("Conflict. The container name \"/x\" is already in use"),
            125
        );
        let nested = Error::new(ErrorKind::Internal, "cannot start").context("outer");
        assert_eq!(start_code(&nested).0, 125);
        let mut caused = Error::new(ErrorKind::Invalid, "cannot start");
        caused.causes.push("Permission denied (os error 13)".into());
        assert_eq!(start_code(&caused).0, 126);
    }

    #[test]
    fn each_failure_has_its_exit_code() {
        assert_eq!(
            Failure::Flag(FlagError::Unknown { flag: "--x".into() })
                .exit()
                .0,
            125
        );
        assert_eq!(Failure::request("conflicting options").exit().0, 125);
        assert_eq!(Failure::usage("the input device is not a TTY").exit().0, 1);
        assert_eq!(
            Failure::Engine(Error::new(ErrorKind::NotFound, "No such container: x"))
                .exit()
                .0,
            1
        );
        assert_eq!(
            Failure::Engine(Error::new(ErrorKind::Interrupted, "stopped"))
                .exit()
                .0,
            130
        );
        assert_eq!(
            Failure::Template {
                message: String::new(),
                code: 64
            }
            .exit()
            .0,
            64
        );
        assert_eq!(
            Failure::stdout(io::ErrorKind::BrokenPipe.into()).exit().0,
            141
        );
        assert_eq!(Exit::from_signal(9).0, 137);
    }
}
