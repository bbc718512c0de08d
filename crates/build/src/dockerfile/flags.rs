//! The flags of an instruction: known or not, given once, with or without a value.

use super::node::{Node, Word, nearest};
use crate::error::Mistake;

/// What a flag takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takes {
    /// A value, once.
    Value,
    /// A value, again and again.
    Values,
    /// Nothing, `=true` or `=false`.
    Switch,
}

/// The flags of one instruction, checked.
pub struct Flags {
    given: Vec<(&'static str, Word)>,
}

impl Flags {
    /// Checks a node's flags against those its instruction knows; every mistake is added.
    pub fn read(node: &Node, known: &[(&'static str, Takes)], mistakes: &mut Vec<Mistake>) -> Self {
        let mut given: Vec<(&'static str, Word)> = Vec::new();
        for flag in &node.flags {
            let body = flag.text.strip_prefix("--").unwrap_or(&flag.text);
            let (name, value) = body
                .split_once('=')
                .map_or((body, None), |(name, value)| (name, Some(value)));
            let Some((known_name, takes)) = known.iter().find(|(known, _)| *known == name) else {
                let guess = nearest(name, known.iter().map(|(name, _)| *name));
                let guess = guess.map_or(String::new(), |name| format!(" (did you mean {name}?)"));
                mistakes.push(node.mistake(flag, format!("unknown flag: --{name}{guess}")));
                continue;
            };
            if *takes != Takes::Values && given.iter().any(|(name, _)| name == known_name) {
                mistakes.push(node.mistake(flag, format!("duplicate flag specified: --{name}")));
                continue;
            }
            let value = match (takes, value.map(str::to_lowercase).as_deref()) {
                (Takes::Switch, None | Some("true" | "")) => "true".to_owned(),
                (Takes::Switch, Some("false")) => "false".to_owned(),
                (Takes::Switch, Some(other)) => {
                    let message = format!("expecting boolean value for flag {name}, not: {other}");
                    mistakes.push(node.mistake(flag, message));
                    continue;
                }
                (_, None) => {
                    mistakes.push(node.mistake(flag, format!("missing a value on flag: --{name}")));
                    continue;
                }
                (_, Some(_)) => value.unwrap_or_default().to_owned(),
            };
            given.push((
                known_name,
                Word {
                    text: value,
                    at: flag.at,
                },
            ));
        }
        Self { given }
    }

    /// A flag's value, if it was given and is not empty.
    pub fn value(&self, name: &str) -> Option<Word> {
        self.given
            .iter()
            .find(|(given, word)| *given == name && !word.text.is_empty())
            .map(|(_, word)| word.clone())
    }

    /// All values of a flag.
    pub fn values(&self, name: &str) -> Vec<Word> {
        self.given
            .iter()
            .filter(|(given, _)| *given == name)
            .map(|(_, word)| word.clone())
            .collect()
    }

    /// Whether a switch is on; None if it was not given.
    pub fn switch(&self, name: &str) -> Option<bool> {
        self.given
            .iter()
            .find(|(given, _)| *given == name)
            .map(|(_, word)| word.text == "true")
    }

    /// Where a flag stands, if it was given.
    pub fn place(&self, name: &str) -> Option<&Word> {
        self.given
            .iter()
            .find(|(given, _)| *given == name)
            .map(|(_, word)| word)
    }
}
