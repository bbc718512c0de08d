//! `config`: the normalised project as YAML or JSON.

use crate::model::{Project, json};

/// Sections in the order of Docker Compose.
const SECTIONS: [&str; 6] = [
    "name", "services", "networks", "volumes", "secrets", "configs",
];

impl Project {
    /// The resolved project as YAML, keys sorted. It loads again, to the same: a `$` is written as `$$`.
    pub fn to_yaml(&self) -> String {
        let mut output = String::new();
        let document = self.document();
        for section in SECTIONS {
            if let Some(value) = document.get(section) {
                output.push_str(&format!("{section}:"));
                nested(value, 1, &mut output);
            }
        }
        output
    }

    /// The resolved project as indented JSON.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(&self.document()).unwrap_or_default()
    }

    fn document(&self) -> serde_json::Value {
        let mut document = json(&self.tree);
        escape(&mut document);
        if let Some(sections) = document.as_object_mut() {
            let is_empty =
                |section: &serde_json::Value| section.as_object().is_some_and(|map| map.is_empty());
            sections.retain(|_, section| !is_empty(section));
            let nothing = || serde_json::Value::Object(serde_json::Map::new());
            sections.entry("services").or_insert_with(nothing);
        }
        document
    }
}

/// Doubles every `$`, so that it is none of a variable's.
fn escape(value: &mut serde_json::Value) {
    use serde_json::Value;
    match value {
        Value::String(text) if text.contains('$') => *text = text.replace('$', "$$"),
        Value::Array(items) => items.iter_mut().for_each(escape),
        Value::Object(map) => map.values_mut().for_each(escape),
        _ => {}
    }
}

/// Writes a mapping or list in block style, two blanks a level.
fn yaml(value: &serde_json::Value, depth: usize, output: &mut String) {
    use serde_json::Value;
    let indent = "  ".repeat(depth);
    match value {
        Value::Object(map) => {
            for (key, item) in map {
                output.push_str(&format!("{indent}{}:", scalar(key)));
                nested(item, depth + 1, output);
            }
        }
        Value::Array(items) => {
            for item in items {
                let mut inner = String::new();
                match item {
                    Value::Object(map) if !map.is_empty() => {
                        yaml(item, depth + 1, &mut inner);
                        // the dash takes the place of the first line's indentation
                        output.push_str(&format!("{indent}- {}", &inner[indent.len() + 2..]));
                    }
                    _ => {
                        nested(item, depth + 1, &mut inner);
                        output.push_str(&format!("{indent}-{inner}"));
                    }
                }
            }
        }
        other => output.push_str(&format!("{indent}{}\n", plain(other))),
    }
}

fn nested(value: &serde_json::Value, depth: usize, output: &mut String) {
    use serde_json::Value;
    match value {
        Value::Object(map) if map.is_empty() => output.push_str(" {}\n"),
        Value::Array(items) if items.is_empty() => output.push_str(" []\n"),
        Value::Object(_) | Value::Array(_) => {
            output.push('\n');
            yaml(value, depth, output);
        }
        other => output.push_str(&format!(" {}\n", plain(other))),
    }
}

fn plain(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::String(text) => scalar(text),
        other => other.to_string(),
    }
}

/// A string as a YAML scalar: plain where no reader could take it for something else, double-quoted otherwise.
fn scalar(text: &str) -> String {
    let number_like = text.parse::<f64>().is_ok()
        || text.starts_with(|c: char| c.is_ascii_digit()) && text.contains([':', 'x', 'o', '_']);
    let safe_start =
        text.starts_with(|c: char| c.is_ascii_alphanumeric() || "/_.".contains(c)) && !number_like;
    let safe = safe_start
        && !text.ends_with([' ', ':'])
        && !text.contains(": ")
        && !text.contains(" #")
        && text
            .chars()
            .all(|c| c.is_alphanumeric() || " /_.-:=@+,$()<>;|&^~%".contains(c))
        && !matches!(
            text.to_lowercase().as_str(),
            "true" | "false" | "yes" | "no" | "on" | "off" | "null" | "y" | "n" | ".inf" | ".nan"
        );
    if safe {
        text.to_owned()
    } else {
        serde_json::Value::String(text.to_owned()).to_string()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::scalar;
    use crate::node::{Node, Value};

    fn read_back(text: &str) -> Value {
        let line = format!("key: {}\n", scalar(text));
        let node = Node::parse("c.yaml", &line).unwrap_or_else(|error| panic!("{line:?}: {error}"));
        node.get("key").expect("the key").value.clone()
    }

    #[test]
    fn words_that_look_like_something_else_are_quoted() {
        for text in [
            "yes",
            "1",
            "1e3",
            "0x1f",
            "1:30",
            "null",
            "~",
            "",
            " a",
            "a: b",
            "a #b",
            "- a",
            "&a",
            "*a",
            "!a",
            "%a",
            "@a",
            "[a",
            "{a",
            "1_000",
            "2024-01-01",
            ".5",
            ".inf",
            "<<",
            "=",
            "a\tb",
            "a\nb",
            "é",
            "\u{85}",
            "\u{feff}x",
        ] {
            assert_eq!(read_back(text), Value::Text(text.to_owned()), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn every_string_is_read_back(text in "\\PC{0,20}") {
            prop_assert_eq!(read_back(&text), Value::Text(text));
        }
    }
}
