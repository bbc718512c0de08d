//! How failures are told on standard error: one line with the chain of causes, then hints, in the shape of Docker's
//! client for each kind.

use std::fmt::Write;

use ketch_engine::Error;

use crate::command::Command;
use crate::failure::{Exit, Failure};
use crate::{help, output};

/// Tells a failure of `command`, called as `invocation`, and gives the exit code.
pub fn failure(failure: &Failure, command: &Command, invocation: &str, debug: bool) -> Exit {
    if !failure.is_broken_pipe() && !matches!(failure, Failure::Told(_)) {
        output::warn(&text(failure, command, invocation, debug));
    }
    failure.exit()
}

/// Tells a failure from before a command was found.
pub fn early(failure: &Failure) -> Exit {
    let text = match failure {
        Failure::Flag(error) => {
            format!(
                "{error}\n\nUsage:  ketch [OPTIONS] COMMAND [ARG...]\n\nRun 'ketch --help' for more information"
            )
        }
        Failure::UnknownCommand { group, .. } if group == "ketch" => {
            format!("ketch: {failure}\n\nRun 'ketch --help' for more information")
        }
        Failure::UnknownCommand { group, .. } => {
            format!(
                "ketch: {failure}\n\nUsage:  {group}\n\nRun '{group} --help' for more information"
            )
        }
        other => other.to_string(),
    };
    if !failure.is_broken_pipe() {
        output::warn(&text);
    }
    failure.exit()
}

fn text(failure: &Failure, command: &Command, invocation: &str, debug: bool) -> String {
    let run_help = format!("Run '{invocation} --help' for more information");
    let usage = || help::usage(command, invocation);
    match failure {
        Failure::Flag(error) => format!("{error}\n\n{}\n\n{run_help}", usage()),
        Failure::OperandCount { message, see } => {
            format!(
                "ketch: {message}\n\n{}\n\n{see} '{invocation} --help' for more information",
                usage()
            )
        }
        Failure::Start(error) => format!("ketch: {}\n\n{run_help}", engine(error, debug)),
        Failure::Engine(error) | Failure::Exec(error) => format!("Error: {}", engine(error, debug)),
        Failure::Request { .. } => format!("ketch: {failure}\n\n{run_help}"),
        other => other.to_string(),
    }
}

/// An engine error: the chain on one line (with `-D`, one cause a line), then the hints.
pub fn engine(error: &Error, debug: bool) -> String {
    let mut text = if debug {
        let mut text = error.message.clone();
        for cause in &error.causes {
            let _ = write!(text, "\n  caused by: {cause}");
        }
        let _ = write!(text, "\n  kind: {:?}", error.kind);
        text
    } else {
        error.to_string()
    };
    for hint in &error.hints {
        let _ = write!(text, "\nhint: {hint}");
    }
    text
}

/// Tells one failed item of several; the others go on.
pub fn item(failure: &Failure, debug: bool) {
    output::warn(&match failure {
        Failure::Engine(error) | Failure::Start(error) => {
            format!("Error: {}", engine(error, debug))
        }
        other => other.to_string(),
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use ketch_engine::ErrorKind;

    #[test]
    fn the_chain_is_one_line_and_hints_follow() {
        let mut error = Error::new(ErrorKind::Unavailable, "cannot pull x").hint("try again");
        error.causes.push("no route to host".into());
        assert_eq!(
            engine(&error, false),
            "cannot pull x: no route to host\nhint: try again"
        );
        assert!(engine(&error, true).contains("\n  caused by: no route to host\n"));
    }

    #[test]
    fn run_failures_have_the_prefix_and_the_pointer_to_the_help() {
        let command = crate::commands::find(&["run"]).unwrap();
        let told = text(
            &Failure::Start(Error::new(ErrorKind::Invalid, "bad")),
            command,
            "ketch run",
            false,
        );
        assert_eq!(
            told,
            "ketch: bad\n\nRun 'ketch run --help' for more information"
        );
        let command = crate::commands::find(&["stop"]).unwrap();
        let told = text(
            &Failure::Engine(Error::new(ErrorKind::NotFound, "No such container: x")),
            command,
            "ketch stop",
            false,
        );
        assert_eq!(told, "Error: No such container: x");
    }
}
