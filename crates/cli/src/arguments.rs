//! The words before a command's own: global options, then the command's name (one word or two).

use std::ffi::{OsStr, OsString};

use crate::command::Command;
use crate::commands;
use crate::context::GlobalOptions;
use crate::failure::{Failure, FlagError};

/// What the command line asks for.
pub enum Request<'a> {
    /// A command; its words follow.
    Command {
        /// Which.
        command: &'static Command,
        /// `ketch container ls`, as called.
        invocation: String,
        /// The words after its name.
        words: &'a [OsString],
    },
    /// A page to print on standard output.
    Page(String),
    /// No command at all, or a group without one: its page, on standard error.
    Nothing(String),
    /// `--version`.
    Version,
}

/// Global options with a value, and whether we have them.
const VALUED: [(&str, Option<char>, bool); 9] = [
    ("config", None, true),
    ("data-root", None, true),
    ("run-root", None, true),
    ("log-level", Some('l'), true),
    ("host", Some('H'), false),
    ("context", Some('c'), false),
    ("tlscacert", None, false),
    ("tlscert", None, false),
    ("tlskey", None, false),
];

/// Global options without one.
const SWITCHES: [(&str, Option<char>, bool); 5] = [
    ("debug", Some('D'), true),
    ("version", Some('v'), true),
    ("help", Some('h'), true),
    ("tls", None, false),
    ("tlsverify", None, false),
];

/// Reads the global options into `options` and finds the command.
///
/// # Errors
/// A wrong flag (exit 125) or an unknown command (exit 1).
pub fn read<'a>(
    words: &'a [OsString],
    options: &mut GlobalOptions,
) -> Result<Request<'a>, Failure> {
    let (mut version, mut help) = (false, false);
    let mut at = 0;
    while let Some(word) = words
        .get(at)
        .and_then(|word| word.to_str())
        .filter(|word| word.starts_with('-'))
    {
        at += 1;
        if word == "--" || word == "-" {
            break;
        }
        let Flag { name, value, used } = flag(word, words.get(at))?;
        at += used;
        match name {
            "config" => options.config = Some(value.into()),
            "data-root" => options.data_root = value.into(),
            "run-root" => options.run_root = value.into(),
            "log-level" => check_log_level(&value)?,
            "debug" => options.debug = value == "true",
            "version" => version = value == "true",
            "help" => help = value == "true",
            other => {
                return Err(Failure::Flag(FlagError::Refused {
                    flag: format!("--{other}"),
                }));
            }
        }
    }
    if version {
        return Ok(Request::Version);
    }
    if help {
        return Ok(Request::Page(crate::help::top()));
    }
    find(&words[at..])
}

struct Flag {
    name: &'static str,
    value: String,
    used: usize,
}

/// One flag word, with the next word if it is the flag's value.
fn flag(word: &str, next: Option<&OsString>) -> Result<Flag, Failure> {
    let (named, attached) = match word.strip_prefix("--") {
        Some(long) => match long.split_once('=') {
            Some((name, value)) => (Named::Long(name), Some(value)),
            None => (Named::Long(long), None),
        },
        None => {
            let mut letters = word[1..].chars();
            let letter = letters.next().unwrap_or('-');
            let rest = letters.as_str();
            (
                Named::Short(letter),
                (!rest.is_empty()).then(|| rest.strip_prefix('=').unwrap_or(rest)),
            )
        }
    };
    if let Some((name, short, _)) = SWITCHES.into_iter().find(|entry| named.is(entry)) {
        let value = attached.unwrap_or("true");
        if !matches!(value, "true" | "false" | "1" | "0" | "t" | "f") {
            return Err(Failure::Flag(FlagError::Value {
                value: value.to_owned(),
                flag: short.map_or(format!("--{name}"), |short| format!("-{short}, --{name}")),
                reason: format!("strconv.ParseBool: parsing {value:?}: invalid syntax"),
            }));
        }
        let value = if matches!(value, "true" | "1" | "t") {
            "true"
        } else {
            "false"
        };
        return Ok(Flag {
            name,
            value: value.into(),
            used: 0,
        });
    }
    let Some((name, ..)) = VALUED.into_iter().find(|entry| named.is(entry)) else {
        return Err(Failure::Flag(match named {
            Named::Long(name) => FlagError::Unknown {
                flag: format!("--{name}"),
            },
            Named::Short(letter) => FlagError::UnknownShort {
                letter,
                word: word.to_owned(),
            },
        }));
    };
    match (attached, next.and_then(|next| next.to_str())) {
        (Some(value), _) => Ok(Flag {
            name,
            value: value.into(),
            used: 0,
        }),
        (None, Some(value)) => Ok(Flag {
            name,
            value: value.into(),
            used: 1,
        }),
        (None, None) => Err(Failure::Flag(FlagError::NeedsValue {
            flag: named.shown(),
        })),
    }
}

#[derive(Clone, Copy)]
enum Named<'a> {
    Long(&'a str),
    Short(char),
}

impl Named<'_> {
    fn is(self, (long, short, _): &(&str, Option<char>, bool)) -> bool {
        match self {
            Self::Long(name) => name == *long,
            Self::Short(letter) => *short == Some(letter),
        }
    }

    fn shown(self) -> String {
        match self {
            Self::Long(name) => format!("--{name}"),
            Self::Short(letter) => format!("'{letter}' in -{letter}"),
        }
    }
}

fn check_log_level(level: &str) -> Result<(), Failure> {
    if matches!(
        level,
        "debug" | "info" | "warn" | "error" | "fatal" | "trace" | "panic" | "warning"
    ) {
        return Ok(());
    }
    Err(Failure::usage(format!(
        "Unable to parse logging level: {level}"
    )))
}

fn find(words: &[OsString]) -> Result<Request<'_>, Failure> {
    let names: Vec<&str> = words
        .iter()
        .take(2)
        .map(|word| word.to_str().unwrap_or_default())
        .collect();
    let Some(first) = names.first().copied() else {
        return Ok(Request::Nothing(crate::help::top()));
    };
    if first == "help" {
        return topic(&words[1..]);
    }
    if let Some(command) = names
        .get(1)
        .and_then(|second| commands::find(&[first, second]))
    {
        return Ok(Request::Command {
            command,
            invocation: format!("ketch {first} {}", names[1]),
            words: &words[2..],
        });
    }
    if let Some(command) = commands::find(&[first]) {
        return Ok(Request::Command {
            command,
            invocation: format!("ketch {first}"),
            words: &words[1..],
        });
    }
    let full = names.join(" ");
    if let Some(name) = commands::REFUSED
        .into_iter()
        .find(|name| *name == first || *name == full)
    {
        return Err(Failure::usage(format!("ketch {name} is not supported")));
    }
    if let Some(page) = crate::help::group(first) {
        return match words.get(1).and_then(|word| word.to_str()) {
            None => Ok(Request::Nothing(page)),
            Some("--help" | "-h") => Ok(Request::Page(page)),
            Some(flag) if flag.starts_with('-') => Err(Failure::Flag(FlagError::Unknown {
                flag: flag.to_owned(),
            })),
            Some(other) => Err(Failure::UnknownCommand {
                command: format!("ketch {first} {other}"),
                group: format!("ketch {first}"),
            }),
        };
    }
    Err(Failure::UnknownCommand {
        command: format!("ketch {first}"),
        group: "ketch".into(),
    })
}

fn topic(words: &[OsString]) -> Result<Request<'static>, Failure> {
    static HELP: std::sync::LazyLock<[OsString; 1]> =
        std::sync::LazyLock::new(|| ["--help".into()]);
    let names: Vec<&str> = words
        .iter()
        .filter_map(|word| OsStr::to_str(word))
        .collect();
    if names.is_empty() {
        return Ok(Request::Page(crate::help::top()));
    }
    if let Some(command) = commands::find(&names) {
        return Ok(Request::Command {
            command,
            invocation: format!("ketch {}", names.join(" ")),
            words: &*HELP,
        });
    }
    match names.as_slice() {
        [group] => crate::help::group(group).map(Request::Page),
        _ => None,
    }
    .ok_or_else(|| Failure::UnknownTopic {
        topic: names.join(" "),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<OsString> {
        text.split_whitespace().map(OsString::from).collect()
    }

    fn invocation(text: &str) -> Result<String, String> {
        let words = words(text);
        match read(&words, &mut GlobalOptions::default()) {
            Ok(Request::Command {
                invocation, words, ..
            }) => Ok(format!("{invocation} [{}]", words.len())),
            Ok(Request::Page(_)) => Ok("page".into()),
            Ok(Request::Nothing(_)) => Ok("nothing".into()),
            Ok(Request::Version) => Ok("version".into()),
            Err(failure) => Err(format!("{} {failure}", failure.exit().0)),
        }
    }

    #[test]
    fn both_forms_of_a_command_are_found() {
        assert_eq!(invocation("ps -a").unwrap(), "ketch ps [1]");
        assert_eq!(
            invocation("container ls -a").unwrap(),
            "ketch container ls [1]"
        );
        assert_eq!(
            invocation("container list").unwrap(),
            "ketch container list [0]"
        );
        assert_eq!(invocation("image rm x").unwrap(), "ketch image rm [1]");
        assert_eq!(invocation("run image ls").unwrap(), "ketch run [2]");
        assert_eq!(invocation("container").unwrap(), "nothing");
        assert_eq!(invocation("help run").unwrap(), "ketch run [1]");
        assert_eq!(invocation("").unwrap(), "nothing");
    }

    #[test]
    fn unknown_names_and_flags_are_told() {
        assert_eq!(
            invocation("nosuch").unwrap_err(),
            "1 unknown command: ketch nosuch"
        );
        assert_eq!(
            invocation("image nosuch").unwrap_err(),
            "1 unknown command: ketch image nosuch"
        );
        assert_eq!(
            invocation("--nosuch ps").unwrap_err(),
            "125 unknown flag: --nosuch"
        );
        assert_eq!(
            invocation("-z").unwrap_err(),
            "125 unknown shorthand flag: 'z' in -z"
        );
        assert_eq!(
            invocation("--config").unwrap_err(),
            "125 flag needs an argument: --config"
        );
        assert_eq!(
            invocation("-H unix:///x ps").unwrap_err(),
            "125 --host is not supported"
        );
        assert_eq!(
            invocation("swarm init").unwrap_err(),
            "1 ketch swarm is not supported"
        );
        assert_eq!(
            invocation("help nosuch").unwrap_err(),
            "1 unknown help topic: nosuch"
        );
    }

    #[test]
    fn roots_are_taken_from_options() {
        let words = words("--data-root /d --run-root=/r -D -l debug ps");
        let mut options = GlobalOptions::default();
        assert!(matches!(
            read(&words, &mut options),
            Ok(Request::Command { .. })
        ));
        assert_eq!(options.data_root.to_str(), Some("/d"));
        assert_eq!(options.run_root.to_str(), Some("/r"));
        assert!(options.debug);
    }
}
