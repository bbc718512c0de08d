//! `$V ${V} ${V:-d} ${V-d} ${V:?e} ${V?e} ${V:+r} ${V+r}`, nested, `$$` for a dollar: in values, never in keys.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::LoadError;
use crate::node::{Node, Value};

/// How deep `${A:-${B:-…}}` may nest.
const MAX_DEPTH: usize = 50;

/// Replaces variables in every string of a tree. Names that are unset and have no default become empty and are
/// collected in `unset`, for a warning each.
///
/// # Errors
/// A malformed `${…}`, or a `${V:?message}` whose variable is missing, with the value's place.
pub fn tree(
    node: &mut Node,
    variables: &BTreeMap<String, String>,
    unset: &mut BTreeSet<String>,
) -> Result<(), LoadError> {
    match &mut node.value {
        Value::Text(value) if value.contains('$') => {
            *value = text(value, variables, unset)
                .map_err(|message| LoadError::at(&node.at, message))?;
        }
        Value::List(items) => {
            for item in items {
                tree(item, variables, unset)?;
            }
        }
        Value::Map(entries) => {
            for (_, item) in entries {
                tree(item, variables, unset)?;
            }
        }
        _ => {}
    }
    Ok(())
}

/// Replaces variables in one string.
///
/// # Errors
/// As [`tree`], without the place.
pub fn text(
    input: &str,
    variables: &BTreeMap<String, String>,
    unset: &mut BTreeSet<String>,
) -> Result<String, String> {
    Expansion { variables, unset }.expand(input, 0)
}

struct Expansion<'a> {
    variables: &'a BTreeMap<String, String>,
    unset: &'a mut BTreeSet<String>,
}

impl Expansion<'_> {
    fn expand(&mut self, input: &str, depth: usize) -> Result<String, String> {
        if depth > MAX_DEPTH {
            return Err(format!(
                "invalid interpolation format: more than {MAX_DEPTH} nested variables"
            ));
        }
        let mut output = String::with_capacity(input.len());
        let mut rest = input;
        while let Some(dollar) = rest.find('$') {
            output.push_str(&rest[..dollar]);
            rest = &rest[dollar + 1..];
            if let Some(after) = rest.strip_prefix('$') {
                output.push('$');
                rest = after;
            } else if let Some(braced) = rest.strip_prefix('{') {
                let end = closing(braced).ok_or_else(|| malformed(input))?;
                output.push_str(&self.braced(&braced[..end], input, depth)?);
                rest = &braced[end + 1..];
            } else {
                let length = name_length(rest);
                if length == 0 {
                    return Err(malformed(input));
                }
                output.push_str(&self.value(&rest[..length]));
                rest = &rest[length..];
            }
        }
        output.push_str(rest);
        Ok(output)
    }

    /// The inside of `${…}`.
    fn braced(&mut self, inside: &str, whole: &str, depth: usize) -> Result<String, String> {
        let length = name_length(inside);
        let (name, operation) = inside.split_at(length);
        if name.is_empty() {
            return Err(malformed(whole));
        }
        let (counts_empty, operation) = match operation.strip_prefix(':') {
            Some(operation) => (true, operation),
            None => (false, operation),
        };
        let found = self
            .variables
            .get(name)
            .filter(|value| !(counts_empty && value.is_empty()))
            .cloned();
        let mut characters = operation.chars();
        match characters.next() {
            None if !counts_empty => Ok(self.value(name)),
            Some('-') => found.map_or_else(|| self.expand(characters.as_str(), depth + 1), Ok),
            Some('+') if found.is_some() => self.expand(characters.as_str(), depth + 1),
            Some('+') => Ok(String::new()),
            Some('?') => match found {
                Some(value) => Ok(value),
                None => {
                    let message = self.expand(characters.as_str(), depth + 1)?;
                    Err(format!(
                        "required variable {name} is missing a value: {message}"
                    ))
                }
            },
            _ => Err(malformed(whole)),
        }
    }

    fn value(&mut self, name: &str) -> String {
        self.variables.get(name).cloned().unwrap_or_else(|| {
            self.unset.insert(name.to_owned());
            String::new()
        })
    }
}

/// Where the brace that closes an already opened one is.
fn closing(text: &str) -> Option<usize> {
    let mut depth = 0usize;
    let mut previous = ' ';
    for (at, character) in text.char_indices() {
        match character {
            '{' if previous == '$' => depth += 1,
            '}' if depth == 0 => return Some(at),
            '}' => depth -= 1,
            _ => {}
        }
        previous = character;
    }
    None
}

fn name_length(text: &str) -> usize {
    let valid = |(at, byte): (usize, u8)| {
        byte == b'_' || byte.is_ascii_alphabetic() || (at > 0 && byte.is_ascii_digit())
    };
    text.bytes()
        .enumerate()
        .take_while(|pair| valid(*pair))
        .count()
}

fn malformed(text: &str) -> String {
    format!("invalid interpolation format: {text:?}. You may need to escape any $ with another $")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expand(input: &str) -> Result<String, String> {
        let variables = [("SET", "value"), ("EMPTY", "")]
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .into();
        text(input, &variables, &mut BTreeSet::new())
    }

    #[test]
    fn every_form() {
        for (input, expected) in [
            ("a $SET b", "a value b"),
            ("${SET}x", "valuex"),
            ("$$SET", "$SET"),
            ("${NONE-d}", "d"),
            ("${EMPTY-d}", ""),
            ("${EMPTY:-d}", "d"),
            ("${NONE:-${SET}}", "value"),
            ("${NONE:-${OTHER:-deep}}", "deep"),
            ("${SET:+r}", "r"),
            ("${EMPTY:+r}", ""),
            ("${EMPTY+r}", "r"),
            ("${NONE+r}", ""),
            ("${SET?no}", "value"),
            ("${NONE}", ""),
            ("${NONE:-a}b}", "ab}"),
        ] {
            assert_eq!(expand(input).as_deref(), Ok(expected), "{input}");
        }
    }

    #[test]
    fn mistakes_are_errors() {
        assert!(expand("${NONE:?say why}").is_err_and(|message| message.contains("say why")));
        assert!(expand("${EMPTY:?}").is_err());
        for input in [
            "${", "${}", "${SET", "$ x", "a$", "${SET!x}", "${SET:}", "${1}",
        ] {
            assert!(expand(input).is_err(), "{input}");
        }
        let deep = "${A:-".repeat(200) + &"}".repeat(200);
        assert!(expand(&deep).is_err());
    }
}
