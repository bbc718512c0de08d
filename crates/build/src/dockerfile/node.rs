//! One instruction before it is understood: name, flags, words. The shape is that of BuildKit's parse tree.

use super::heredoc::{self, Heredoc};
use super::line::LogicalLine;
use super::words::{self, MaybeJson, Piece};
use crate::error::{Mistake, Position};

/// A word and where it stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Word {
    /// As written, quotes and variables included.
    pub text: String,
    /// Where.
    pub at: Position,
}

/// An instruction.
#[derive(Debug, Clone, Default)]
pub struct Node {
    /// Name in lower case.
    pub name: String,
    /// Name as written.
    pub written: Word,
    /// `--x[=y]` after the name, quotes removed.
    pub flags: Vec<Word>,
    /// The arguments. For ENV and LABEL: name, value, separator, again and again.
    pub args: Vec<Word>,
    /// Whether the arguments were a JSON array.
    pub json: bool,
    /// ONBUILD's instruction.
    pub child: Option<Box<Node>>,
    /// The heredocs of the line, in order.
    pub heredocs: Vec<Heredoc>,
    /// The logical line.
    pub original: String,
    /// First and last physical line; heredocs are included.
    pub lines: (usize, usize),
}

impl Node {
    /// A mistake about `word`.
    pub fn mistake(&self, word: &Word, message: impl Into<String>) -> Mistake {
        Mistake {
            at: word.at,
            lines: self.lines,
            text: word.text.clone(),
            message: message.into(),
            unsupported: false,
        }
    }

    /// A mistake about the whole instruction.
    pub fn wrong(&self, message: impl Into<String>) -> Mistake {
        let word = Word {
            text: self.original.trim().to_owned(),
            at: self.written.at,
        };
        self.mistake(&word, message)
    }

    /// Whether heredocs may follow the line: RUN, COPY and ADD, also under ONBUILD, not in exec form.
    pub fn may_have_heredocs(&self) -> bool {
        match (&self.child, self.name.as_str()) {
            (Some(child), "onbuild") => child.may_have_heredocs(),
            (_, "run" | "copy" | "add") => !self.json,
            _ => false,
        }
    }
}

/// How an instruction's arguments are read.
#[derive(Clone, Copy)]
enum Grammar {
    /// JSON array or the whole text.
    Command,
    /// JSON array or words.
    List,
    /// Words, quotes respected.
    Declarations,
    /// Name and value pairs.
    Pairs,
    /// Words separated by blanks.
    Blanks,
    /// The whole text.
    Text,
    /// A word, then as [`Grammar::Command`].
    Health,
    /// Another instruction.
    Trigger,
}

/// All instructions.
const INSTRUCTIONS: [(&str, Grammar); 18] = [
    ("add", Grammar::List),
    ("arg", Grammar::Declarations),
    ("cmd", Grammar::Command),
    ("copy", Grammar::List),
    ("entrypoint", Grammar::Command),
    ("env", Grammar::Pairs),
    ("expose", Grammar::Blanks),
    ("from", Grammar::Blanks),
    ("healthcheck", Grammar::Health),
    ("label", Grammar::Pairs),
    ("maintainer", Grammar::Text),
    ("onbuild", Grammar::Trigger),
    ("run", Grammar::Command),
    ("shell", Grammar::Command),
    ("stopsignal", Grammar::Text),
    ("user", Grammar::Text),
    ("volume", Grammar::List),
    ("workdir", Grammar::Text),
];

/// Reads the instruction that begins at byte `start` of a logical line.
///
/// # Errors
/// A [`Mistake`] with its place.
pub fn parse(line: &LogicalLine, start: usize, escape: char) -> Result<Node, Mistake> {
    let text = &line.text[start..];
    let begin = start + text.len() - text.trim_start().len();
    let text = line.text[begin..].trim_end();
    let name_length = text.find(words::is_blank).unwrap_or(text.len());
    let written = Word {
        text: text[..name_length].to_owned(),
        at: line.position(begin),
    };
    let name = written.text.to_lowercase();
    let after = begin + name_length;
    let (flags, rest) = words::split_flags(line.text[after..].trim_end());
    let at = |base: usize, pieces: Vec<Piece>| -> Vec<Word> {
        pieces
            .into_iter()
            .map(|(offset, text)| Word {
                text,
                at: line.position(base + offset),
            })
            .collect()
    };
    let mut node = Node {
        flags: at(after, flags),
        original: text.to_owned(),
        lines: line.lines,
        name,
        written,
        ..Node::default()
    };
    let Some((_, grammar)) = INSTRUCTIONS.iter().find(|(known, _)| *known == node.name) else {
        let shown = node.written.text.to_uppercase();
        let guess = nearest(&node.name, INSTRUCTIONS.iter().map(|(name, _)| *name));
        let guess = guess.map_or(String::new(), |name| {
            format!(" (did you mean {}?)", name.to_uppercase())
        });
        return Err(node.mistake(
            &node.written,
            format!("unknown instruction: {shown}{guess}"),
        ));
    };
    let base = after + rest + blanks(&line.text[after + rest..]);
    arguments(&mut node, *grammar, line, base, escape)?;
    Ok(node)
}

fn blanks(text: &str) -> usize {
    text.len() - text.trim_start().len()
}

fn arguments(
    node: &mut Node,
    grammar: Grammar,
    line: &LogicalLine,
    base: usize,
    escape: char,
) -> Result<(), Mistake> {
    let text = line.text.get(base..).unwrap_or_default().trim_end();
    if text.is_empty() {
        return Ok(());
    }
    let at = |base: usize, pieces: Vec<Piece>| -> Vec<Word> {
        pieces
            .into_iter()
            .map(|(offset, text)| Word {
                text,
                at: line.position(base + offset),
            })
            .collect()
    };
    let whole = |base: usize, text: &str| Word {
        text: text.to_owned(),
        at: line.position(base),
    };
    match grammar {
        Grammar::Text => node.args.push(whole(base, text)),
        Grammar::Blanks => node.args = at(base, words::split_blanks(text)),
        Grammar::Declarations => node.args = at(base, words::split_words(text, escape)),
        Grammar::Pairs => {
            let pairs = words::name_values(text, escape, &node.name.to_uppercase());
            node.args = match pairs {
                Ok(pairs) => at(base, pairs),
                Err(error) => {
                    let word = Word {
                        text: error.text,
                        at: line.position(base + error.offset),
                    };
                    return Err(node.mistake(&word, error.message));
                }
            };
        }
        Grammar::Command => match exec_form(node, text, line.position(base))? {
            Some(args) => node.args = args,
            None => node.args.push(whole(base, text)),
        },
        Grammar::List => match exec_form(node, text, line.position(base))? {
            Some(args) => node.args = args,
            None => node.args = at(base, words::split_blanks(text)),
        },
        Grammar::Health => {
            let kind = text.find(char::is_whitespace).unwrap_or(text.len());
            node.args.push(whole(base, &text[..kind]));
            let command = kind + blanks(&text[kind..]);
            let rest = &text[command..];
            if let Some(args) = exec_form(node, rest, line.position(base + command))? {
                node.args.extend(args);
            } else if !rest.is_empty() {
                node.args.push(whole(base + command, rest));
            }
        }
        Grammar::Trigger => node.child = Some(Box::new(parse(line, base, escape)?)),
    }
    Ok(())
}

/// The words of a JSON array; None for the shell form.
fn exec_form(node: &mut Node, text: &str, at: Position) -> Result<Option<Vec<Word>>, Mistake> {
    match words::json_array(text) {
        MaybeJson::Array(strings) => {
            node.json = true;
            Ok(Some(
                strings.into_iter().map(|text| Word { text, at }).collect(),
            ))
        }
        MaybeJson::NotStrings => {
            let word = Word {
                text: text.to_owned(),
                at,
            };
            Err(node.mistake(
                &word,
                "when using JSON array syntax, arrays must be comprised of strings only",
            ))
        }
        MaybeJson::No => Ok(None),
    }
}

/// Gives the node the heredocs its line announces, each read by `read`.
///
/// # Errors
/// A heredoc that does not end.
pub fn attach_heredocs(
    node: &mut Node,
    mut read: impl FnMut(&str, bool) -> (Option<String>, usize),
) -> Result<(), Mistake> {
    if !node.may_have_heredocs() {
        return Ok(());
    }
    let mut heredocs = heredoc::announced(&node.original);
    for heredoc in &mut heredocs {
        let (content, last_line) = read(&heredoc.name, heredoc.chomp);
        node.lines.1 = last_line;
        match content {
            Some(content) => heredoc.content = content,
            None => {
                let word = Word {
                    text: format!("<<{}", heredoc.name),
                    at: node.written.at,
                };
                return Err(node.mistake(&word, "unterminated heredoc"));
            }
        }
    }
    if let Some(child) = &mut node.child {
        child.heredocs.clone_from(&heredocs);
        child.lines = node.lines;
    }
    node.heredocs = heredocs;
    Ok(())
}

/// The one of `known` that is at most two edits away from `name`.
pub fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    known
        .map(|candidate| (distance(name, candidate), candidate))
        .filter(|(d, _)| *d < 3)
        .min()
        .map(|(_, c)| c)
}

/// Levenshtein's distance of two short words; long ones are simply far apart.
fn distance(a: &str, b: &str) -> usize {
    if a.len() > 64 {
        return usize::MAX;
    }
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names() {
        let known = || INSTRUCTIONS.iter().map(|(name, _)| *name);
        assert_eq!(nearest("runn", known()), Some("run"));
        assert_eq!(nearest("form", known()), Some("from"));
        assert_eq!(nearest("foobarbaz", known()), None);
    }
}
