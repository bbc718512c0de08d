//! `.env` and `env_file` syntax: `KEY=value`, `export`, comments, single quotes literal, double quotes with escapes
//! and variables.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::{LoadError, Position};
use crate::interpolate;

/// Parses an environment file. `outer` is what variables in values may refer to, besides earlier lines of the file;
/// a bare `KEY` takes the value of `outer`, and is left out where there is none.
///
/// # Errors
/// A line that is no assignment, or an unclosed quote, with its line.
pub fn parse(
    file: &str,
    text: &str,
    outer: &BTreeMap<String, String>,
) -> Result<Vec<(String, String)>, LoadError> {
    let mut pairs: Vec<(String, String)> = Vec::new();
    let mut known = outer.clone();
    let mut lines = text.trim_start_matches('\u{feff}').lines().enumerate();
    while let Some((number, line)) = lines.next() {
        let at = |message: String| {
            LoadError::at(
                &Position {
                    file: file.into(),
                    line: number as u64 + 1,
                    column: 1,
                },
                message,
            )
        };
        let line = line.trim_start();
        let line = line.strip_prefix("export ").map_or(line, str::trim_start);
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let Some(end) = line.find(['=', ':']) else {
            let name = line.trim_end();
            check_name(name).map_err(at)?;
            if let Some(value) = outer.get(name) {
                pairs.push((name.to_owned(), value.clone()));
            }
            continue;
        };
        let name = line[..end].trim_end();
        check_name(name).map_err(at)?;
        let mut raw = line[end + 1..].trim_start().to_owned();
        let quote = raw.chars().next().filter(|c| matches!(c, '\'' | '"'));
        let value = match quote {
            Some(quote) => {
                while closing_quote(&raw, quote).is_none() {
                    // a quoted value may go on over several lines
                    let (_, more) = lines
                        .next()
                        .ok_or_else(|| at(format!("unterminated quoted value of {name}")))?;
                    raw.push('\n');
                    raw.push_str(more);
                }
                let inside = &raw[1..closing_quote(&raw, quote).unwrap_or(raw.len())];
                match quote {
                    '"' => expand(&unescape(inside), &known).map_err(at)?,
                    _ => inside.to_owned(),
                }
            }
            None => expand(strip_comment(&raw), &known).map_err(at)?,
        };
        // what the caller has wins over the file
        if !outer.contains_key(name) {
            known.insert(name.to_owned(), value.clone());
        }
        pairs.push((name.to_owned(), value));
    }
    Ok(pairs)
}

/// Parses a file in which everything after `=` is the value, as `format: raw` asks.
pub fn parse_raw(text: &str) -> Vec<(String, String)> {
    text.lines()
        .map(str::trim_start)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

fn expand(value: &str, known: &BTreeMap<String, String>) -> Result<String, String> {
    interpolate::text(value, known, &mut BTreeSet::new())
}

fn check_name(name: &str) -> Result<(), String> {
    let valid = !name.is_empty() && !name.contains(char::is_whitespace);
    if valid {
        Ok(())
    } else {
        Err(format!("unexpected text {name:?} in a variable's name"))
    }
}

fn closing_quote(raw: &str, quote: char) -> Option<usize> {
    let mut escaped = false;
    for (at, character) in raw.char_indices().skip(1) {
        match character {
            '\\' if quote == '"' && !escaped => escaped = true,
            c if c == quote && !escaped => return Some(at),
            _ => escaped = false,
        }
    }
    None
}

fn unescape(text: &str) -> String {
    let mut output = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        if character != '\\' {
            output.push(character);
            continue;
        }
        match characters.next() {
            Some('n') => output.push('\n'),
            Some('r') => output.push('\r'),
            Some('t') => output.push('\t'),
            // interpolation comes next and would see the dollar
            Some('$') => output.push_str("$$"),
            Some(other) => output.push(other),
            None => output.push('\\'),
        }
    }
    output
}

/// A `#` begins a comment only after a blank.
fn strip_comment(raw: &str) -> &str {
    let end = raw
        .char_indices()
        .find(|(at, c)| *c == '#' && (*at == 0 || raw[..*at].ends_with(char::is_whitespace)))
        .map_or(raw.len(), |(at, _)| at);
    raw[..end].trim_end()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_of_values() {
        let outer = [("HOME".to_owned(), "/h".to_owned())].into();
        let text = "# comment\nexport A=1\nB = two words # gone\nC='$A # kept'\nD=\"x\\n$A\"\nE=${A}-${HOME}\nF=\"over\nlines\"\nHOME\nNONE\nG=a#b\nH=\n";
        let pairs = parse(".env", text, &outer).expect("an environment file");
        let expected = [
            ("A", "1"),
            ("B", "two words"),
            ("C", "$A # kept"),
            ("D", "x\n1"),
            ("E", "1-/h"),
            ("F", "over\nlines"),
            ("HOME", "/h"),
            ("G", "a#b"),
            ("H", ""),
        ];
        assert_eq!(pairs, expected.map(|(k, v)| (k.to_owned(), v.to_owned())));
    }

    #[test]
    fn mistakes_have_a_line() {
        let error = parse(".env", "A=1\nB=\"open\n", &BTreeMap::new()).expect_err("an open quote");
        assert!(error.to_string().starts_with(".env:2:"), "{error}");
        parse(".env", "two words\n", &BTreeMap::new()).expect_err("no assignment");
    }
}
