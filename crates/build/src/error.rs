//! A build's errors. Those that are about the Dockerfile know file, line, column and text, and print BuildKit's
//! frame around the lines in question.

use std::fmt;
use std::path::PathBuf;

use ketch_engine::{Error as EngineError, ErrorKind};

/// Lines shown above and below the offending ones.
const FRAME_LINES: usize = 2;

/// Where in the Dockerfile something is: lines and columns count from 1, columns in characters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// Line.
    pub line: usize,
    /// Column.
    pub column: usize,
}

/// One thing wrong with the Dockerfile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// Where the offending text begins.
    pub at: Position,
    /// First and last line of the instruction.
    pub lines: (usize, usize),
    /// The offending text.
    pub text: String,
    /// What is wrong with it, in BuildKit's words where it has some.
    pub message: String,
    /// Whether it is a form that is right but that this version does not do.
    pub unsupported: bool,
}

/// The Dockerfile as errors quote it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Source {
    /// Name as the user knows it: `Dockerfile`, or the path given with `-f`.
    pub file: String,
    /// The whole text.
    pub text: String,
}

/// A step that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedStep {
    /// The Dockerfile.
    pub dockerfile: Source,
    /// First and last line of the instruction.
    pub lines: (usize, usize),
    /// Where the instruction begins.
    pub at: Position,
    /// The instruction's own text.
    pub text: String,
    /// The class of failure.
    pub kind: ErrorKind,
    /// What failed, in one line.
    pub message: String,
    /// What the user can do, one sentence each.
    pub hints: Vec<String>,
}

/// A failed build.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The Dockerfile has mistakes: all of them, in the order of the file. Nothing has run.
    #[error("{}", frames(dockerfile, mistakes))]
    Mistakes {
        /// The Dockerfile.
        dockerfile: Source,
        /// At least one.
        mistakes: Vec<Mistake>,
    },
    /// A step failed.
    #[error("{}{PREFIX}{}{}", frame(&failed.dockerfile, failed.lines, failed.at.line), failed.message, hint_lines(&failed.hints))]
    Step {
        /// Which, and why.
        failed: Box<FailedStep>,
    },
    /// The Dockerfile could not be read.
    #[error("{PREFIX}failed to read dockerfile: {path}: {error}", path = path.display())]
    Dockerfile {
        /// Where it was looked for.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// Reading the build context failed.
    #[error("{PREFIX}failed to read the build context: {call} {path}: {error}", path = path.display())]
    Context {
        /// The system call.
        call: &'static str,
        /// Relative to the context, or the context itself.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// A line of an ignore file is not a pattern.
    #[error("{PREFIX}{file}:{line}: bad pattern {pattern:?}: {reason}")]
    IgnoreFile {
        /// Which file.
        file: String,
        /// Line, from 1.
        line: usize,
        /// The pattern.
        pattern: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The request itself cannot be met.
    #[error("{PREFIX}{message}")]
    Request {
        /// [`ErrorKind::Invalid`] or [`ErrorKind::Unsupported`].
        kind: ErrorKind,
        /// Why.
        message: String,
    },
    /// The engine failed, and it is about no line of the Dockerfile.
    #[error("{PREFIX}{0}{hints}", hints = hint_lines(&.0.hints))]
    Engine(EngineError),
}

/// How BuildKit's client begins its last line.
const PREFIX: &str = "ERROR: failed to build: failed to solve: ";

impl BuildError {
    /// The class of failure, for exit codes and HTTP status.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Mistakes { mistakes, .. } if mistakes.iter().all(|m| m.unsupported) => {
                ErrorKind::Unsupported
            }
            Self::Mistakes { .. } | Self::IgnoreFile { .. } => ErrorKind::Invalid,
            Self::Step { failed } => failed.kind,
            Self::Request { kind, .. } => *kind,
            Self::Dockerfile { error, .. } | Self::Context { error, .. } => match error.kind() {
                std::io::ErrorKind::NotFound => ErrorKind::NotFound,
                std::io::ErrorKind::PermissionDenied => ErrorKind::Forbidden,
                _ => ErrorKind::Internal,
            },
            Self::Engine(error) => error.kind,
        }
    }

    /// The message without frame and prefix, as the Engine API reports it.
    pub fn message(&self) -> String {
        match self {
            Self::Mistakes { mistakes, .. } => mistakes
                .iter()
                .map(Mistake::sentence)
                .collect::<Vec<_>>()
                .join("\n"),
            Self::Step { failed } => failed.message.clone(),
            Self::Engine(error) => error.to_string(),
            other => other.to_string().trim_start_matches(PREFIX).to_owned(),
        }
    }

    /// What the user can do, one sentence each.
    pub fn hints(&self) -> &[String] {
        match self {
            Self::Engine(error) => &error.hints,
            Self::Step { failed } => &failed.hints,
            _ => &[],
        }
    }
}

impl From<EngineError> for BuildError {
    fn from(error: EngineError) -> Self {
        Self::Engine(error)
    }
}

impl From<BuildError> for EngineError {
    fn from(error: BuildError) -> Self {
        match error {
            BuildError::Engine(error) => error,
            other => EngineError::new(other.kind(), other.message()),
        }
    }
}

impl Mistake {
    /// BuildKit's sentence for it.
    fn sentence(&self) -> String {
        format!(
            "dockerfile parse error on line {}: {}",
            self.at.line, self.message
        )
    }
}

/// Each hint on a line of its own.
fn hint_lines(hints: &[String]) -> String {
    hints.iter().map(|hint| format!("\nhint: {hint}")).collect()
}

/// The frames of all mistakes, then one line for each.
fn frames(source: &Source, mistakes: &[Mistake]) -> String {
    let mut out = String::new();
    for mistake in mistakes {
        out.push_str(&frame(source, mistake.lines, mistake.at.line));
    }
    let sentences: Vec<_> = mistakes
        .iter()
        .map(|m| {
            let column = if m.at.column > 1 {
                format!(" (column {})", m.at.column)
            } else {
                String::new()
            };
            format!("{PREFIX}{}{column}", m.sentence())
        })
        .collect();
    out.push_str(&sentences.join("\n"));
    out
}

/// BuildKit's excerpt of the Dockerfile: `>>>` marks the instruction's lines. Ends with a newline.
fn frame(source: &Source, lines: (usize, usize), at_line: usize) -> String {
    use fmt::Write;
    let all: Vec<&str> = source.text.lines().collect();
    let (first, last) = (lines.0.max(1), lines.1.max(lines.0).max(1));
    let from = first.saturating_sub(FRAME_LINES).max(1);
    let to = (last + FRAME_LINES).min(all.len());
    let rule = "-".repeat(20);
    let mut out = format!(
        "{}:{}\n{rule}\n",
        source.file,
        if at_line == 0 { first } else { at_line }
    );
    for number in from..=to {
        let mark = if (first..=last).contains(&number) {
            ">>>"
        } else {
            "   "
        };
        let text = all.get(number - 1).copied().unwrap_or_default();
        let _ = writeln!(out, "{number:4} | {mark} {text}");
    }
    let _ = writeln!(out, "{rule}");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_run_prints_buildkits_frame() {
        let failed = FailedStep {
            dockerfile: Source {
                file: "Dockerfile".into(),
                text: "FROM busybox\n\nRUN false\n".into(),
            },
            lines: (3, 3),
            at: Position { line: 3, column: 1 },
            text: "RUN false".into(),
            kind: ErrorKind::Invalid,
            message: "process \"/bin/sh -c false\" did not complete successfully: exit code: 1"
                .into(),
            hints: Vec::new(),
        };
        let error = BuildError::Step {
            failed: Box::new(failed),
        };
        let expected = "Dockerfile:3\n--------------------\n   1 |     FROM busybox\n   2 |     \n   3 | >>> RUN false\n\
                        --------------------\nERROR: failed to build: failed to solve: process \"/bin/sh -c false\" \
                        did not complete successfully: exit code: 1";
        assert_eq!(error.to_string(), expected);
        assert_eq!(
            error.message(),
            "process \"/bin/sh -c false\" did not complete successfully: exit code: 1"
        );
    }

    #[test]
    fn every_mistake_is_told() {
        let mistake = |line, message: &str| Mistake {
            at: Position { line, column: 1 },
            lines: (line, line),
            text: "FOO".into(),
            message: message.into(),
            unsupported: false,
        };
        let error = BuildError::Mistakes {
            dockerfile: Source {
                file: "Dockerfile".into(),
                text: "FROM a\nFOO b\nBAR c\n".into(),
            },
            mistakes: vec![
                mistake(2, "unknown instruction: FOO"),
                mistake(3, "unknown instruction: BAR"),
            ],
        };
        let text = error.to_string();
        assert!(text.contains("   2 | >>> FOO b\n"), "{text}");
        assert!(text.ends_with(
            "dockerfile parse error on line 2: unknown instruction: FOO\nERROR: failed to build: failed to solve: \
             dockerfile parse error on line 3: unknown instruction: BAR"
        ));
        assert_eq!(error.kind(), ErrorKind::Invalid);
    }

    #[test]
    fn lines_past_the_end_do_not_panic() {
        let source = Source {
            file: "Dockerfile".into(),
            text: "FROM a".into(),
        };
        assert!(frame(&source, (7, 9), 7).starts_with("Dockerfile:7"));
        assert!(frame(&Source::default(), (0, 0), 0).starts_with(":1"));
    }
}
