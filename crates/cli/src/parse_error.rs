//! clap's errors in pflag's words, which tools and people know from Docker.

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::failure::FlagError;

/// An error of parsing `words` against `parser`.
pub fn translate(error: &clap::Error, parser: &clap::Command, words: &[OsString]) -> FlagError {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        Some(ContextValue::Strings(texts)) => texts.first().cloned(),
        _ => None,
    };
    let argument = text(ContextKind::InvalidArg).unwrap_or_default();
    match error.kind() {
        ErrorKind::UnknownArgument => unknown(&argument),
        ErrorKind::InvalidValue | ErrorKind::WrongNumberOfValues | ErrorKind::TooFewValues
            if text(ContextKind::InvalidValue).is_none_or(|value| value.is_empty()) =>
        {
            FlagError::NeedsValue {
                flag: needy(&argument, words),
            }
        }
        ErrorKind::ValueValidation | ErrorKind::InvalidValue => FlagError::Value {
            value: text(ContextKind::InvalidValue).unwrap_or_default(),
            flag: full_name(&argument, parser),
            reason: std::error::Error::source(error)
                .map(ToString::to_string)
                .unwrap_or_default(),
        },
        ErrorKind::TooManyValues | ErrorKind::NoEquals => FlagError::Syntax {
            text: format!("unexpected value for {argument}"),
        },
        ErrorKind::InvalidUtf8 => FlagError::Syntax {
            text: "an argument is not valid UTF-8".into(),
        },
        _ => bare(error),
    }
}

/// An error without more to say than its first line.
pub fn bare(error: &clap::Error) -> FlagError {
    let text = error.to_string();
    let line = text.lines().next().unwrap_or_default();
    FlagError::Syntax {
        text: line.strip_prefix("error: ").unwrap_or(line).to_owned(),
    }
}

fn unknown(argument: &str) -> FlagError {
    if argument.starts_with("--") {
        let flag = argument.split_once('=').map_or(argument, |(name, _)| name);
        return FlagError::Unknown {
            flag: flag.to_owned(),
        };
    }
    let letter = argument.chars().nth(1).unwrap_or('-');
    FlagError::UnknownShort {
        letter,
        word: argument.to_owned(),
    }
}

/// `--memory`, or `'u' in -u`: a value can only be missing after the last word.
fn needy(argument: &str, words: &[OsString]) -> String {
    match words.last().and_then(|word| word.to_str()) {
        Some(word) if word.starts_with('-') && !word.starts_with("--") => {
            format!("'{}' in {word}", word.chars().next_back().unwrap_or('-'))
        }
        Some(word) if word.starts_with("--") => word.to_owned(),
        _ => flag_name(argument).to_owned(),
    }
}

fn flag_name(argument: &str) -> &str {
    let end = argument.find([' ', '=', '[']).unwrap_or(argument.len());
    &argument[..end]
}

/// `-m, --memory` for a flag that has both names.
fn full_name(argument: &str, parser: &clap::Command) -> String {
    let name = flag_name(argument);
    let found = parser
        .get_arguments()
        .find(|arg| match name.strip_prefix("--") {
            Some(long) => {
                arg.get_long() == Some(long)
                    || arg.get_all_aliases().is_some_and(|all| all.contains(&long))
            }
            None => name
                .chars()
                .nth(1)
                .is_some_and(|short| arg.get_short() == Some(short)),
        });
    match found {
        Some(arg) => match (arg.get_short(), arg.get_long()) {
            (Some(short), Some(long)) => format!("-{short}, --{long}"),
            (None, Some(long)) => format!("--{long}"),
            (Some(short), None) => format!("-{short}"),
            (None, None) => name.to_owned(),
        },
        None => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::integer;

    #[derive(clap::Args)]
    struct Probe {
        #[arg(short = 't', long, value_name = "int", value_parser = integer)]
        timeout: Option<i64>,
        #[arg(short, long)]
        user: Option<String>,
        #[arg(long)]
        rm: bool,
    }

    impl crate::command::Verb for Probe {
        fn run(self, _: &crate::context::Context, _: Vec<String>) -> crate::command::Outcome {
            let _ = (self.timeout, self.user, self.rm);
            Ok(crate::failure::Exit::SUCCESS)
        }
    }

    fn failure(words: &[&str]) -> String {
        let command = crate::command::Command::of::<Probe>();
        let words: Vec<OsString> = words.iter().map(OsString::from).collect();
        command.matches(&words).unwrap_err().to_string()
    }

    #[test]
    fn errors_read_as_docker_tells_them() {
        assert_eq!(failure(&["--nosuch"]), "unknown flag: --nosuch");
        assert_eq!(failure(&["--nosuch=1"]), "unknown flag: --nosuch");
        assert_eq!(failure(&["-z"]), "unknown shorthand flag: 'z' in -z");
        assert_eq!(failure(&["--user"]), "flag needs an argument: --user");
        assert_eq!(failure(&["x", "-u"]), "flag needs an argument: 'u' in -u");
        assert_eq!(
            failure(&["-t", "abc"]),
            "invalid argument \"abc\" for \"-t, --timeout\" flag: strconv.ParseInt: parsing \"abc\": invalid syntax"
        );
        assert_eq!(
            failure(&["--rm=x"]),
            "invalid argument \"x\" for \"--rm\" flag: strconv.ParseBool: parsing \"x\": invalid syntax"
        );
    }
}
