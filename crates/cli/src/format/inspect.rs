//! `inspect`: a JSON array indented by four spaces, one compact array for `json`, or a template per object.

use std::collections::BTreeMap;
use std::sync::Arc;

use gotmpl::{MissingKey, Template, TemplateError};
use serde_json::Value;

use super::functions;
use super::json::{self, Originals};
use crate::failure::Failure;

/// Exit code of a template that does not parse.
const PARSE_CODE: u8 = 64;

/// Go field names that differ from the JSON names: both are accepted in templates.
const GO_NAMES: [(&str, &str); 4] = [
    ("Id", "ID"),
    ("Dns", "DNS"),
    ("DnsOptions", "DNSOptions"),
    ("DnsSearch", "DNSSearch"),
];

/// Fields that Docker's types have and its JSON leaves out when unset: a template may ask for them.
const OPTIONAL: [(&str, &[&str]); 3] = [
    ("OOMKilled", &["Health"]),
    (
        "Cmd",
        &[
            "Healthcheck",
            "OnBuild",
            "Shell",
            "StopSignal",
            "StopTimeout",
            "ExposedPorts",
            "Volumes",
            "Labels",
        ],
    ),
    ("RestartCount", &["SizeRw", "SizeRootFs"]),
];

/// How `inspect` prints.
pub enum Format {
    /// All objects as one indented array.
    Indented,
    /// All objects as one compact array.
    Compact,
    /// A template, once per object.
    Template(String),
}

impl Format {
    /// Reads `--format` and checks that a template parses.
    ///
    /// # Errors
    /// [`Failure::Template`] with exit code 64.
    pub fn new(format: &str) -> Result<Self, Failure> {
        match format {
            "" => Ok(Self::Indented),
            "json" => Ok(Self::Compact),
            template => {
                parse(template, Arc::default())?;
                Ok(Self::Template(template.to_owned()))
            }
        }
    }

    /// The text of the objects found, and the failure of the first object whose template failed.
    ///
    /// # Errors
    /// None for whole formats; a template's, after the text of the objects before it.
    pub fn render(&self, objects: &[Value]) -> (String, Option<Failure>) {
        match self {
            Self::Indented if objects.is_empty() => ("[]\n".into(), None),
            Self::Indented => (
                format!("{}\n", json::indented(&Value::Array(objects.to_vec()))),
                None,
            ),
            Self::Compact => (
                format!(
                    "{}\n",
                    json::escape_html(&Value::Array(objects.to_vec()).to_string())
                ),
                None,
            ),
            Self::Template(_) if objects.is_empty() => ("\n".into(), None),
            Self::Template(template) => {
                let mut out = String::new();
                for object in objects {
                    match execute(template, object) {
                        Ok(text) => out.push_str(&text),
                        Err(failure) => {
                            out.push('\n');
                            return (out, Some(failure));
                        }
                    }
                    out.push('\n');
                }
                (out, None)
            }
        }
    }
}

fn parse(template: &str, originals: Arc<Originals>) -> Result<Template, Failure> {
    Template::new("")
        .missing_key(MissingKey::Error)
        .funcs(functions::all(Some(originals)))
        .parse(&template.replace("\\t", "\t").replace("\\n", "\n"))
        .map_err(|error| Failure::Template {
            message: format!("template parsing error: {error}"),
            code: PARSE_CODE,
        })
}

/// The text of one template over one object.
///
/// # Errors
/// [`Failure::Template`].
pub fn execute(template: &str, object: &Value) -> Result<String, Failure> {
    let mut originals = Originals::default();
    let data = convert(object, &mut originals);
    parse(template, Arc::new(originals))?
        .execute_to_string(&data)
        .map_err(|error| {
            let reason = match error {
                TemplateError::MissingKey { key } => {
                    format!(
                        "template: :1: executing \"\" at <.{key}>: map has no entry for key {key:?}"
                    )
                }
                other => other.to_string(),
            };
            Failure::Template {
                message: format!("template parsing error: {reason}"),
                code: 1,
            }
        })
}

fn convert(value: &Value, originals: &mut Originals) -> gotmpl::Value {
    match value {
        Value::Null => gotmpl::Value::Nil,
        Value::Bool(flag) => gotmpl::Value::Bool(*flag),
        Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(signed), _) => gotmpl::Value::Int(signed),
            (None, Some(unsigned)) => gotmpl::Value::Uint(unsigned),
            (None, None) => gotmpl::Value::Float(number.as_f64().unwrap_or(0.0)),
        },
        Value::String(text) => gotmpl::Value::String(text.as_str().into()),
        Value::Array(items) => {
            let items: Vec<_> = items.iter().map(|item| convert(item, originals)).collect();
            gotmpl::Value::List(items.into())
        }
        Value::Object(entries) => {
            let mut map: BTreeMap<Arc<str>, gotmpl::Value> = entries
                .iter()
                .map(|(key, entry)| (key.as_str().into(), convert(entry, originals)))
                .collect();
            for (name, go_name) in GO_NAMES {
                if let Some(entry) = map.get(name).cloned() {
                    map.entry(go_name.into()).or_insert(entry);
                }
            }
            for (mark, names) in OPTIONAL {
                if map.contains_key(mark) {
                    for name in names {
                        map.entry((*name).into()).or_insert(gotmpl::Value::Nil);
                    }
                }
            }
            let converted = gotmpl::Value::Map(Arc::new(map));
            originals.remember(&converted, value);
            converted
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn object() -> Value {
        json!({"Id": "abc", "Name": "/web", "State": {"Status": "running", "OOMKilled": false, "ExitCode": 0},
            "Config": {"Cmd": ["sh", "-c", "a && b"], "Labels": {"b": "2", "a.b": "1"}, "Image": "busybox"}})
    }

    fn template(text: &str) -> String {
        execute(text, &object()).unwrap()
    }

    #[test]
    fn whole_formats() {
        let (text, failure) = Format::new("")
            .unwrap()
            .render(&[json!({"Id": "a", "L": []})]);
        assert!(failure.is_none());
        assert_eq!(
            text,
            "[\n    {\n        \"Id\": \"a\",\n        \"L\": []\n    }\n]\n"
        );
        assert_eq!(Format::new("").unwrap().render(&[]).0, "[]\n");
        assert_eq!(
            Format::new("json").unwrap().render(&[json!({"A": "<"})]).0,
            "[{\"A\":\"\\u003c\"}]\n"
        );
    }

    #[test]
    fn templates_use_json_and_go_names() {
        assert_eq!(
            template("{{.Id}} {{.ID}} {{.State.Status}}"),
            "abc abc running"
        );
        assert_eq!(
            template("{{range $k, $v := .Config.Labels}}{{$k}}={{$v}};{{end}}"),
            "a.b=1;b=2;"
        );
        assert_eq!(template("{{json .Config.Cmd}}"), r#"["sh","-c","a && b"]"#);
        assert_eq!(template("{{if .State.Health}}x{{else}}none{{end}}"), "none");
        assert_eq!(
            template(r#"{{index .Config.Labels "a.b"}}[{{index .Config.Labels "zz"}}]"#),
            "1[]"
        );
    }

    #[test]
    fn json_keeps_the_order_of_keys() {
        assert_eq!(
            template("{{json .State}}"),
            r#"{"Status":"running","OOMKilled":false,"ExitCode":0}"#
        );
    }

    #[test]
    fn a_key_that_is_nowhere_is_an_error_after_an_empty_line() {
        let (text, failure) = Format::new("{{.Nosuch}}").unwrap().render(&[object()]);
        assert_eq!(text, "\n");
        let failure = failure.unwrap();
        assert!(
            failure
                .to_string()
                .ends_with("map has no entry for key \"Nosuch\""),
            "{failure}"
        );
        assert_eq!(failure.exit().0, 1);
        assert_eq!(Format::new("{{").map(drop).unwrap_err().exit().0, 64);
    }
}
