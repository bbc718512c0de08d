//! From node to instruction: how many arguments, which flags, which values; every mistake is collected.

use ketch_spec::image::HealthCheck;

use super::flags::{Flags, Takes};
use super::heredoc;
use super::instruction::{Command, CommandLine, Copy, Declaration, Instruction, Place, Run, Stage};
use super::mount;
use super::node::{Node, Word};
use crate::error::Mistake;
use crate::request::StepNetwork;

/// Shortest interval that a health check may have.
const MIN_INTERVAL_NS: i64 = 1_000_000;

/// Where a node stands.
pub fn place(node: &Node) -> Place {
    Place {
        at: node.written.at,
        lines: node.lines,
        text: node.original.clone(),
    }
}

/// Understands an instruction other than FROM; None if it has mistakes, which are then in `mistakes`.
pub fn command(node: &Node, mistakes: &mut Vec<Mistake>) -> Option<Command> {
    let before = mistakes.len();
    let upper = node.name.to_uppercase();
    let instruction = match node.name.as_str() {
        "add" | "copy" => copy(node, mistakes),
        "run" => run(node, mistakes),
        "healthcheck" => health(node, mistakes),
        _ => {
            Flags::read(node, &[], mistakes);
            plain(node, &upper, mistakes)
        }
    }?;
    (mistakes.len() == before).then(|| Command {
        instruction,
        place: place(node),
    })
}

/// The instructions without flags.
fn plain(node: &Node, upper: &str, mistakes: &mut Vec<Mistake>) -> Option<Instruction> {
    match node.name.as_str() {
        "arg" => declarations(node, mistakes).map(Instruction::Arg),
        "cmd" => Some(Instruction::Cmd(command_line(node))),
        "entrypoint" => Some(Instruction::Entrypoint(command_line(node))),
        "env" => pairs(node, upper, mistakes).map(Instruction::Env),
        "label" => pairs(node, upper, mistakes).map(Instruction::Label),
        "expose" => {
            let words = several(node, upper, mistakes)?;
            for word in &words {
                check_plain(node, word, mistakes, ketch_spec::port::parse_expose);
            }
            Some(Instruction::Expose(words))
        }
        "volume" => {
            let paths = several(node, upper, mistakes)?;
            if let Some(blank) = paths.iter().find(|word| word.text.trim().is_empty()) {
                mistakes.push(node.mistake(blank, "VOLUME specified can not be an empty string"));
                return None;
            }
            Some(Instruction::Volume(paths))
        }
        "maintainer" => one(node, upper, mistakes).map(|word| Instruction::Maintainer(word.text)),
        "stopsignal" => {
            let word = one(node, upper, mistakes)?;
            check_plain(node, &word, mistakes, ketch_spec::signal::parse);
            Some(Instruction::StopSignal(word))
        }
        "user" => one(node, upper, mistakes).map(Instruction::User),
        "workdir" => one(node, upper, mistakes).map(Instruction::Workdir),
        "shell" if node.args.is_empty() => {
            fail(node, mistakes, "SHELL requires at least one argument")
        }
        "shell" if !node.json => fail(
            node,
            mistakes,
            format!(
                "SHELL requires the arguments to be in JSON form, not {}",
                node.args[0].text
            ),
        ),
        "shell" => Some(Instruction::Shell(
            node.args.iter().map(|word| word.text.clone()).collect(),
        )),
        "onbuild" => onbuild(node, mistakes),
        _ => fail(node, mistakes, format!("unknown instruction: {upper}")),
    }
}

/// Checks a value now if it has neither variables nor quotes; others are checked when they are known.
fn check_plain<T, E: std::fmt::Display>(
    node: &Node,
    word: &Word,
    mistakes: &mut Vec<Mistake>,
    parse: impl FnOnce(&str) -> Result<T, E>,
) {
    if !word.text.contains(['$', '"', '\'', '\\', '`'])
        && let Err(error) = parse(&word.text)
    {
        mistakes.push(node.mistake(word, error.to_string()));
    }
}

fn fail<T>(node: &Node, mistakes: &mut Vec<Mistake>, message: impl Into<String>) -> Option<T> {
    mistakes.push(node.wrong(message));
    None
}

fn several(node: &Node, upper: &str, mistakes: &mut Vec<Mistake>) -> Option<Vec<Word>> {
    if node.args.is_empty() {
        return fail(
            node,
            mistakes,
            format!("{upper} requires at least one argument"),
        );
    }
    Some(node.args.clone())
}

fn one(node: &Node, upper: &str, mistakes: &mut Vec<Mistake>) -> Option<Word> {
    match &node.args[..] {
        [word] => Some(word.clone()),
        _ => fail(
            node,
            mistakes,
            format!("{upper} requires exactly one argument"),
        ),
    }
}

fn pairs(node: &Node, upper: &str, mistakes: &mut Vec<Mistake>) -> Option<Vec<(Word, Word)>> {
    let words = several(node, upper, mistakes)?;
    let pairs: Vec<(Word, Word)> = words
        .chunks_exact(3)
        .map(|w| (w[0].clone(), w[1].clone()))
        .collect();
    if let Some((name, _)) = pairs.iter().find(|(name, _)| name.text.is_empty()) {
        mistakes.push(node.mistake(name, format!("{upper} names can not be blank")));
        return None;
    }
    Some(pairs)
}

fn declarations(node: &Node, mistakes: &mut Vec<Mistake>) -> Option<Vec<Declaration>> {
    let words = several(node, "ARG", mistakes)?;
    let mut declared = Vec::new();
    for word in words {
        let (name, default) = match word.text.split_once('=') {
            Some((name, value)) => {
                let mut at = word.at;
                at.column += name.chars().count() + 1;
                (
                    name.to_owned(),
                    Some(Word {
                        text: value.to_owned(),
                        at,
                    }),
                )
            }
            None => (word.text.clone(), None),
        };
        if name.is_empty() {
            mistakes.push(node.mistake(&word, "ARG names can not be blank"));
            return None;
        }
        declared.push(Declaration {
            name: Word {
                text: name,
                at: word.at,
            },
            default,
        });
    }
    Some(declared)
}

fn command_line(node: &Node) -> CommandLine {
    CommandLine {
        words: node.args.iter().map(|word| word.text.clone()).collect(),
        shell: !node.json,
    }
}

fn onbuild(node: &Node, mistakes: &mut Vec<Mistake>) -> Option<Instruction> {
    let Some(child) = &node.child else {
        return fail(node, mistakes, "ONBUILD requires at least one argument");
    };
    match child.name.as_str() {
        "onbuild" => {
            mistakes.push(node.mistake(
                &child.written,
                "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed",
            ));
            return None;
        }
        "maintainer" | "from" => {
            let message = format!(
                "{} isn't allowed as an ONBUILD trigger",
                child.name.to_uppercase()
            );
            mistakes.push(node.mistake(&child.written, message));
            return None;
        }
        _ => {}
    }
    // The trigger runs downstream, but what is wrong with it is found here.
    command(child, mistakes)?;
    let mut text = child.original.clone();
    for heredoc in &node.heredocs {
        text.push('\n');
        text.push_str(&heredoc.content);
        text.push_str(&heredoc.name);
    }
    Some(Instruction::Onbuild(text))
}

fn run(node: &Node, mistakes: &mut Vec<Mistake>) -> Option<Instruction> {
    let known = [
        ("mount", Takes::Values),
        ("network", Takes::Value),
        ("security", Takes::Value),
        ("device", Takes::Values),
    ];
    let flags = Flags::read(node, &known, mistakes);
    let network = flags
        .value("network")
        .and_then(|word| match word.text.as_str() {
            "default" => Some(StepNetwork::Default),
            "none" => Some(StepNetwork::None),
            "host" => Some(StepNetwork::Host),
            other => {
                mistakes.push(node.mistake(&word, format!("unsupported network mode {other:?}")));
                None
            }
        });
    if let Some(word) = flags
        .value("security")
        .filter(|word| word.text != "sandbox")
    {
        let known = word.text == "insecure";
        let message = if known {
            "RUN --security=insecure is not supported".to_owned()
        } else {
            format!("security {:?} is not valid", word.text)
        };
        mistakes.push(Mistake {
            unsupported: known,
            ..node.mistake(&word, message)
        });
    }
    if let Some(word) = flags.place("device") {
        mistakes.push(Mistake {
            unsupported: true,
            ..node.mistake(word, "RUN --device is not supported")
        });
    }
    let mounts = flags
        .values("mount")
        .iter()
        .filter_map(|word| mount::parse(node, word, mistakes))
        .collect();
    if node.args.is_empty() {
        // BuildKit lets an empty RUN pass and then fails to execute it.
        return fail(node, mistakes, "RUN requires at least one argument");
    }
    Some(Instruction::Run(Run {
        command: command_line(node),
        heredocs: node.heredocs.clone(),
        mounts,
        network,
    }))
}

fn copy(node: &Node, mistakes: &mut Vec<Mistake>) -> Option<Instruction> {
    let add = node.name == "add";
    let upper = node.name.to_uppercase();
    let mut known = vec![
        ("chown", Takes::Value),
        ("chmod", Takes::Value),
        // A layer is its own already: there is nothing that --link could change.
        ("link", Takes::Switch),
        ("exclude", Takes::Values),
    ];
    if add {
        known.extend([
            ("keep-git-dir", Takes::Switch),
            ("checksum", Takes::Value),
            ("unpack", Takes::Switch),
        ]);
    } else {
        known.extend([("from", Takes::Value), ("parents", Takes::Switch)]);
    }
    let flags = Flags::read(node, &known, mistakes);
    let Some(((destination, sources), true)) = node
        .args
        .split_last()
        .map(|parts| (parts, node.args.len() > 1))
    else {
        let message = format!(
            "{upper} requires at least two arguments, but only one was provided. Destination could not be determined"
        );
        return fail(node, mistakes, message);
    };
    if heredoc::parse(&destination.text).is_some() && !node.json {
        mistakes.push(node.mistake(
            destination,
            format!("{upper} cannot accept a heredoc as a destination"),
        ));
    }
    let mut copy = Copy {
        add,
        destination: destination.clone(),
        from: flags.value("from"),
        chown: flags.value("chown"),
        chmod: flags.value("chmod"),
        excludes: flags.values("exclude"),
        parents: flags.switch("parents").unwrap_or(false),
        unpack: flags.switch("unpack"),
        ..Copy::default()
    };
    for source in sources {
        let inline = heredoc::parse(&source.text).and_then(|heredoc| {
            node.heredocs
                .iter()
                .find(|known| known.name == heredoc.name)
        });
        match inline {
            Some(heredoc) => copy.inline.push(heredoc.clone()),
            None => copy.sources.push(source.clone()),
        }
    }
    if add {
        refuse_remote(node, &flags, &copy, mistakes);
    }
    if copy.sources.len() + copy.inline.len() > 1 && !may_be_directory(&destination.text) {
        let message = format!(
            "When using {upper} with more than one source file, the destination must be a directory and end with a /"
        );
        mistakes.push(node.mistake(destination, message));
    }
    Some(Instruction::Copy(copy))
}

/// Whether a destination names a directory as written, or may do so once its variables are known.
fn may_be_directory(destination: &str) -> bool {
    destination.ends_with('/')
        || destination == "."
        || destination.ends_with("/.")
        || destination.contains('$')
}

/// Sources that would have to be fetched.
fn refuse_remote(node: &Node, flags: &Flags, copy: &Copy, mistakes: &mut Vec<Mistake>) {
    for (flag, what) in [
        ("keep-git-dir", "ADD of a git repository"),
        ("checksum", "ADD of a remote file"),
    ] {
        if let Some(word) = flags.place(flag) {
            let message = format!("ADD --{flag} is not supported, because {what} is not");
            mistakes.push(Mistake {
                unsupported: true,
                ..node.mistake(word, message)
            });
        }
    }
    for source in &copy.sources {
        if let Some(what) = remote(&source.text) {
            let message = format!(
                "ADD of a {what} is not supported: fetch it in a RUN step or put it into the context"
            );
            mistakes.push(Mistake {
                unsupported: true,
                ..node.mistake(source, message)
            });
        }
    }
}

/// What kind of remote source a text is, if it is one.
pub fn remote(source: &str) -> Option<&'static str> {
    let web = source.starts_with("http://") || source.starts_with("https://");
    if source.starts_with("git@") || source.starts_with("git://") || source.starts_with("ssh://") {
        return Some("git repository");
    }
    let path = source.split(['#', '?']).next().unwrap_or(source);
    match web {
        true if path.ends_with(".git") => Some("git repository"),
        true => Some("remote file"),
        false => None,
    }
}

fn health(node: &Node, mistakes: &mut Vec<Mistake>) -> Option<Instruction> {
    let known = [
        ("interval", Takes::Value),
        ("timeout", Takes::Value),
        ("start-period", Takes::Value),
        ("start-interval", Takes::Value),
        ("retries", Takes::Value),
    ];
    let flags = Flags::read(node, &known, mistakes);
    let Some((kind, words)) = node.args.split_first() else {
        return fail(node, mistakes, "HEALTHCHECK requires at least one argument");
    };
    let words: Vec<String> = words.iter().map(|word| word.text.clone()).collect();
    let test = match kind.text.to_uppercase().as_str() {
        "NONE" if words.is_empty() => vec!["NONE".to_owned()],
        "NONE" => return fail(node, mistakes, "HEALTHCHECK NONE takes no arguments"),
        "CMD" if words.is_empty() => {
            return fail(node, mistakes, "Missing command after HEALTHCHECK CMD");
        }
        "CMD" => {
            let first = if node.json { "CMD" } else { "CMD-SHELL" };
            std::iter::once(first.to_owned()).chain(words).collect()
        }
        other => {
            mistakes.push(node.mistake(
                kind,
                format!("Unknown type {other:?} in HEALTHCHECK (try CMD)"),
            ));
            return None;
        }
    };
    let mut interval = |name: &'static str| duration(node, &flags, name, mistakes);
    let mut check = HealthCheck {
        test,
        interval: interval("interval"),
        timeout: interval("timeout"),
        start_period: interval("start-period"),
        start_interval: interval("start-interval"),
        retries: 0,
    };
    if let Some(word) = flags.value("retries") {
        match word.text.parse::<i32>() {
            Ok(retries) if retries >= 0 => check.retries = i64::from(retries),
            Ok(retries) => mistakes
                .push(node.mistake(&word, format!("--retries cannot be negative ({retries})"))),
            Err(_) => mistakes
                .push(node.mistake(&word, format!("--retries: {:?} is not a number", word.text))),
        }
    }
    Some(Instruction::Healthcheck(check))
}

fn duration(node: &Node, flags: &Flags, name: &str, mistakes: &mut Vec<Mistake>) -> i64 {
    let Some(word) = flags.value(name) else {
        return 0;
    };
    let nanoseconds = ketch_spec::duration::parse(&word.text)
        .ok()
        .and_then(|d| i64::try_from(d.as_nanos()).ok());
    match nanoseconds {
        Some(0) => 0,
        Some(ns) if ns < MIN_INTERVAL_NS => {
            mistakes
                .push(node.mistake(&word, format!("Interval {name:?} cannot be less than 1ms")));
            0
        }
        Some(ns) => ns,
        None => {
            mistakes.push(node.mistake(&word, format!("time: invalid duration {:?}", word.text)));
            0
        }
    }
}

/// Understands FROM.
pub fn from(node: &Node, mistakes: &mut Vec<Mistake>) -> Option<Stage> {
    let flags = Flags::read(node, &[("platform", Takes::Value)], mistakes);
    let name = match &node.args[..] {
        [_] => None,
        [_, keyword, name] if keyword.text.eq_ignore_ascii_case("as") => {
            let lower = name.text.to_lowercase();
            let mut rest = lower.chars();
            let valid = rest.next().is_some_and(|c| c.is_ascii_lowercase())
                && rest.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.".contains(c));
            if !valid {
                let message = format!(
                    "invalid name for build stage: {:?}, name can't start with a number or contain symbols",
                    name.text
                );
                mistakes.push(node.mistake(name, message));
                return None;
            }
            Some(lower)
        }
        _ => {
            return fail(
                node,
                mistakes,
                "FROM requires either one or three arguments",
            );
        }
    };
    let base = node.args[0].clone();
    Some(Stage {
        name,
        base,
        platform: flags.value("platform"),
        commands: Vec::new(),
        place: place(node),
    })
}
