//! The `json` function: values as Go's encoder writes them.

use std::collections::HashMap;
use std::sync::Arc;

use gotmpl::Value;

use super::ROW_MARK;

/// Inspected objects by the address of their template value: template maps are sorted, the originals keep the
/// engine's order of keys.
#[derive(Debug, Default)]
pub struct Originals {
    by_address: HashMap<usize, serde_json::Value>,
}

impl Originals {
    /// Remembers what `value` was made of. The value must live as long as `self` is used.
    pub fn remember(&mut self, value: &Value, original: &serde_json::Value) {
        if let Value::Map(entries) = value {
            self.by_address
                .insert(Arc::as_ptr(entries).addr(), original.clone());
        }
    }
}

/// `value` as compact JSON. Rows of listings are escaped for HTML, other values are not, as in Docker.
pub fn text(value: &Value, originals: Option<&Originals>) -> String {
    let text = to_json(value, originals).to_string();
    if value.field(ROW_MARK).is_some() {
        escape_html(&text)
    } else {
        text
    }
}

fn to_json(value: &Value, originals: Option<&Originals>) -> serde_json::Value {
    match value {
        Value::Nil | Value::Function(_) => serde_json::Value::Null,
        Value::Bool(flag) => (*flag).into(),
        Value::Int(number) => (*number).into(),
        Value::Uint(number) => (*number).into(),
        Value::Float(number) => (*number).into(),
        Value::String(text) => text.as_ref().into(),
        Value::List(items) => items.iter().map(|item| to_json(item, originals)).collect(),
        Value::Map(entries) => {
            let original =
                originals.and_then(|all| all.by_address.get(&Arc::as_ptr(entries).addr()));
            original.cloned().unwrap_or_else(|| {
                let known = entries
                    .iter()
                    .filter(|(key, value)| {
                        key.as_ref() != ROW_MARK && !matches!(value, Value::Function(_))
                    })
                    .map(|(key, value)| (key.to_string(), to_json(value, originals)));
                serde_json::Value::Object(known.collect())
            })
        }
    }
}

/// Go's default escapes: these characters only occur inside of strings.
pub fn escape_html(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for letter in json.chars() {
        match letter {
            '<' => out.push_str("\\u003c"),
            '>' => out.push_str("\\u003e"),
            '&' => out.push_str("\\u0026"),
            '\u{2028}' => out.push_str("\\u2028"),
            '\u{2029}' => out.push_str("\\u2029"),
            other => out.push(other),
        }
    }
    out
}

/// `value` indented by four spaces, as `inspect` prints it.
pub fn indented(value: &serde_json::Value) -> String {
    let mut out = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut out, formatter);
    // Writing a JSON value to memory has no way to fail.
    let _ = serde::Serialize::serialize(value, &mut serializer);
    String::from_utf8_lossy(&out).into_owned()
}
