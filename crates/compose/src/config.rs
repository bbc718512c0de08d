//! `config`: the normalised project as YAML or JSON.

use crate::model::{Project, json};

impl Project {
    /// The resolved project as YAML, keys sorted.
    pub fn to_yaml(&self) -> String {
        let mut output = String::new();
        yaml(&json(&self.tree), 0, &mut output);
        output
    }

    /// The resolved project as indented JSON.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(&json(&self.tree)).unwrap_or_default()
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
        || text.contains(':')
        || text.starts_with("0x")
        || text.starts_with("0o");
    let safe_start = text
        .starts_with(|c: char| c.is_ascii_alphabetic() || matches!(c, '/' | '_' | '.'))
        || text.starts_with(|c: char| c.is_ascii_digit()) && !number_like;
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
