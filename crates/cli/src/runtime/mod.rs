//! The OCI runtime command: `ketch runtime`, or the program under the name `ketch-runtime`. Flags, output and exit
//! codes are runc's, so that what uses runc (podman, containerd, dockerd) can use this.

mod console;
mod create;
mod delete;
mod events;
mod exec;
mod failure;
mod features;
mod foreground;
mod kill;
mod list;
mod log;
mod pause;
mod ps;
mod refused;
mod rootless;
mod run;
mod shield;
mod spec;
mod start;
mod state;
mod update;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use ketch_runtime::oci::Root;

use crate::VERSION;
use failure::Failure;
use log::Log;

/// The name that chooses this role.
pub const PROGRAM: &str = "ketch-runtime";

/// An OCI runtime: makes containers from bundles. Flags, outputs and exit codes are those of runc.
#[derive(Parser)]
#[command(name = PROGRAM, disable_version_flag = true, args_override_self = true)]
struct Arguments {
    #[command(flatten)]
    globals: Globals,
    #[command(subcommand)]
    verb: Option<Verb>,
}

/// Options before the verb.
#[derive(clap::Args)]
pub struct Globals {
    /// Where the state of containers is kept; should be on a tmpfs [default: /run/ketch/runtime]
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// File that errors are written to besides standard error
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    /// Form of errors
    #[arg(long, value_name = "text|json", default_value = "text")]
    log_format: log::Format,
    /// cgroupsPath is slice:prefix:name, made by systemd
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false", value_parser = boolean)]
    systemd_cgroup: bool,
    /// Log more
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false", value_parser = boolean)]
    debug: bool,
    /// Ignore that cgroups may not be changed (true, false or auto)
    #[arg(long, value_name = "BOOL", default_value = "auto", value_parser = ["true", "false", "auto"])]
    rootless: String,
    /// Not supported: there is no checkpoint and no restore
    #[arg(long, value_name = "PATH", hide = true)]
    criu: Option<PathBuf>,
    /// Print the version
    #[arg(short, long)]
    version: bool,
}

#[derive(Subcommand)]
enum Verb {
    Checkpoint(refused::Checkpoint),
    Create(create::Create),
    Delete(delete::Delete),
    Events(events::Events),
    Exec(exec::Exec),
    Features(features::Features),
    Kill(kill::Kill),
    List(list::List),
    Pause(pause::Pause),
    Ps(ps::Ps),
    Restore(refused::Restore),
    Resume(pause::Resume),
    Run(run::Run),
    Spec(spec::Spec),
    Start(start::Start),
    State(state::State),
    Update(update::Update),
}

impl Globals {
    /// Whether a container without a cgroup will do where none can be made.
    fn ignores_cgroups(&self) -> bool {
        match self.rootless.as_str() {
            "true" => true,
            "false" => false,
            _ => rootless::may_lack_cgroups(),
        }
    }
}

/// What a verb needs besides its own flags.
pub struct Context {
    globals: Globals,
    root: Root,
    log: Log,
}

/// The result of a verb: the exit status.
pub type Outcome = Result<u8, Failure>;

/// A boolean as Go reads it.
fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(format!("invalid boolean value {text:?}")),
    }
}

/// Verbs of runc that are refused by name.
#[cfg(test)]
pub const REFUSED: [&str; 2] = ["checkpoint", "restore"];

/// The grammar, for the page that tells what there is.
#[cfg(test)]
pub fn grammar() -> clap::Command {
    Arguments::command()
}

/// The role: reads `words`, does the verb, tells its failure. The result is the exit status.
pub fn main(words: Vec<OsString>) -> u8 {
    if shield::is_wanted(&words)
        && let Err(failure) = shield::raise()
    {
        // What the log is to be was not read yet.
        return finish(&Log::new(None, log::Format::Text), Err(failure));
    }
    let Arguments { globals, verb } = match parse(words) {
        Ok(arguments) => arguments,
        Err(error) => return usage(&error),
    };
    let log = Log::new(globals.log.clone(), globals.log_format);
    if globals.version {
        return finish(&log, print_version());
    }
    let Some(verb) = verb else {
        let page = Arguments::command().render_help().to_string();
        return finish(&log, print(&page));
    };
    let root = Root::new(globals.root.clone().unwrap_or_else(rootless::default_root));
    let context = Context { globals, root, log };
    if context.globals.debug {
        let words: Vec<OsString> = std::env::args_os().collect();
        context
            .log
            .debug(&format!("version {VERSION}, called as {words:?}"));
    }
    let outcome = run(verb, &context);
    if context.globals.debug {
        context.log.debug(&format!("result: {outcome:?}"));
    }
    finish(&context.log, outcome)
}

/// Adds a verb's flags to the command of its name.
type AddFlags = fn(clap::Command) -> clap::Command;

/// The verbs that containers wait for.
const FREQUENT: [(&str, AddFlags); 6] = [
    ("create", create::Create::augment_args),
    ("start", start::Start::augment_args),
    ("delete", delete::Delete::augment_args),
    ("run", run::Run::augment_args),
    ("exec", exec::Exec::augment_args),
    ("state", state::State::augment_args),
];

/// Reads the words. To make the grammar of all verbs takes longer than many a verb itself, so a frequent one's is tried
/// alone; mistakes, and what looked like a verb and is none, are the whole grammar's.
fn parse(words: Vec<OsString>) -> Result<Arguments, clap::Error> {
    let named = |word: &OsString| FREQUENT.iter().find(|(name, _)| word == name);
    let verb = words.iter().find_map(named).copied();
    let words = || std::iter::once(OsString::from(PROGRAM)).chain(words.iter().cloned());
    if let Some(verb) = verb
        && let Ok(matches) = narrow(verb).try_get_matches_from(words())
    {
        return Arguments::from_arg_matches(&matches);
    }
    Arguments::try_parse_from(words())
}

/// The grammar of the options before the verb and of one verb.
fn narrow((name, add_flags): (&'static str, AddFlags)) -> clap::Command {
    let command = clap::Command::new(PROGRAM)
        .disable_version_flag(true)
        .args_override_self(true);
    Globals::augment_args(command).subcommand(add_flags(clap::Command::new(name)))
}

fn run(verb: Verb, context: &Context) -> Outcome {
    if context.globals.criu.is_some() {
        return Err(Failure::refused(
            "--criu",
            "there is no checkpoint and no restore",
        ));
    }
    match verb {
        Verb::Checkpoint(verb) => verb.run(),
        Verb::Create(verb) => verb.run(context),
        Verb::Delete(verb) => verb.run(context),
        Verb::Events(verb) => verb.run(context),
        Verb::Exec(verb) => verb.run(context),
        Verb::Features(verb) => verb.run(),
        Verb::Kill(verb) => verb.run(context),
        Verb::List(verb) => verb.run(context),
        Verb::Pause(verb) => verb.run(context),
        Verb::Ps(verb) => verb.run(context),
        Verb::Restore(verb) => verb.run(),
        Verb::Resume(verb) => verb.run(context),
        Verb::Run(verb) => verb.run(context),
        Verb::Spec(verb) => verb.run(),
        Verb::Start(verb) => verb.run(context),
        Verb::State(verb) => verb.run(context),
        Verb::Update(verb) => verb.run(context),
    }
}

fn finish(log: &Log, outcome: Outcome) -> u8 {
    match outcome {
        Ok(status) => status,
        Err(failure) => {
            log.error(&failure.to_string());
            failure.status()
        }
    }
}

/// clap's own message; asking for help is no failure.
fn usage(error: &clap::Error) -> u8 {
    // Nobody is left to be told if this fails.
    let _ = error.print();
    u8::from(error.use_stderr())
}

fn print_version() -> Outcome {
    print(&format!(
        "{PROGRAM} version {VERSION}\nspec: {}\n",
        ketch_spec::runtime::VERSION
    ))
}

/// Prints to standard output.
fn print(text: &str) -> Outcome {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(Failure::Output)?;
    Ok(0)
}

/// Prints a value as runc does: indented, with a newline.
fn print_json(value: &impl serde::Serialize) -> Outcome {
    let mut text = serde_json::to_string_pretty(value).map_err(Failure::Json)?;
    text.push('\n');
    print(&text)
}

/// `path` from the present directory.
fn absolute(path: &std::path::Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path).map_err(|source| Failure::Path {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_grammar_has_no_contradictions() {
        Arguments::command().debug_assert();
    }

    fn parse(words: &[&str]) -> Arguments {
        super::parse(words.iter().map(OsString::from).collect()).unwrap()
    }

    #[test]
    fn a_frequent_verb_alone_is_as_in_the_whole_grammar() {
        let flags = |command: &clap::Command| -> Vec<String> {
            let all = command.get_arguments();
            all.map(|flag| format!("{flag:?}")).collect()
        };
        let whole = Arguments::command();
        for verb in FREQUENT {
            let narrow = narrow(verb);
            narrow.clone().debug_assert();
            assert_eq!(flags(&narrow), flags(&whole));
            let of = |command: &clap::Command| command.find_subcommand(verb.0).map(flags);
            assert_eq!(of(&narrow), of(&whole), "{}", verb.0);
        }
    }

    #[test]
    fn what_looks_like_a_frequent_verb_and_is_none_is_read_too() {
        let parsed = parse(&["--root", "create", "list"]);
        assert!(matches!(parsed.verb, Some(Verb::List(_))));
        let parsed = parse(&["kill", "run"]);
        assert!(matches!(parsed.verb, Some(Verb::Kill(_))));
        let parsed = parse(&["--root", "start", "create", "exec"]);
        assert!(matches!(parsed.verb, Some(Verb::Create(_))));
    }

    #[test]
    fn callers_of_runc_are_understood() {
        // As conmon and the containerd shim write it.
        let parsed = parse(&[
            "--root",
            "/r",
            "--log",
            "/l",
            "--log-format",
            "json",
            "--systemd-cgroup",
            "create",
            "--bundle",
            "/b",
            "--pid-file",
            "/p",
            "--no-pivot",
            "id",
        ]);
        assert!(parsed.globals.systemd_cgroup);
        assert!(matches!(parsed.verb, Some(Verb::Create(_))));
        let parsed = parse(&["exec", "--process", "/p", "-d", "--pid-file", "/x", "id"]);
        assert!(matches!(parsed.verb, Some(Verb::Exec(_))));
        let parsed = parse(&["exec", "-t", "id", "sh", "-c", "exit 3", "--", "-d"]);
        let Some(Verb::Exec(exec)) = parsed.verb else {
            panic!()
        };
        assert_eq!(exec.command(), ["sh", "-c", "exit 3", "--", "-d"]);
        let parsed = parse(&["kill", "--all", "id", "9"]);
        assert!(matches!(parsed.verb, Some(Verb::Kill(_))));
        assert!(
            !parse(&["--systemd-cgroup=false", "list"])
                .globals
                .systemd_cgroup
        );
    }
}
