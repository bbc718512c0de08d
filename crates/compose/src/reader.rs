//! Typed reading of a tree: every mistake names the value's place and its path (`services.web.ports[0]`).

use std::time::Duration;

use crate::error::{LoadError, Position};
use crate::node::{Node, Value};

type Result<T> = std::result::Result<T, LoadError>;

/// A value together with its path.
#[derive(Clone)]
pub(crate) struct Reader<'a> {
    node: &'a Node,
    path: String,
}

impl<'a> Reader<'a> {
    /// The root of a document.
    pub fn root(node: &'a Node) -> Self {
        Self {
            node,
            path: String::new(),
        }
    }

    /// Where the value stands.
    pub fn position(&self) -> &'a Position {
        &self.node.at
    }

    /// The value itself.
    pub fn node(&self) -> &'a Node {
        self.node
    }

    /// Whether it is nothing.
    pub fn is_null(&self) -> bool {
        self.node.value == Value::Null
    }

    /// Whether it is a mapping.
    pub fn is_map(&self) -> bool {
        matches!(self.node.value, Value::Map(_))
    }

    /// Whether it is a list.
    pub fn is_list(&self) -> bool {
        matches!(self.node.value, Value::List(_))
    }

    /// An error at this value.
    pub fn error(&self, message: impl AsRef<str>) -> LoadError {
        let message = message.as_ref();
        match self.path.is_empty() {
            true => LoadError::at(&self.node.at, message),
            false => LoadError::at(&self.node.at, format!("{} {message}", self.path)),
        }
    }

    /// The entries of a mapping; nothing counts as an empty one.
    pub fn entries(&self) -> Result<Vec<(&'a str, Reader<'a>)>> {
        match &self.node.value {
            Value::Map(entries) => Ok(entries
                .iter()
                .map(|(key, node)| (key.as_str(), self.below(key, node)))
                .collect()),
            Value::Null => Ok(Vec::new()),
            _ => Err(self.error(format!("must be a mapping, not {}", self.node.kind()))),
        }
    }

    /// Checks a mapping's keys: `x-…` are always allowed, `refused` are known to Compose but not supported here.
    pub fn check_keys(&self, known: &[&str], refused: &[&str]) -> Result<()> {
        for (key, value) in self.entries()? {
            if key.starts_with("x-") || known.contains(&key) {
                continue;
            }
            if refused.contains(&key) {
                return Err(value.error("is not supported"));
            }
            let near = known.iter().find(|candidate| similar(key, candidate));
            let hint = near.map_or_else(String::new, |near| format!("; did you mean {near:?}?"));
            return Err(self
                .error(format!("additional property {key:?} is not allowed{hint}"))
                .moved(value.position()));
        }
        Ok(())
    }

    /// A value of a mapping, where it is something.
    pub fn get(&self, key: &str) -> Option<Reader<'a>> {
        let node = self.node.get(key)?;
        (node.value != Value::Null).then(|| self.below(key, node))
    }

    fn below(&self, key: &str, node: &'a Node) -> Self {
        let path = if self.path.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.path)
        };
        Self { node, path }
    }

    /// A scalar's text.
    pub fn text(&self) -> Result<String> {
        match &self.node.value {
            Value::Text(text) | Value::Number(text) => Ok(text.clone()),
            Value::Bool(value) => Ok(value.to_string()),
            _ => Err(self.error(format!("must be a string, not {}", self.node.kind()))),
        }
    }

    /// `true` or `false`, also as a string.
    pub fn boolean(&self) -> Result<bool> {
        match &self.node.value {
            Value::Bool(value) => Ok(*value),
            Value::Text(text) => match text.to_lowercase().as_str() {
                "true" | "yes" | "y" | "on" | "1" => Ok(true),
                "false" | "no" | "n" | "off" | "0" | "" => Ok(false),
                _ => Err(self.error(format!("must be true or false, not {text:?}"))),
            },
            _ => Err(self.error(format!("must be true or false, not {}", self.node.kind()))),
        }
    }

    /// Anything that parses from text.
    pub fn parsed<T: std::str::FromStr>(&self, what: &str) -> Result<T> {
        let text = self.text()?;
        text.trim()
            .parse()
            .map_err(|_| self.error(format!("must be {what}, not {text:?}")))
    }

    /// A number of bytes: `64m`, `1gb`, `1024`.
    pub fn bytes(&self) -> Result<u64> {
        ketch_spec::size::parse_bytes(&self.text()?).map_err(|error| self.error(error.to_string()))
    }

    /// A duration: `1m30s`.
    pub fn duration(&self) -> Result<Duration> {
        ketch_spec::duration::parse(&self.text()?).map_err(|error| self.error(error.to_string()))
    }

    /// The items of a list.
    pub fn items(&self) -> Result<Vec<Reader<'a>>> {
        match &self.node.value {
            Value::List(items) => Ok(items
                .iter()
                .enumerate()
                .map(|(at, node)| Reader {
                    node,
                    path: format!("{}[{at}]", self.path),
                })
                .collect()),
            Value::Null => Ok(Vec::new()),
            _ => Err(self.error(format!("must be a list, not {}", self.node.kind()))),
        }
    }

    /// A list of strings, or a single string.
    pub fn texts(&self) -> Result<Vec<String>> {
        if self.is_list() || self.is_null() {
            self.items()?.iter().map(Reader::text).collect()
        } else {
            Ok(vec![self.text()?])
        }
    }

    /// A command: a list as it is, a string split as a shell would.
    pub fn command(&self) -> Result<Vec<String>> {
        if self.is_list() {
            return self.texts();
        }
        split_words(&self.text()?).map_err(|message| self.error(message))
    }

    /// A mapping `NAME: value`, or a list of `NAME=value`; a name without a value is None.
    pub fn pairs(&self, separators: &[char]) -> Result<Vec<(String, Option<String>)>> {
        if self.is_list() {
            let split = |text: String| match text.split_once(separators) {
                Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
                None => (text, None),
            };
            return Ok(self.texts()?.into_iter().map(split).collect());
        }
        self.entries()?
            .into_iter()
            .map(|(name, value)| {
                Ok((
                    name.to_owned(),
                    if value.is_null() {
                        None
                    } else {
                        Some(value.text()?)
                    },
                ))
            })
            .collect()
    }
}

impl LoadError {
    /// The same mistake at a more exact place.
    fn moved(self, to: &Position) -> Self {
        match self {
            Self::Invalid { message, .. } => Self::Invalid {
                position: to.clone(),
                message,
            },
            other => other,
        }
    }
}

/// Whether two words differ by a letter left out, added or changed.
fn similar(a: &str, b: &str) -> bool {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    if a.len().abs_diff(b.len()) > 1 {
        return false;
    }
    let front = a.iter().zip(&b).take_while(|(x, y)| x == y).count();
    let back = a[front..]
        .iter()
        .rev()
        .zip(b[front..].iter().rev())
        .take_while(|(x, y)| x == y)
        .count();
    a.len().max(b.len()) - front - back <= 1
}

/// Splits a command line into words: blanks, single and double quotes, backslashes.
///
/// # Errors
/// A quote that is not closed.
pub fn split_words(line: &str) -> std::result::Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        match character {
            '\'' => quoted(&mut characters, '\'', word.get_or_insert_default())?,
            '"' => quoted(&mut characters, '"', word.get_or_insert_default())?,
            '\\' => word.get_or_insert_default().extend(characters.next()),
            blank if blank.is_whitespace() => words.extend(word.take()),
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    Ok(words)
}

fn quoted(
    characters: &mut std::str::Chars<'_>,
    quote: char,
    word: &mut String,
) -> std::result::Result<(), String> {
    while let Some(character) = characters.next() {
        match character {
            c if c == quote => return Ok(()),
            '\\' if quote == '"' => match characters.next() {
                Some(escaped @ ('"' | '\\' | '$' | '`')) => word.push(escaped),
                Some(other) => word.extend(['\\', other]),
                None => break,
            },
            other => word.push(other),
        }
    }
    Err(format!("has an unclosed {quote} in its command"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_split_as_a_shell_does() {
        let split = |line| split_words(line).expect("words");
        assert_eq!(
            split(r#"sh -c "echo \"a b\" $x" 'c d'\ e"#),
            ["sh", "-c", "echo \"a b\" $x", "c d e"]
        );
        assert_eq!(split("  a   ''  "), ["a", ""]);
        split_words("a 'b").expect_err("an open quote");
    }

    #[test]
    fn an_unknown_key_is_shown_with_its_place_and_a_guess() {
        let node = Node::parse("c.yaml", "image: x\ncomand: y\n").expect("YAML");
        let error = Reader::root(&node)
            .check_keys(&["image", "command"], &[])
            .expect_err("unknown")
            .to_string();
        assert!(
            error.starts_with("c.yaml:2:")
                && error.contains("\"comand\"")
                && error.contains("\"command\""),
            "{error}"
        );
    }
}
