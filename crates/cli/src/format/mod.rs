//! `--format` of listings: `table`, `table TEMPLATE`, `json`, `raw` or a Go template over rows of named fields.

use std::collections::BTreeMap;
use std::sync::Arc;

use gotmpl::{MissingKey, Template, TemplateError, Value, ValueFunc};

use crate::failure::Failure;
use crate::table;

pub mod functions;
pub mod inspect;
pub mod json;

/// The hidden field by which `json` knows a row; rows alone are HTML-escaped, as Docker's are.
pub const ROW_MARK: &str = "\0row";
/// The function that stands in for the method call `.Label "key"`.
const LABEL_CALL: &str = "row_label";

/// One row of a listing.
#[derive(Debug, Clone)]
pub struct Row {
    fields: BTreeMap<Arc<str>, Value>,
}

impl Row {
    /// A row without fields.
    pub fn new() -> Self {
        Self {
            fields: BTreeMap::from([(ROW_MARK.into(), Value::Bool(true))]),
        }
    }

    /// The same row with one more field. All of Docker's are strings, even counts.
    #[must_use]
    pub fn with(mut self, name: &str, text: impl Into<String>) -> Self {
        self.fields
            .insert(name.into(), Value::String(text.into().into()));
        self
    }

    /// The same row with a field that is not a string.
    #[must_use]
    pub fn with_value(mut self, name: &str, value: Value) -> Self {
        self.fields.insert(name.into(), value);
        self
    }

    /// The same row with `Labels` and the method `Label`.
    #[must_use]
    pub fn with_labels(self, labels: &BTreeMap<String, String>) -> Self {
        let text = labels
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect::<Vec<_>>()
            .join(",");
        let labels = labels.clone();
        let lookup: ValueFunc = Arc::new(move |arguments| {
            let key = arguments
                .first()
                .map(ToString::to_string)
                .unwrap_or_default();
            Ok(Value::String(
                labels.get(&key).map_or("", String::as_str).into(),
            ))
        });
        self.with("Labels", text)
            .with_value("Label", Value::Function(lookup))
    }
}

/// A kind of listing: its fields with their headers, and its formats.
pub struct Listing<'a> {
    /// Field name and header of each field.
    pub headers: &'a [(&'a str, &'a str)],
    /// The default table, without the word `table`.
    pub table: &'a str,
    /// What `-q` prints.
    pub quiet: &'a str,
    /// What `--format raw` prints.
    pub raw: &'a str,
}

/// The format of a listing and whether `-q` counts, as Docker has it: a format that was given stands before `-q`, which
/// stands before a configured one.
pub fn choose(given: Option<&str>, configured: Option<&str>, quiet: bool) -> (String, bool) {
    match given.filter(|format| !format.is_empty()) {
        Some(format) => (
            format.to_owned(),
            quiet && matches!(format, "table" | "raw"),
        ),
        None if quiet => (String::new(), true),
        None => (configured.unwrap_or_default().to_owned(), false),
    }
}

impl Listing<'_> {
    /// The text of all rows. An empty `format` means the default table.
    ///
    /// # Errors
    /// [`Failure::Template`] with exit code 1.
    pub fn render(&self, rows: &[Row], format: &str, quiet: bool) -> Result<String, Failure> {
        let format = match (quiet, format) {
            // Docker: the raw form's line that has the id.
            (true, "raw") => self.raw_line(),
            (true, _) => self.quiet,
            (false, format) => format,
        };
        let (template, is_table) = match format {
            "" | "table" => (self.table.to_owned(), true),
            "json" => ("{{json .}}".to_owned(), false),
            "raw" => (self.raw.to_owned(), false),
            other => match other.strip_prefix("table ") {
                Some(rest) => (rest.trim().to_owned(), true),
                None => (other.to_owned(), false),
            },
        };
        let text = unescape(&rewrite_label_calls(&template));
        let parsed = parse(&text, false)?;
        let mut out = String::new();
        if is_table {
            let header = parse(&text, true)?;
            out.push_str(&execute(&header, &self.header_row())?);
            out.push('\n');
        }
        for row in rows {
            out.push_str(&execute(
                &parsed,
                &Value::Map(Arc::new(row.fields.clone())),
            )?);
            out.push('\n');
        }
        Ok(if is_table {
            table::align(&out, table::LISTING)
        } else {
            out
        })
    }

    /// The line of the raw form in which stands what `-q` prints.
    fn raw_line(&self) -> &str {
        let mut lines = self.raw.split(r"\n");
        lines
            .find(|line| line.contains(self.quiet))
            .unwrap_or(self.quiet)
    }

    fn header_row(&self) -> Value {
        let mut fields: BTreeMap<Arc<str>, Value> = self
            .headers
            .iter()
            .map(|(name, header)| ((*name).into(), Value::String((*header).into())))
            .collect();
        let label: ValueFunc = Arc::new(|arguments| {
            let key = arguments
                .first()
                .map(ToString::to_string)
                .unwrap_or_default();
            Ok(Value::String(label_header(&key).into()))
        });
        fields.insert("Label".into(), Value::Function(label));
        Value::Map(Arc::new(fields))
    }
}

/// `com.example.my-key` → `my key`, as Docker heads a label's column.
fn label_header(key: &str) -> String {
    key.rsplit('.')
        .next()
        .unwrap_or(key)
        .replace(['-', '_'], " ")
}

fn parse(text: &str, header: bool) -> Result<Template, Failure> {
    let functions = if header {
        functions::neutral()
    } else {
        functions::all(None)
    };
    Template::new("")
        .missing_key(MissingKey::Error)
        .funcs(functions)
        .func(LABEL_CALL, |arguments| match arguments {
            [row, key] => match row.field("Label") {
                Some(Value::Function(label)) => label(std::slice::from_ref(key)),
                _ => Err(TemplateError::MissingKey {
                    key: "Label".into(),
                }),
            },
            _ => Err(TemplateError::Exec("wrong number of args for Label".into())),
        })
        .parse(text)
        .map_err(|error| Failure::Template {
            message: format!("failed to parse template: {error}"),
            code: 1,
        })
}

fn execute(template: &Template, row: &Value) -> Result<String, Failure> {
    template.execute_to_string(row).map_err(|error| {
        let reason = match error {
            TemplateError::MissingKey { key } => format!("can't evaluate field {key}"),
            other => other.to_string(),
        };
        Failure::Template {
            message: format!("failed to execute template: {reason}"),
            code: 1,
        }
    })
}

/// `\t` and `\n` written as such outside of actions and inside of them are a tab and a newline.
fn unescape(text: &str) -> String {
    text.replace("\\t", "\t").replace("\\n", "\n")
}

/// Turns the method call `.Label "key"` into a function call: the template engine knows fields only.
fn rewrite_label_calls(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    let mut rest = text;
    while let Some(at) = rest.find(".Label") {
        let after = &rest[at + ".Label".len()..];
        let is_call =
            after.starts_with([' ', '\t']) && in_action(text.len() - rest.len() + at, text);
        let is_root = rest[..at].ends_with('$');
        if is_call {
            out.push_str(if is_root {
                &rest[..at - 1]
            } else {
                &rest[..at]
            });
            out.push_str(LABEL_CALL);
            out.push_str(if is_root { " $" } else { " ." });
        } else {
            out.push_str(&rest[..at + ".Label".len()]);
        }
        rest = after;
    }
    out.push_str(rest);
    out
}

/// Whether `at` is between `{{` and `}}` of `text`.
fn in_action(at: usize, text: &str) -> bool {
    let before = &text[..at];
    match (before.rfind("{{"), before.rfind("}}")) {
        (Some(open), Some(close)) => open > close,
        (open, _) => open.is_some(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LISTING: Listing<'static> = Listing {
        headers: &[
            ("ID", "CONTAINER ID"),
            ("Names", "NAMES"),
            ("Labels", "LABELS"),
            ("Size", "SIZE"),
        ],
        table: r"{{.ID}}\t{{.Names}}",
        quiet: "{{.ID}}",
        raw: r"id: {{.ID}}\n",
    };

    fn rows() -> Vec<Row> {
        let labels = BTreeMap::from([("com.example.my-key".to_owned(), "v<1>".to_owned())]);
        vec![
            Row::new()
                .with("ID", "0123456789ab")
                .with("Names", "web")
                .with("Size", "0B")
                .with_labels(&labels),
            Row::new()
                .with("ID", "ba9876543210")
                .with("Names", "")
                .with("Size", "1kB")
                .with_labels(&BTreeMap::new()),
        ]
    }

    fn render(format: &str) -> String {
        LISTING.render(&rows(), format, false).unwrap()
    }

    #[test]
    fn a_given_format_stands_before_quiet_and_that_before_a_configured_one() {
        let own = Some("{{.ID}}");
        assert_eq!(choose(own, Some("x"), true), ("{{.ID}}".into(), false));
        assert_eq!(choose(Some("table"), None, true), ("table".into(), true));
        assert_eq!(choose(None, Some("x"), true), (String::new(), true));
        assert_eq!(choose(Some(""), Some("x"), false), ("x".into(), false));
    }

    #[test]
    fn the_default_table() {
        assert_eq!(
            render(""),
            "CONTAINER ID   NAMES\n0123456789ab   web\nba9876543210   \n"
        );
        assert_eq!(render("table"), render(""));
        assert_eq!(
            LISTING.render(&[], "", false).unwrap(),
            "CONTAINER ID   NAMES\n"
        );
    }

    #[test]
    fn templates_with_and_without_table() {
        assert_eq!(
            render("{{.Names}}|{{.ID}}"),
            "web|0123456789ab\n|ba9876543210\n"
        );
        assert_eq!(
            render(r"table {{.Names}}\t{{.Size}}"),
            "NAMES     SIZE\nweb       0B\n          1kB\n"
        );
        assert_eq!(render("raw"), "id: 0123456789ab\n\nid: ba9876543210\n\n");
        assert_eq!(
            render("table {{upper .Names}}\\t{{.ID}}"),
            "NAMES     CONTAINER ID\nWEB       0123456789ab\n          ba9876543210\n"
        );
    }

    #[test]
    fn labels_are_called_like_methods() {
        assert_eq!(render(r#"{{.Label "com.example.my-key"}}"#), "v<1>\n\n");
        assert_eq!(
            render(r#"table {{.ID}}\t{{.Label "com.example.my-key"}}"#)
                .lines()
                .next()
                .unwrap(),
            "CONTAINER ID   my key"
        );
        assert_eq!(
            render(r#"{{if .Label "nope"}}x{{else}}{{$.Label "com.example.my-key"}}{{end}}"#),
            "v<1>\n\n"
        );
        assert_eq!(
            render(".Label x{{.Labels}}").lines().next().unwrap(),
            ".Label xcom.example.my-key=v<1>"
        );
    }

    #[test]
    fn json_rows_are_sorted_and_escaped_for_html_but_fields_are_not() {
        assert_eq!(
            render("json").lines().next().unwrap(),
            "{\"ID\":\"0123456789ab\",\"Labels\":\"com.example.my-key=v\\u003c1\\u003e\",\"Names\":\"web\",\"Size\":\"0B\"}"
        );
        assert_eq!(
            render("{{json .Labels}}").lines().next().unwrap(),
            "\"com.example.my-key=v<1>\""
        );
    }

    #[test]
    fn quiet_prints_ids() {
        assert_eq!(
            LISTING.render(&rows(), "", true).unwrap(),
            "0123456789ab\nba9876543210\n"
        );
        assert_eq!(
            LISTING.render(&rows(), "raw", true).unwrap(),
            "id: 0123456789ab\nid: ba9876543210\n"
        );
    }

    #[test]
    fn unknown_fields_and_bad_templates_are_errors() {
        let error = LISTING.render(&rows(), "{{.Nosuch}}", false).unwrap_err();
        assert_eq!(
            error.to_string(),
            "failed to execute template: can't evaluate field Nosuch"
        );
        assert_eq!(error.exit().0, 1);
        let error = LISTING.render(&rows(), "{{.ID", false).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("failed to parse template: template: "),
            "{error}"
        );
    }
}
