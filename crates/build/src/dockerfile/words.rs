//! How an instruction's arguments fall into words: by blanks, by quotes, as `name=value`, as a JSON array. Quotes and
//! escapes stay in the words; expansion removes them later.

/// A word and its byte offset in the text it came from.
pub type Piece = (usize, String);

/// Splits at runs of Go's `[\t\v\f\r ]`.
pub fn split_blanks(text: &str) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut start = 0;
    let mut position = 0;
    while position < text.len() {
        let rest = &text[position..];
        let blanks = rest.len() - rest.trim_start_matches(is_blank).len();
        if blanks > 0 {
            pieces.push((start, text[start..position].to_owned()));
            position += blanks;
            start = position;
        } else {
            position += rest.chars().next().map_or(1, char::len_utf8);
        }
    }
    pieces.push((start, text[start..].to_owned()));
    pieces
}

/// The blanks that separate words on one line.
pub fn is_blank(c: char) -> bool {
    matches!(c, '\t' | '\u{b}' | '\u{c}' | '\r' | ' ')
}

/// Splits into words separated by white space outside quotes; quotes and escapes are kept as written.
pub fn split_words(text: &str, escape: char) -> Vec<Piece> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut start = None;
    let mut quote = None;
    let mut characters = text.char_indices().peekable();
    while let Some((offset, c)) = characters.next() {
        if start.is_none() {
            if c.is_whitespace() {
                continue;
            }
            start = Some(offset);
        } else if quote.is_none() && c.is_whitespace() {
            words.push((start.take().unwrap_or(offset), std::mem::take(&mut word)));
            continue;
        }
        match quote {
            None if c == '\'' || c == '"' => quote = Some(c),
            Some(open) if c == open => quote = None,
            _ => {}
        }
        // The escape takes the next character along, whatever it is; only single quotes do not know it.
        if c == escape && quote != Some('\'') {
            if characters.peek().is_none() {
                continue;
            }
            word.push(c);
            if let Some((_, next)) = characters.next() {
                word.push(next);
            }
            continue;
        }
        word.push(c);
    }
    if let Some(start) = start
        && !word.is_empty()
    {
        words.push((start, word));
    }
    words
}

/// Why arguments cannot be read, and where.
pub struct WordsError {
    /// Offset of the offending word.
    pub offset: usize,
    /// The offending word.
    pub text: String,
    /// BuildKit's message.
    pub message: String,
}

/// ENV and LABEL: `name=value …` or the old `name value`. Flat: name, value, separator, as BuildKit's tree has them.
pub fn name_values(text: &str, escape: char, instruction: &str) -> Result<Vec<Piece>, WordsError> {
    let words = split_words(text, escape);
    let Some((first_offset, first)) = words.first() else {
        return Ok(Vec::new());
    };
    if !first.contains('=') {
        let Some((at, blanks)) = first_blanks(text) else {
            return Err(WordsError {
                offset: *first_offset,
                text: first.clone(),
                message: format!("{instruction} must have two arguments"),
            });
        };
        let value = at + blanks;
        return Ok(vec![
            (0, text[..at].to_owned()),
            (value, text[value..].to_owned()),
            (at, String::new()),
        ]);
    }
    let mut flat = Vec::with_capacity(words.len() * 3);
    for (offset, word) in words {
        let Some((name, value)) = word.split_once('=') else {
            let message =
                format!("Syntax error - can't find = in {word:?}. Must be of the form: name=value");
            return Err(WordsError {
                offset,
                text: word,
                message,
            });
        };
        flat.push((offset, name.to_owned()));
        flat.push((offset + name.len() + 1, value.to_owned()));
        flat.push((offset + name.len(), "=".to_owned()));
    }
    Ok(flat)
}

fn first_blanks(text: &str) -> Option<(usize, usize)> {
    let at = text.find(is_blank)?;
    let rest = &text[at..];
    Some((at, rest.len() - rest.trim_start_matches(is_blank).len()))
}

/// What a text that may be a JSON array of strings is.
pub enum MaybeJson {
    /// An array of strings.
    Array(Vec<String>),
    /// An array with something else in it, which is an error.
    NotStrings,
    /// Anything else: the shell form.
    No,
}

/// Reads the exec form.
pub fn json_array(text: &str) -> MaybeJson {
    if !text.trim_start().starts_with('[') {
        return MaybeJson::No;
    }
    let Ok(values) = serde_json::from_str::<Vec<serde_json::Value>>(text) else {
        return MaybeJson::No;
    };
    let strings = values.into_iter().map(|value| match value {
        serde_json::Value::String(text) => Some(text),
        _ => None,
    });
    strings
        .collect::<Option<Vec<_>>>()
        .map_or(MaybeJson::NotStrings, MaybeJson::Array)
}

/// Takes the flags off the front of an instruction's arguments: words beginning with `--`, quotes and escapes removed.
/// Returns them and the offset of the rest. `--` alone ends the flags.
pub fn split_flags(text: &str) -> (Vec<Piece>, usize) {
    let mut flags = Vec::new();
    let mut rest = 0;
    loop {
        let blanks = text[rest..].len() - text[rest..].trim_start().len();
        let start = rest + blanks;
        if !text[start..].starts_with("--") {
            return (flags, start);
        }
        let (word, length) = flag_word(&text[start..]);
        rest = start + length;
        if word == "--" {
            return (flags, rest);
        }
        flags.push((start, word));
    }
}

/// One flag: its text, and how many bytes of the source it took.
fn flag_word(text: &str) -> (String, usize) {
    let mut word = String::new();
    let mut quote = None;
    let mut characters = text.char_indices();
    while let Some((offset, c)) = characters.next() {
        match quote {
            None if c.is_whitespace() => return (word, offset),
            None if c == '\'' || c == '"' => quote = Some(c),
            Some(open) if c == open => quote = None,
            _ if c == '\\' => {
                if let Some((_, next)) = characters.next() {
                    word.push(next);
                }
            }
            _ => word.push(c),
        }
    }
    (word, text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        split_words(text, '\\')
            .into_iter()
            .map(|(_, word)| word)
            .collect()
    }

    #[test]
    fn words_keep_quotes_and_escapes() {
        assert_eq!(
            words(r#"a=b\ c  d="e f" 'g h'"#),
            [r"a=b\ c", r#"d="e f""#, "'g h'"]
        );
        assert_eq!(words("a\\"), ["a"]);
        assert_eq!(words(""), Vec::<String>::new());
    }

    #[test]
    fn flags_end_at_the_first_other_word() {
        let text = r#"--chown="a b" --link -- --not a"#;
        let (flags, rest) = split_flags(text);
        assert_eq!(
            flags,
            [(0, "--chown=a b".to_owned()), (14, "--link".to_owned())]
        );
        assert_eq!(text[rest..].trim(), "--not a");
        assert_eq!(split_flags("x --y").1, 0);
    }

    #[test]
    fn old_and_new_pairs() {
        let flat = |text| {
            name_values(text, '\\', "ENV")
                .map(|v| v.into_iter().map(|(_, w)| w).collect::<Vec<_>>())
        };
        assert_eq!(flat("a b  c").ok().unwrap(), ["a", "b  c", ""]);
        assert_eq!(
            flat("a=1 b=2").ok().unwrap(),
            ["a", "1", "=", "b", "2", "="]
        );
        let error = name_values("a=1 bc", '\\', "ENV").err().unwrap();
        assert_eq!((error.offset, error.text.as_str()), (4, "bc"));
        assert!(
            name_values("alone", '\\', "ENV")
                .err()
                .unwrap()
                .message
                .contains("must have two arguments")
        );
    }
}
