//! YAML as a tree in which every value knows its place, so that any later mistake can be shown where it was made.

use std::fmt;
use std::sync::Arc;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{Options, Spanned, Tagged};

use crate::error::{LoadError, Position};

/// One value.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// What it is.
    pub value: Value,
    /// Where it stands.
    pub at: Position,
    /// `!reset` or `!override`.
    pub tag: Option<Tag>,
}

/// What a value is. `null`, `true` and `5` are told from their quoted forms, which are texts.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Nothing, or `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number, as text.
    Number(String),
    /// Any other scalar.
    Text(String),
    /// A sequence.
    List(Vec<Node>),
    /// A mapping, in the file's order; keys are unique.
    Map(Vec<(String, Node)>),
}

/// The tags that compose files give meaning to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tag {
    /// Removes what earlier files say.
    Reset,
    /// Replaces what earlier files say, without merging.
    Override,
}

impl Node {
    /// Parses one file's text.
    ///
    /// # Errors
    /// Text that is not YAML, with its place.
    pub fn parse(file: &str, text: &str) -> Result<Self, LoadError> {
        let options = serde_saphyr::options! {
            strict_booleans: true,
            leading_zero_numbers_as_strings: true,
            underscored_numbers_as_strings: true,
            with_snippet: false,
        };
        let file: Arc<str> = file.into();
        match parse(text, options) {
            Ok(raw) => Ok(raw.place(&file)),
            Err(error) => {
                let location = error.location();
                let position = Position {
                    line: location.map_or(0, |at| at.line()),
                    column: location.map_or(0, |at| at.column()),
                    file,
                };
                let message = error.without_snippet().to_string();
                // the place is in front already
                let message = message
                    .split(" at line ")
                    .next()
                    .unwrap_or(&message)
                    .to_owned();
                Err(LoadError::Invalid { position, message })
            }
        }
    }

    /// An empty mapping.
    pub fn empty(at: Position) -> Self {
        Self {
            value: Value::Map(Vec::new()),
            at,
            tag: None,
        }
    }

    /// Keeps only some entries of the mapping under `key`.
    pub fn retain(&mut self, key: &str, keep: &dyn Fn(&str) -> bool) {
        let Value::Map(entries) = &mut self.value else {
            return;
        };
        for (_, found) in entries.iter_mut().filter(|(name, _)| name == key) {
            if let Value::Map(inner) = &mut found.value {
                inner.retain(|(name, _)| keep(name));
            }
        }
    }

    /// A value of a mapping.
    pub fn get(&self, key: &str) -> Option<&Node> {
        match &self.value {
            Value::Map(entries) => entries
                .iter()
                .find(|(name, _)| name == key)
                .map(|(_, node)| node),
            _ => None,
        }
    }

    /// The words that error messages use for what this is.
    pub fn kind(&self) -> &'static str {
        match self.value {
            Value::Null => "nothing",
            Value::Bool(_) => "a boolean",
            Value::Number(_) => "a number",
            Value::Text(_) => "a string",
            Value::List(_) => "a list",
            Value::Map(_) => "a mapping",
        }
    }
}

fn parse(text: &str, options: Options) -> Result<Raw, serde_saphyr::Error> {
    serde_saphyr::from_str_with_options(text, options)
}

/// A value as the deserialiser gives it.
struct Raw(Spanned<Tagged<RawValue>>);

enum RawValue {
    Null,
    Bool(bool),
    Number(String),
    Text(String),
    List(Vec<Raw>),
    Map(Vec<(String, Raw)>),
}

impl Raw {
    fn place(self, file: &Arc<str>) -> Node {
        let Spanned {
            value: Tagged(value, tag),
            referenced,
            ..
        } = self.0;
        let value = match value {
            RawValue::Null => Value::Null,
            RawValue::Bool(value) => Value::Bool(value),
            RawValue::Number(text) => Value::Number(text),
            RawValue::Text(text) => Value::Text(text),
            RawValue::List(items) => {
                Value::List(items.into_iter().map(|item| item.place(file)).collect())
            }
            RawValue::Map(entries) => Value::Map(
                entries
                    .into_iter()
                    .map(|(key, item)| (key, item.place(file)))
                    .collect(),
            ),
        };
        let tag = match tag.as_deref() {
            Some("!reset") => Some(Tag::Reset),
            Some("!override") => Some(Tag::Override),
            _ => None,
        };
        let at = Position {
            file: file.clone(),
            line: referenced.line(),
            column: referenced.column(),
        };
        Node { value, at, tag }
    }
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Spanned::deserialize(deserializer).map(Raw)
    }
}

impl<'de> Deserialize<'de> for RawValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = RawValue;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<RawValue, E> {
        Ok(RawValue::Null)
    }

    fn visit_none<E>(self) -> Result<RawValue, E> {
        Ok(RawValue::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<RawValue, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_bool<E>(self, value: bool) -> Result<RawValue, E> {
        Ok(RawValue::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<RawValue, E> {
        Ok(RawValue::Number(value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<RawValue, E> {
        Ok(RawValue::Number(value.to_string()))
    }

    fn visit_i128<E>(self, value: i128) -> Result<RawValue, E> {
        Ok(RawValue::Number(value.to_string()))
    }

    fn visit_u128<E>(self, value: u128) -> Result<RawValue, E> {
        Ok(RawValue::Number(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<RawValue, E> {
        Ok(RawValue::Number(value.to_string()))
    }

    fn visit_str<E>(self, value: &str) -> Result<RawValue, E> {
        Ok(RawValue::Text(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<RawValue, E> {
        Ok(RawValue::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<RawValue, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(RawValue::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<RawValue, A::Error> {
        let mut map = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            map.push(entry);
        }
        Ok(RawValue::Map(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_know_their_place_and_keep_their_text() {
        let node = Node::parse(
            "c.yaml",
            "a: 0755\nb:\n  - yes\n  - 1.50\n  - !override [x]\nc: ~\n",
        )
        .expect("YAML");
        assert_eq!(
            node.get("a").map(|a| &a.value),
            Some(&Value::Text("0755".into()))
        );
        let Some(Node {
            value: Value::List(items),
            ..
        }) = node.get("b")
        else {
            panic!("a list")
        };
        assert_eq!(items[0].value, Value::Text("yes".into()));
        assert_eq!((items[0].at.line, items[0].at.column), (3, 5));
        assert_eq!(items[2].tag, Some(Tag::Override));
        assert_eq!(node.get("c").map(|c| &c.value), Some(&Value::Null));
    }

    #[test]
    fn merge_keys_and_anchors_are_resolved() {
        let node =
            Node::parse("c.yaml", "x: &x {a: 1, b: 2}\ny:\n  <<: *x\n  b: 3\n").expect("YAML");
        let y = node.get("y").expect("y");
        assert_eq!(
            y.get("a").map(|a| &a.value),
            Some(&Value::Number("1".into()))
        );
        assert_eq!(
            y.get("b").map(|b| &b.value),
            Some(&Value::Number("3".into()))
        );
    }

    #[test]
    fn a_mistake_has_a_place() {
        let error = Node::parse("c.yaml", "a: 1\na: 2\n").expect_err("a duplicate key");
        assert!(error.to_string().starts_with("c.yaml:2:"), "{error}");
        let bomb = format!(
            "a: &a [x,x,x,x,x,x,x,x,x]\n{}",
            (1..12)
                .map(|n| {
                    let previous = if n == 1 {
                        "a".to_owned()
                    } else {
                        format!("a{}", n - 1)
                    };
                    format!(
                        "b{n}: &a{n} [{}]\n",
                        vec![format!("*{previous}"); 9].join(",")
                    )
                })
                .collect::<String>()
        );
        Node::parse("c.yaml", &bomb).expect_err("an alias bomb is refused");
    }
}
