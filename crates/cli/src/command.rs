//! What a command is: names, usage, operand count, flags, and how its words are parsed.
//!
//! The flag grammar is Docker's (pflag): booleans accept `--flag=false`, short flags cluster, and some commands
//! stop reading flags at the first operand. clap does the parsing; only the chosen command's parser is ever built.

use std::ffi::OsString;

use clap::builder::ValueParser;
use clap::{Arg, ArgAction, ArgMatches};

use crate::context::Context;
use crate::failure::{Exit, Failure, FlagError};
use crate::{help, parse_error};

/// What a command's `run` gives back.
pub type Outcome = Result<Exit, Failure>;

/// The flags of one command, and what happens when they are given.
pub trait Verb: clap::Args {
    /// Runs the command. `operands` are the words that are not flags; their count has been checked.
    ///
    /// # Errors
    /// What is to be told to the user.
    fn run(self, context: &Context, operands: Vec<String>) -> Outcome;
}

/// How many operands a command takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arity {
    /// None.
    None,
    /// Exactly so many.
    Exactly(usize),
    /// At least so many.
    AtLeast(usize),
    /// At most so many.
    AtMost(usize),
    /// Between the two, both included.
    Between(usize, usize),
}

impl Arity {
    /// The complaint about `count` operands, in Docker's words; None if the count is right.
    pub fn complaint(self, command: &str, count: usize) -> Option<String> {
        let plural = |n: usize| if n == 1 { "argument" } else { "arguments" };
        let (wrong, text) = match self {
            Self::None => (count != 0, "accepts no arguments".to_owned()),
            Self::Exactly(n) => (count != n, format!("requires {n} {}", plural(n))),
            Self::AtLeast(n) => (count < n, format!("requires at least {n} {}", plural(n))),
            Self::AtMost(n) => (count > n, format!("requires at most {n} {}", plural(n))),
            Self::Between(low, high) => (
                count < low || count > high,
                format!(
                    "requires at least {low} and at most {high} {}",
                    plural(high)
                ),
            ),
        };
        wrong.then(|| format!("'{command}' {text}"))
    }
}

/// A flag that Docker has and this command refuses by name.
#[derive(Debug, Clone, Copy)]
pub struct Refused {
    /// Long name, without dashes.
    pub long: &'static str,
    /// Short name.
    pub short: Option<char>,
    /// Whether it takes no value.
    pub boolean: bool,
}

impl Refused {
    /// A flag with a value.
    pub const fn value(long: &'static str) -> Self {
        Self {
            long,
            short: None,
            boolean: false,
        }
    }

    /// A flag without a value.
    pub const fn boolean(long: &'static str) -> Self {
        Self {
            long,
            short: None,
            boolean: true,
        }
    }

    /// The same flag with a short name.
    #[must_use]
    pub const fn short(mut self, short: char) -> Self {
        self.short = Some(short);
        self
    }
}

/// One command of the command line.
pub struct Command {
    /// Its full names, without the program's: `["container stop", "stop"]`.
    pub names: &'static [&'static str],
    /// Operands and options, as the usage line shows them.
    pub usage: &'static str,
    /// One sentence.
    pub about: &'static str,
    /// Further lines of the help, if any.
    pub details: &'static str,
    /// Operand count.
    pub arity: Arity,
    /// Whether flags may follow operands.
    pub interspersed: bool,
    /// Whether `-h` asks for help (with a deprecation notice).
    pub short_help: bool,
    /// Flags refused by name.
    pub refused: &'static [Refused],
    /// Adds the flags to a parser.
    pub augment: fn(clap::Command) -> clap::Command,
    /// Runs what was parsed.
    pub run: fn(&ArgMatches, &Context, Vec<String>) -> Outcome,
}

impl Command {
    /// A command whose flags are `A`; the caller fills in the rest.
    pub const fn of<A: Verb>() -> Self {
        Self {
            names: &[],
            usage: "",
            about: "",
            details: "",
            arity: Arity::None,
            interspersed: true,
            short_help: true,
            refused: &[],
            augment: A::augment_args,
            run: run_matched::<A>,
        }
    }

    /// The parser of its flags.
    pub fn parser(&self) -> clap::Command {
        let bare = clap::Command::new("ketch")
            .no_binary_name(true)
            .disable_help_flag(true)
            .disable_version_flag(true);
        let mut parser = (self.augment)(bare.args_override_self(true)).mut_args(adapt);
        for flag in self.refused {
            let mut arg = Arg::new(flag.long)
                .long(flag.long)
                .hide(true)
                .action(ArgAction::Append);
            if let Some(short) = flag.short {
                arg = arg.short(short);
            }
            if flag.boolean {
                arg = arg
                    .num_args(0..=1)
                    .require_equals(true)
                    .default_missing_value("true");
            } else {
                arg = arg.allow_hyphen_values(true);
            }
            parser = parser.arg(arg);
        }
        parser = parser.arg(switch(Arg::new("help").long("help").help("Print usage")));
        if self.short_help {
            parser = parser.arg(switch(Arg::new("short help").short('h').hide(true)));
        }
        parser.arg(Arg::new("operands").num_args(0..).hide(true))
    }

    /// Parses `words`.
    ///
    /// # Errors
    /// A flag error in pflag's words.
    pub fn matches(&self, words: &[OsString]) -> Result<ArgMatches, Failure> {
        let parser = self.parser();
        let parsed = if self.interspersed {
            parser.try_get_matches_from(words)
        } else {
            let (flags, operands) = words.split_at(first_operand(&parser, words));
            let separator = OsString::from("--");
            let operands = operands
                .strip_prefix(std::slice::from_ref(&separator))
                .unwrap_or(operands);
            let separator = (!operands.is_empty()).then_some(&separator);
            parser.try_get_matches_from(flags.iter().chain(separator).chain(operands))
        };
        parsed.map_err(|error| Failure::Flag(parse_error::translate(&error, &self.parser(), words)))
    }

    /// Parses `words` and runs the command.
    ///
    /// # Errors
    /// A flag error (exit 125), an operand-count error (exit 1), or the command's own.
    pub fn invoke(&self, context: &Context, words: &[OsString]) -> Outcome {
        let matches = self.matches(words)?;
        let short_help = self.short_help && matches.get_flag("short help");
        if short_help || matches.get_flag("help") {
            if short_help {
                crate::output::warn("Flag shorthand -h has been deprecated, use --help");
            }
            help::command(self, context.invocation())?;
            return Ok(Exit::SUCCESS);
        }
        let operands: Vec<String> = matches
            .get_many::<String>("operands")
            .map(|all| all.cloned().collect())
            .unwrap_or_default();
        if let Some(message) = self.arity.complaint(context.invocation(), operands.len()) {
            let see = if matches!(self.arity, Arity::AtLeast(_)) {
                "See"
            } else {
                "Run"
            };
            return Err(Failure::OperandCount { message, see });
        }
        for flag in self.refused {
            if let Some(value) = matches
                .get_many::<String>(flag.long)
                .and_then(|mut all| all.next_back())
                && !(flag.boolean && value == "false")
            {
                return Err(Failure::Flag(FlagError::Refused {
                    flag: format!("--{}", flag.long),
                }));
            }
        }
        (self.run)(&matches, context, operands)
    }
}

/// Where flags stop: at the first word that is neither a flag nor a flag's value. A `--` of the user's is left out of
/// the flags, but an unknown flag is not: it is for the parser to complain.
fn first_operand(parser: &clap::Command, words: &[OsString]) -> usize {
    let takes_value = |find: &dyn Fn(&Arg) -> bool| {
        parser.get_arguments().find(|arg| find(arg)).map(|arg| {
            arg.get_num_args()
                .is_none_or(|range| range.min_values() > 0)
        })
    };
    let mut at = 0;
    while let Some(word) = words.get(at).and_then(|word| word.to_str()) {
        let needs_next = if let Some(long) = word.strip_prefix("--") {
            if long.is_empty() {
                return at;
            }
            let is_long = |arg: &Arg| {
                arg.get_long() == Some(long)
                    || arg.get_all_aliases().is_some_and(|all| all.contains(&long))
            };
            !long.contains('=') && takes_value(&is_long) == Some(true)
        } else if let Some(cluster) = word.strip_prefix('-').filter(|cluster| !cluster.is_empty()) {
            let valued = cluster
                .char_indices()
                .take_while(|(_, letter)| *letter != '=')
                .find(|(_, letter)| {
                    takes_value(&|arg: &Arg| arg.get_short() == Some(*letter)) == Some(true)
                });
            valued.is_some_and(|(index, letter)| index + letter.len_utf8() == cluster.len())
        } else {
            return at;
        };
        at += if needs_next { 2 } else { 1 };
    }
    at.min(words.len())
}

fn run_matched<A: Verb>(matches: &ArgMatches, context: &Context, operands: Vec<String>) -> Outcome {
    let flags =
        A::from_arg_matches(matches).map_err(|error| Failure::Flag(parse_error::bare(&error)))?;
    flags.run(context, operands)
}

/// Gives every flag pflag's grammar: booleans take an optional `=value`, values may start with a dash.
fn adapt(arg: Arg) -> Arg {
    if arg.is_positional() {
        return arg;
    }
    if matches!(arg.get_action(), ArgAction::SetTrue)
        || arg.get_value_parser().type_id() == std::any::TypeId::of::<bool>()
    {
        return switch(arg);
    }
    if arg
        .get_num_args()
        .is_some_and(|range| range.min_values() == 0)
    {
        return arg;
    }
    arg.allow_hyphen_values(true)
}

fn switch(arg: Arg) -> Arg {
    let default = match arg.get_default_values() {
        [] => "false".into(),
        [first, ..] => first.to_owned(),
    };
    arg.action(ArgAction::Set)
        .num_args(0..=1)
        .require_equals(true)
        .default_missing_value("true")
        .default_value(default)
        .value_parser(ValueParser::new(boolean))
}

/// Go's `strconv.ParseBool`.
fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(format!(
            "strconv.ParseBool: parsing {text:?}: invalid syntax"
        )),
    }
}

/// Value parser for Go's `int` flags.
///
/// # Errors
/// In the words of `strconv.ParseInt`.
pub fn integer(text: &str) -> Result<i64, String> {
    let (digits, radix) = match text.strip_prefix("0x") {
        Some(hex) => (hex, 16),
        None => (text, 10),
    };
    i64::from_str_radix(digits, radix).map_err(|error| match error.kind() {
        std::num::IntErrorKind::PosOverflow | std::num::IntErrorKind::NegOverflow => {
            format!("strconv.ParseInt: parsing {text:?}: value out of range")
        }
        _ => format!("strconv.ParseInt: parsing {text:?}: invalid syntax"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operand_counts_are_told_in_docker_words() {
        assert_eq!(
            Arity::None.complaint("ketch ps", 1).unwrap(),
            "'ketch ps' accepts no arguments"
        );
        assert_eq!(
            Arity::AtLeast(1).complaint("ketch rm", 0).unwrap(),
            "'ketch rm' requires at least 1 argument"
        );
        assert_eq!(
            Arity::Exactly(2).complaint("ketch tag", 1).unwrap(),
            "'ketch tag' requires 2 arguments"
        );
        assert_eq!(
            Arity::Between(1, 2).complaint("ketch port", 3).unwrap(),
            "'ketch port' requires at least 1 and at most 2 arguments"
        );
        assert_eq!(Arity::Between(1, 2).complaint("ketch port", 2), None);
        assert_eq!(Arity::AtMost(1).complaint("ketch volume create", 1), None);
    }

    #[derive(clap::Args)]
    struct Probe {
        #[arg(short, long)]
        detach: bool,
        #[arg(short, long)]
        interactive: bool,
        #[arg(short, long)]
        tty: bool,
        #[arg(long, default_value = "true", action = ArgAction::Set)]
        sig_proxy: bool,
        #[arg(short, long)]
        publish: Vec<String>,
        #[arg(long, value_parser = integer)]
        last: Option<i64>,
    }

    impl Verb for Probe {
        fn run(self, _: &Context, _: Vec<String>) -> Outcome {
            Ok(Exit::SUCCESS)
        }
    }

    fn parse(interspersed: bool, words: &[&str]) -> (Probe, Vec<String>) {
        use clap::FromArgMatches;
        let command = Command {
            interspersed,
            ..Command::of::<Probe>()
        };
        let words: Vec<OsString> = words.iter().map(OsString::from).collect();
        let matches = command.matches(&words).unwrap();
        let operands = matches
            .get_many::<String>("operands")
            .map(|all| all.cloned().collect())
            .unwrap_or_default();
        (Probe::from_arg_matches(&matches).unwrap(), operands)
    }

    #[test]
    fn booleans_cluster_and_take_values() {
        let (probe, operands) = parse(false, &["-itd", "image", "-x", "--", "-y"]);
        assert!(probe.interactive && probe.tty && probe.detach && probe.sig_proxy);
        assert_eq!(operands, ["image", "-x", "--", "-y"]);
        let (probe, _) = parse(true, &["--detach=true", "--sig-proxy=false", "-t=0", "x"]);
        assert!(probe.detach && !probe.sig_proxy && !probe.tty);
        assert!(
            !parse(true, &["-d", "--detach=false"]).0.detach,
            "the last one counts"
        );
    }

    #[test]
    fn values_attach_to_short_flags_and_may_begin_with_a_dash() {
        let (probe, operands) = parse(
            true,
            &["-p8080:80", "x", "-p=81:81", "-p", "82:82", "--last", "-1"],
        );
        assert_eq!(probe.publish, ["8080:80", "81:81", "82:82"]);
        assert_eq!(probe.last, Some(-1));
        assert_eq!(operands, ["x"]);
        let (_, operands) = parse(true, &["--", "-p"]);
        assert_eq!(operands, ["-p"]);
    }

    #[test]
    fn flags_stop_at_the_first_operand_where_they_must() {
        let (probe, operands) = parse(
            false,
            &[
                "-dp80:80", "-p", "81:81", "--last=2", "-tp=82", "image", "-d", "--", "-p",
            ],
        );
        assert_eq!(probe.publish, ["80:80", "81:81", "82"]);
        assert_eq!(operands, ["image", "-d", "--", "-p"]);
        let (probe, operands) = parse(false, &["-d", "--", "-image"]);
        assert!(probe.detach);
        assert_eq!(operands, ["-image"]);
        assert_eq!(parse(false, &["-", "-d"]).1, ["-", "-d"]);
    }
}
