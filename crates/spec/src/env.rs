//! Environment variables as `-e` and `--env-file` write them (not Compose's `.env`, which has quotes).

/// A variable; without a value it is copied from the caller's environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variable {
    /// Name, never empty, without `=` and white space.
    pub name: String,
    /// Value as written; None for a bare name.
    pub value: Option<String>,
}

/// Why an environment file or a variable is refused; the words are Docker's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnvError {
    /// A line that is not UTF-8.
    #[error("invalid utf8 bytes at line {line}")]
    Utf8 {
        /// Line number, from 1.
        line: usize,
    },
    /// A line that starts with `=`.
    #[error("line {line}: no variable name on line '{text}'")]
    NoName {
        /// Line number, from 1.
        line: usize,
        /// The line.
        text: String,
    },
    /// A name with white space in it.
    #[error("line {line}: variable '{name}' contains whitespaces")]
    WhiteSpace {
        /// Line number, from 1.
        line: usize,
        /// The name.
        name: String,
    },
    /// `-e` with an empty name.
    #[error("invalid environment variable: {text}")]
    Variable {
        /// What was given.
        text: String,
    },
}

/// Reads one `-e NAME[=value]`.
pub fn parse_variable(text: &str) -> Result<Variable, EnvError> {
    let (name, value) = split(text);
    if name.is_empty() || text.contains('\0') {
        return Err(EnvError::Variable { text: text.into() });
    }
    Ok(Variable { name, value })
}

/// Reads the content of an environment file: one `NAME=value` or `NAME` a line; blank lines and lines whose
/// first visible character is `#` are skipped; no quotes, no interpolation; white space after `=` is part of
/// the value.
pub fn parse_file(content: &[u8]) -> Result<Vec<Variable>, EnvError> {
    let content = content.strip_prefix(b"\xef\xbb\xbf").unwrap_or(content);
    let mut variables = Vec::new();
    for (at, bytes) in content.split(|b| *b == b'\n').enumerate() {
        let line = at + 1;
        let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
        let text = std::str::from_utf8(bytes)
            .map_err(|_| EnvError::Utf8 { line })?
            .trim_start();
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        let (name, value) = split(text);
        if name.is_empty() {
            return Err(EnvError::NoName {
                line,
                text: text.into(),
            });
        }
        if name.contains(char::is_whitespace) {
            return Err(EnvError::WhiteSpace { line, name });
        }
        variables.push(Variable { name, value });
    }
    Ok(variables)
}

fn split(text: &str) -> (String, Option<String>) {
    match text.split_once('=') {
        Some((name, value)) => (name.into(), Some(value.into())),
        None => (text.into(), None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_a_file() {
        let content = b"\xef\xbb\xbfA=1\r\n\n  # note\n  B= two \"q\" # kept\nC\nD==x\nE=\n";
        let read = parse_file(content).unwrap();
        let shown: Vec<_> = read
            .iter()
            .map(|v| (v.name.as_str(), v.value.as_deref()))
            .collect();
        assert_eq!(
            shown,
            [
                ("A", Some("1")),
                ("B", Some(" two \"q\" # kept")),
                ("C", None),
                ("D", Some("=x")),
                ("E", Some(""))
            ]
        );
    }

    #[test]
    fn refusals_name_the_line() {
        assert_eq!(
            parse_file(b"A=1\n=x").unwrap_err().to_string(),
            "line 2: no variable name on line '=x'"
        );
        assert_eq!(
            parse_file(b"A B=1").unwrap_err().to_string(),
            "line 1: variable 'A B' contains whitespaces"
        );
        assert_eq!(
            parse_file(b"A=1\n\xff").unwrap_err(),
            EnvError::Utf8 { line: 2 }
        );
        assert!(parse_variable("=x").is_err());
        assert!(parse_variable("A=\0").is_err());
    }

    proptest! {
        #[test]
        fn never_panics(content: Vec<u8>) {
            let _ = parse_file(&content);
        }

        #[test]
        fn values_are_verbatim(name in "[A-Z_]{1,9}", value in "[^\r\n\0]{0,30}") {
            let text = format!("{name}={value}");
            let wanted = Variable { name, value: Some(value) };
            prop_assert_eq!(parse_file(text.as_bytes()).unwrap(), vec![wanted.clone()]);
            prop_assert_eq!(parse_variable(&text).unwrap(), wanted);
        }
    }
}
