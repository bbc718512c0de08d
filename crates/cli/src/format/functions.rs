//! The functions Docker adds to Go's templates, and Go's own rule for a missing map entry.

use std::sync::Arc;

use gotmpl::{FuncMap, TemplateError, Value, ValueFunc};

use super::json::{self, Originals};

type Result<T> = std::result::Result<T, TemplateError>;

/// All functions, for values. `originals` keeps the key order of inspected objects for `json`.
pub fn all(originals: Option<Arc<Originals>>) -> FuncMap {
    let mut map = FuncMap::new();
    let mut add = |name: &str, function: ValueFunc| map.insert(name.into(), function);
    add(
        "json",
        Arc::new(move |arguments| {
            let [value] = exactly("json", arguments)?;
            Ok(string(json::text(value, originals.as_deref())))
        }),
    );
    add(
        "split",
        Arc::new(|arguments| {
            let [text, separator] = exactly("split", arguments)?;
            let (text, separator) = (text.to_string(), separator.to_string());
            let parts: Vec<Value> = if separator.is_empty() {
                text.chars()
                    .map(|letter| string(letter.to_string()))
                    .collect()
            } else {
                text.split(&separator)
                    .map(|part| string(part.to_owned()))
                    .collect()
            };
            Ok(Value::List(parts.into()))
        }),
    );
    add(
        "join",
        Arc::new(|arguments| {
            let [list, separator] = exactly("join", arguments)?;
            match list {
                Value::List(items) => {
                    let items: Vec<String> = items.iter().map(ToString::to_string).collect();
                    Ok(string(items.join(&separator.to_string())))
                }
                Value::Nil => Ok(string(String::new())),
                _ => Err(TemplateError::Exec(
                    "join: the first argument is not a list".into(),
                )),
            }
        }),
    );
    add("title", text_function("title", title));
    add("lower", text_function("lower", |text| text.to_lowercase()));
    add("upper", text_function("upper", |text| text.to_uppercase()));
    add("pad", Arc::new(pad));
    add(
        "truncate",
        Arc::new(|arguments| {
            let [text, length] = exactly("truncate", arguments)?;
            let (text, length) = (text.to_string(), count(length));
            if text.len() < length {
                return Ok(string(text));
            }
            Ok(string(
                String::from_utf8_lossy(&text.as_bytes()[..length]).into_owned(),
            ))
        }),
    );
    map.insert("index".into(), Arc::new(index));
    map
}

/// The functions for the header row: they leave their first argument as it is; `pad` still pads.
pub fn neutral() -> FuncMap {
    let mut map = FuncMap::new();
    for name in [
        "json", "split", "join", "title", "lower", "upper", "truncate",
    ] {
        let first: ValueFunc =
            Arc::new(|arguments| Ok(arguments.first().cloned().unwrap_or(Value::Nil)));
        map.insert(name.into(), first);
    }
    map.insert("pad".into(), Arc::new(pad));
    map
}

fn string(text: String) -> Value {
    Value::String(text.into())
}

fn exactly<'a, const N: usize>(name: &str, arguments: &'a [Value]) -> Result<&'a [Value; N]> {
    arguments.try_into().map_err(|_| TemplateError::ArgCount {
        name: name.to_owned(),
        expected: N,
        got: arguments.len(),
    })
}

fn text_function(name: &'static str, change: fn(&str) -> String) -> ValueFunc {
    Arc::new(move |arguments| {
        let [text] = exactly(name, arguments)?;
        Ok(string(change(&text.to_string())))
    })
}

fn count(value: &Value) -> usize {
    value
        .as_int()
        .and_then(|n| usize::try_from(n).ok())
        .unwrap_or(0)
}

/// The longest padding that is made.
const MAX_PADDING: usize = 4096;

/// Spaces around a text that is not empty.
fn pad(arguments: &[Value]) -> Result<Value> {
    let [text, before, after] = exactly("pad", arguments)?;
    let text = text.to_string();
    if text.is_empty() {
        return Ok(string(text));
    }
    let spaces = |value: &Value| " ".repeat(count(value).min(MAX_PADDING));
    Ok(string(format!("{}{text}{}", spaces(before), spaces(after))))
}

/// Go's `strings.Title`: the first letter of each word.
fn title(text: &str) -> String {
    let mut start = true;
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        if start {
            out.extend(letter.to_uppercase());
        } else {
            out.push(letter);
        }
        start = !(letter.is_alphanumeric() || letter == '_' || letter == '\'');
    }
    out
}

/// Go's `index`; an entry that a map of strings lacks is the empty string, as in `index .Config.Labels "x"`.
fn index(arguments: &[Value]) -> Result<Value> {
    let Some((first, keys)) = arguments.split_first() else {
        return Err(TemplateError::ArgCount {
            name: "index".into(),
            expected: 1,
            got: 0,
        });
    };
    let mut value = first.clone();
    for key in keys {
        let next = match &value {
            Value::Nil => string(String::new()),
            map @ Value::Map(entries) => match (map.index(key)?, key) {
                (Value::Nil, Value::String(name)) if !entries.contains_key(name.as_ref()) => {
                    let strings = entries
                        .values()
                        .all(|entry| matches!(entry, Value::String(_)));
                    if strings {
                        string(String::new())
                    } else {
                        Value::Nil
                    }
                }
                (found, _) => found,
            },
            other => other.index(key)?,
        };
        value = next;
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use gotmpl::Template;

    fn run(text: &str) -> String {
        let data = gotmpl::tmap! {
            "Text" => "hello wide_world ok",
            "Empty" => "",
            "List" => vec!["a".to_string(), "b".to_string()],
            "Labels" => gotmpl::tmap! { "x" => "1" },
        };
        Template::new("")
            .funcs(all(None))
            .parse(text)
            .unwrap()
            .execute_to_string(&data)
            .unwrap()
    }

    #[test]
    fn docker_functions() {
        assert_eq!(run("{{upper .Text}}"), "HELLO WIDE_WORLD OK");
        assert_eq!(run("{{title .Text}}"), "Hello Wide_world Ok");
        assert_eq!(
            run(r#"{{join (split .Text " ") "+"}}"#),
            "hello+wide_world+ok"
        );
        assert_eq!(
            run("[{{pad .Text 1 2}}][{{pad .Empty 1 2}}]"),
            "[ hello wide_world ok  ][]"
        );
        assert_eq!(
            run("{{truncate .Text 5}}|{{truncate .Text 99}}"),
            "hello|hello wide_world ok"
        );
        assert_eq!(
            run("{{json .List}} {{json .Text}}"),
            r#"["a","b"] "hello wide_world ok""#
        );
        assert_eq!(run("{{println .Text}}"), "hello wide_world ok\n");
    }

    #[test]
    fn a_missing_label_is_empty() {
        assert_eq!(
            run(r#"[{{index .Labels "x"}}][{{index .Labels "y"}}]"#),
            "[1][]"
        );
        assert_eq!(run("{{index .List 1}}"), "b");
    }
}
