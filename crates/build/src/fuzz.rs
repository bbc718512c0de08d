//! What the fuzzers reach besides the public interface.

use std::collections::BTreeMap;

use crate::dockerfile;
use crate::expand::{Style, expand};
use crate::ignore::Matcher;

/// A Dockerfile, a trigger of ONBUILD, and a word with variables.
pub fn dockerfile(text: &str) {
    if let Err(mistakes) = dockerfile::parse(text) {
        assert!(!mistakes.is_empty(), "refused without a reason");
        let lines = text.lines().count().max(1);
        for mistake in mistakes {
            let line = mistake.at.line;
            assert!((1..=lines + 1).contains(&line), "line {line} of {lines}");
        }
    }
    let _ = dockerfile::parse_trigger(text);
    let variables: BTreeMap<String, String> = [
        ("a".into(), "value of a".into()),
        ("b".into(), String::new()),
    ]
    .into();
    for escape in ['\\', '`'] {
        let _ = expand(text, &variables, Style::instruction(escape));
    }
}

/// An ignore file, and a path that it may ignore.
pub fn ignore(text: &str, path: &str) {
    if let Ok(matcher) = Matcher::from_file(".dockerignore", text) {
        let ignored = matcher.ignores(path);
        assert!(!(ignored && matcher.is_empty()));
    }
}
