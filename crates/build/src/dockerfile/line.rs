//! Physical lines to logical lines: byte order mark, parser directives, comments, continuations and the lines that a
//! heredoc takes. A logical line remembers where each of its characters came from.

use crate::error::Position;

/// One instruction's text, continuations joined, and where its parts stood.
#[derive(Debug, Clone, Default)]
pub struct LogicalLine {
    /// The text without continuation characters, comments and line ends.
    pub text: String,
    /// First and last physical line, from 1.
    pub lines: (usize, usize),
    /// Start offset in `text`, line, column of each piece, in order.
    pieces: Vec<(usize, usize, usize)>,
    /// Whether an empty line stood inside the continuation.
    pub empty_continuation: bool,
}

impl LogicalLine {
    /// Where the character at `offset` bytes into the text stands in the file.
    pub fn position(&self, offset: usize) -> Position {
        let index = self
            .pieces
            .partition_point(|(start, _, _)| *start <= offset);
        let Some(&(start, line, column)) = index.checked_sub(1).and_then(|i| self.pieces.get(i))
        else {
            return Position {
                line: self.lines.0,
                column: 1,
            };
        };
        let between = self
            .text
            .get(start..offset)
            .map_or(0, |text| text.chars().count());
        Position {
            line,
            column: column + between,
        }
    }

    /// Adds what is left of a physical line; `column` is where it begins.
    fn push(&mut self, text: &str, line: usize, column: usize) {
        self.pieces.push((self.text.len(), line, column));
        self.text.push_str(text);
        self.lines.1 = line;
    }
}

/// What the parser directives say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directives {
    /// `# escape=`: a backslash or a backtick.
    pub escape: char,
    /// `# syntax=`, as written, and its line.
    pub syntax: Option<(String, usize)>,
    /// `# check=`, as written.
    pub check: Option<String>,
}

impl Default for Directives {
    fn default() -> Self {
        Self {
            escape: '\\',
            syntax: None,
            check: None,
        }
    }
}

/// Reads a Dockerfile line by line.
pub struct Lines<'a> {
    physical: std::iter::Peekable<std::str::SplitInclusive<'a, char>>,
    number: usize,
    /// The directives seen so far.
    pub directives: Directives,
    directives_done: bool,
    escape_seen: bool,
}

impl<'a> Lines<'a> {
    /// Over a whole Dockerfile.
    pub fn new(text: &'a str) -> Self {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        Self {
            physical: text.split_inclusive('\n').peekable(),
            number: 0,
            directives: Directives::default(),
            directives_done: false,
            escape_seen: false,
        }
    }

    /// The number of the last physical line read.
    pub fn number(&self) -> usize {
        self.number
    }

    fn next_physical(&mut self) -> Option<&'a str> {
        let line = self.physical.next()?;
        self.number += 1;
        Some(line)
    }

    /// The next instruction; None at the end.
    ///
    /// # Errors
    /// A directive that is wrong: position, offending text, message. Reading can go on.
    #[allow(clippy::type_complexity)]
    pub fn next_logical(&mut self) -> Option<Result<LogicalLine, (Position, String, String)>> {
        loop {
            let raw = trim_newline(self.next_physical()?);
            let text = raw.trim_start();
            let column = 1 + raw.chars().count() - text.chars().count();
            if let Err((text, message)) = self.directive(text) {
                return Some(Err((
                    Position {
                        line: self.number,
                        column,
                    },
                    text,
                    message,
                )));
            }
            if text.is_empty() || text.starts_with('#') {
                continue;
            }
            let mut logical = LogicalLine {
                lines: (self.number, self.number),
                ..LogicalLine::default()
            };
            let (text, mut more) = self.continuation(text);
            if text.is_empty() && !more {
                continue;
            }
            logical.push(text, self.number, column);
            while more {
                let Some(raw) = self.next_physical() else {
                    break;
                };
                let raw = trim_newline(raw);
                let trimmed = raw.trim_start();
                if trimmed.starts_with('#') {
                    continue;
                }
                if trimmed.is_empty() {
                    logical.empty_continuation = true;
                    continue;
                }
                let (text, again) = self.continuation(raw);
                more = again;
                logical.push(text, self.number, 1);
            }
            if logical.text.trim().is_empty() {
                continue;
            }
            return Some(Ok(logical));
        }
    }

    /// The lines of a heredoc up to its terminator, which is not part of it; None if the file ends first.
    pub fn heredoc(&mut self, name: &str, chomp: bool) -> Option<String> {
        let mut content = String::new();
        loop {
            let raw = self.next_physical()?;
            let line = trim_newline(raw);
            let line = if chomp {
                line.trim_start_matches('\t')
            } else {
                line
            };
            if line == name {
                return Some(content);
            }
            content.push_str(raw);
        }
    }

    /// Splits a trailing continuation character off; whether there was one. A doubled one is text.
    fn continuation<'b>(&self, line: &'b str) -> (&'b str, bool) {
        let escape = self.directives.escape;
        match line.trim_end_matches([' ', '\t']).strip_suffix(escape) {
            Some(rest) if !rest.ends_with(escape) => (rest, true),
            _ => (line, false),
        }
    }

    fn directive(&mut self, line: &str) -> Result<(), (String, String)> {
        if self.directives_done {
            return Ok(());
        }
        let Some((name, value)) = split_directive(line) else {
            self.directives_done = true;
            return Ok(());
        };
        let number = self.number;
        let repeated = match name.as_str() {
            "escape" => {
                let Some(escape) = ["\\", "`"].iter().position(|valid| *valid == value) else {
                    return Err((
                        line.to_owned(),
                        format!("invalid escape token '{value}' does not match ` or \\"),
                    ));
                };
                let seen = std::mem::replace(&mut self.escape_seen, true);
                self.directives.escape = ['\\', '`'][escape];
                seen
            }
            "syntax" => self
                .directives
                .syntax
                .replace((value.to_owned(), number))
                .is_some(),
            "check" => self.directives.check.replace(value.to_owned()).is_some(),
            _ => {
                self.directives_done = true;
                false
            }
        };
        if repeated {
            return Err((
                line.to_owned(),
                format!("only one {name} parser directive can be used"),
            ));
        }
        Ok(())
    }
}

/// `# name = value` as name in lower case and value; None if it is not of that form.
fn split_directive(line: &str) -> Option<(String, &str)> {
    let (name, value) = line.strip_prefix('#')?.split_once('=')?;
    let (name, value) = (name.trim(), value.trim());
    let valid = name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.chars().all(|c| c.is_ascii_alphanumeric());
    (valid && !value.is_empty()).then(|| (name.to_ascii_lowercase(), value))
}

fn trim_newline(line: &str) -> &str {
    line.trim_end_matches(['\r', '\n'])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(source: &str) -> Vec<String> {
        let mut lines = Lines::new(source);
        std::iter::from_fn(|| lines.next_logical())
            .map(|line| line.unwrap().text)
            .collect()
    }

    #[test]
    fn continuations_comments_and_line_ends() {
        assert_eq!(
            texts("\u{feff}FROM a\r\nRUN x \\\r\n # note\r\n\r\n  y\r\n"),
            ["FROM a", "RUN x   y"]
        );
        assert_eq!(texts("ENV C a\\\\\nENV D b"), ["ENV C a\\\\", "ENV D b"]);
        assert_eq!(texts("# escape=`\nFROM a`\n b"), ["FROM a b"]);
        assert_eq!(
            texts("# note\n# escape=`\nFROM a`\nFROM b"),
            ["FROM a`", "FROM b"]
        );
    }

    #[test]
    fn positions_follow_continuations() {
        let mut lines = Lines::new("FROM a\n  RUN x \\\n# c\n   yy zz\n");
        lines.next_logical();
        let line = lines.next_logical().unwrap().unwrap();
        assert_eq!(line.lines, (2, 4));
        assert_eq!(line.position(0), Position { line: 2, column: 3 });
        let offset = line.text.find("zz").unwrap();
        assert_eq!(line.position(offset), Position { line: 4, column: 7 });
    }

    #[test]
    fn directives_are_checked() {
        let mut lines =
            Lines::new("# escape=x\n# syntax=docker/dockerfile:1\n#Syntax = two\nFROM a\n");
        assert!(
            lines
                .next_logical()
                .unwrap()
                .unwrap_err()
                .2
                .contains("invalid escape token 'x'")
        );
        assert!(
            lines
                .next_logical()
                .unwrap()
                .unwrap_err()
                .2
                .contains("only one syntax parser directive")
        );
        assert_eq!(lines.next_logical().unwrap().unwrap().text, "FROM a");
    }
}
