//! Dockerfile text to typed stages. Nothing here touches files or runs anything, and every mistake of a file is found
//! in one go.

mod flags;
mod heredoc;
mod instruction;
mod line;
mod mount;
mod node;
mod typed;
mod words;

pub use heredoc::Heredoc;
pub use instruction::{
    Command, CommandLine, Copy, Declaration, Dockerfile, Instruction, MountKind, Place, Run,
    RunMount, Stage,
};
pub use node::Word;
pub use typed::remote;

use line::{Directives, Lines};
use node::Node;

use crate::error::{Mistake, Position};

/// A Dockerfile longer than this is refused before it is read.
pub const MAX_BYTES: u64 = 4 << 20;

/// Whether a text is one heredoc announcement and nothing else.
pub fn is_heredoc(text: &str) -> bool {
    heredoc::parse(text.trim()).is_some()
}

/// The nodes of a file, its directives, warnings, and mistakes.
struct Nodes {
    nodes: Vec<Node>,
    directives: Directives,
    warnings: Vec<(usize, String)>,
    mistakes: Vec<Mistake>,
}

fn nodes(text: &str) -> Nodes {
    let mut lines = Lines::new(text);
    let mut found = Nodes {
        nodes: Vec::new(),
        directives: Directives::default(),
        warnings: Vec::new(),
        mistakes: Vec::new(),
    };
    while let Some(line) = lines.next_logical() {
        let line = match line {
            Ok(line) => line,
            Err((at, text, message)) => {
                let lines = (at.line, at.line);
                found.mistakes.push(Mistake {
                    at,
                    lines,
                    text,
                    message,
                    unsupported: false,
                });
                continue;
            }
        };
        if line.empty_continuation {
            let text = format!(
                "NoEmptyContinuation: empty continuation line in: {}",
                line.text.trim()
            );
            found.warnings.push((line.lines.1, text));
        }
        let node = node::parse(&line, 0, lines.directives.escape).and_then(|mut node| {
            node::attach_heredocs(&mut node, |name, chomp| {
                let content = lines.heredoc(name, chomp);
                (content, lines.number())
            })?;
            Ok(node)
        });
        match node {
            Ok(node) => found.nodes.push(node),
            Err(mistake) => found.mistakes.push(mistake),
        }
    }
    if found.nodes.is_empty() && found.mistakes.is_empty() {
        let line = lines.number().max(1);
        found.mistakes.push(Mistake {
            at: Position { line, column: 1 },
            lines: (line, line),
            text: String::new(),
            message: "file with no instructions".into(),
            unsupported: false,
        });
    }
    found.directives = lines.directives;
    found
}

/// Parses a Dockerfile.
///
/// # Errors
/// All its mistakes, in the order of the file.
pub fn parse(text: &str) -> Result<Dockerfile, Vec<Mistake>> {
    let Nodes {
        nodes,
        directives,
        warnings,
        mut mistakes,
    } = nodes(text);
    let mut file = Dockerfile {
        escape: directives.escape,
        warnings,
        ..Dockerfile::default()
    };
    if let Some((syntax, line)) = &directives.syntax
        && !is_builtin_syntax(syntax)
    {
        file.warnings.push((
            *line,
            format!("frontend {syntax} is not used: the built-in one reads this file"),
        ));
    }
    if let Some(check) = &directives.check {
        file.warnings.push((
            1,
            format!("check={check} has no effect: there are no build checks"),
        ));
    }
    for node in &nodes {
        if node.name == "from" {
            // A FROM with a mistake still opens a stage, so that what follows it is judged on its own.
            let stage = typed::from(node, &mut mistakes).unwrap_or_else(|| Stage {
                name: None,
                base: Word::default(),
                platform: None,
                commands: Vec::new(),
                place: typed::place(node),
            });
            file.stages.push(stage);
            continue;
        }
        let Some(command) = typed::command(node, &mut mistakes) else {
            continue;
        };
        match (file.stages.last_mut(), command.instruction) {
            (Some(stage), instruction) => stage.commands.push(Command {
                instruction,
                place: command.place,
            }),
            (None, Instruction::Arg(declared)) => file.global_args.extend(declared),
            (None, _) => mistakes.push(node.wrong("no build stage in current context")),
        }
    }
    deprecations(&mut file);
    if file.stages.is_empty() && mistakes.is_empty() {
        let node = nodes.last().cloned().unwrap_or_default();
        mistakes.push(node.wrong("dockerfile contains no stages to build"));
    }
    if mistakes.is_empty() {
        return Ok(file);
    }
    mistakes.sort_by_key(|mistake| mistake.at);
    Err(mistakes)
}

/// Parses one ONBUILD trigger, as an image carries it.
///
/// # Errors
/// Its mistakes; lines count from the trigger's own first line.
pub fn parse_trigger(text: &str) -> Result<Vec<Command>, Vec<Mistake>> {
    let Nodes {
        nodes,
        mut mistakes,
        ..
    } = nodes(text);
    let mut commands = Vec::new();
    for node in &nodes {
        match node.name.as_str() {
            "from" | "onbuild" | "maintainer" => {
                mistakes.push(node.wrong(format!(
                    "{} isn't allowed as an ONBUILD trigger",
                    node.name.to_uppercase()
                )));
            }
            _ => commands.extend(typed::command(node, &mut mistakes)),
        }
    }
    if mistakes.is_empty() {
        Ok(commands)
    } else {
        Err(mistakes)
    }
}

fn deprecations(file: &mut Dockerfile) {
    for command in file.stages.iter().flat_map(|stage| &stage.commands) {
        if matches!(command.instruction, Instruction::Maintainer(_)) {
            let text = "MaintainerDeprecated: MAINTAINER is deprecated, use LABEL org.opencontainers.image.authors";
            file.warnings.push((command.place.at.line, text.to_owned()));
        }
    }
}

/// `docker/dockerfile:1` and its kin: what this crate itself reads.
fn is_builtin_syntax(syntax: &str) -> bool {
    let syntax = syntax.split_whitespace().next().unwrap_or_default();
    let name = syntax
        .split('@')
        .next()
        .unwrap_or_default()
        .trim_start_matches("docker.io/");
    let (name, tag) = name.split_once(':').unwrap_or((name, "1"));
    name == "docker/dockerfile"
        && (tag == "latest" || tag == "1" || tag.starts_with("1.") || tag.starts_with("1-"))
}

#[cfg(test)]
mod tests;
