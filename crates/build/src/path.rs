//! Slash-separated paths as Dockerfiles write them: Go's `path.Clean` and `path.Match`.

/// The shortest equivalent path: no `.`, no doubled slash, `..` resolved as text; empty becomes `.`.
pub fn clean(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => match parts.last() {
                Some(&last) if last != ".." => {
                    parts.pop();
                }
                _ if rooted => {}
                _ => parts.push(".."),
            },
            _ => parts.push(part),
        }
    }
    let joined = parts.join("/");
    match (rooted, joined.is_empty()) {
        (true, _) => format!("/{joined}"),
        (false, true) => ".".to_owned(),
        (false, false) => joined,
    }
}

/// `path` seen from `directory`, which is absolute; cleaned.
pub fn join(directory: &str, path: &str) -> String {
    if path.starts_with('/') {
        clean(path)
    } else {
        clean(&format!("/{directory}/{path}"))
    }
}

/// A pattern with an open bracket or a backslash at its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("syntax error in pattern")]
pub struct BadPattern;

/// One element of a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Token {
    /// `**/`: nothing, or anything that ends with a slash (ignore files only).
    Deep,
    /// `**` at the end: anything (ignore files only).
    Rest,
    /// `*`: anything without a slash.
    Star,
    /// `?`: one character but not a slash.
    One,
    /// `[a-z]` or `[^a-z]`.
    Class {
        /// Whether it matches what is not in it.
        negated: bool,
        /// First and last character of each range.
        ranges: Vec<(char, char)>,
    },
    /// The character itself.
    Exactly(char),
}

/// Reads a pattern. With `deep`, `**` has its meaning of ignore files.
pub fn tokens(pattern: &str, deep: bool) -> Result<Vec<Token>, BadPattern> {
    let mut tokens = Vec::new();
    let mut characters = pattern.chars().peekable();
    while let Some(c) = characters.next() {
        tokens.push(match c {
            '*' if deep && characters.next_if_eq(&'*').is_some() => {
                characters.next_if_eq(&'/');
                if characters.peek().is_none() {
                    Token::Rest
                } else {
                    Token::Deep
                }
            }
            '*' => Token::Star,
            '?' => Token::One,
            '[' => class(&mut characters)?,
            '\\' => Token::Exactly(characters.next().ok_or(BadPattern)?),
            other => Token::Exactly(other),
        });
    }
    Ok(tokens)
}

fn class(characters: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Result<Token, BadPattern> {
    let negated = characters.next_if_eq(&'^').is_some();
    let mut ranges = Vec::new();
    loop {
        if !ranges.is_empty() && characters.next_if_eq(&']').is_some() {
            return Ok(Token::Class { negated, ranges });
        }
        let low = class_end(characters)?;
        let high = if characters.next_if_eq(&'-').is_some() {
            class_end(characters)?
        } else {
            low
        };
        ranges.push((low, high));
    }
}

fn class_end(
    characters: &mut std::iter::Peekable<std::str::Chars<'_>>,
) -> Result<char, BadPattern> {
    match characters.next().ok_or(BadPattern)? {
        '-' | ']' => Err(BadPattern),
        '\\' => characters.next().ok_or(BadPattern),
        other => Ok(other),
    }
}

/// Whether the whole of `text` matches.
pub fn matches(tokens: &[Token], text: &str) -> bool {
    let text: Vec<char> = text.chars().collect();
    // reachable[i]: the tokens so far can match the first i characters. One pass a token: no backtracking.
    let mut reachable = vec![false; text.len() + 1];
    let mut next = reachable.clone();
    reachable[0] = true;
    for token in tokens {
        next.fill(false);
        let mut any = false;
        let mut open = false;
        for i in 0..=text.len() {
            match token {
                Token::Star | Token::Rest => {
                    open |= reachable[i];
                    next[i] = open;
                    if *token == Token::Star && text.get(i) == Some(&'/') {
                        open = false;
                    }
                }
                Token::Deep => {
                    next[i] = reachable[i] || (open && i > 0 && text[i - 1] == '/');
                    open |= reachable[i];
                }
                _ => next[i] = i > 0 && reachable[i - 1] && one(token, text[i - 1]),
            }
            any |= next[i];
        }
        if !any {
            return false;
        }
        std::mem::swap(&mut reachable, &mut next);
    }
    reachable[text.len()]
}

fn one(token: &Token, c: char) -> bool {
    match token {
        Token::One => c != '/',
        Token::Class { negated, ranges } => {
            ranges.iter().any(|(low, high)| (*low..=*high).contains(&c)) != *negated
        }
        Token::Exactly(wanted) => *wanted == c,
        Token::Star | Token::Rest | Token::Deep => false,
    }
}

/// Whether a path has characters that `path.Match` reads as a pattern.
pub fn has_wildcard(path: &str) -> bool {
    path.contains(['*', '?', '['])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cleaning_is_gos() {
        for (path, cleaned) in [
            ("", "."),
            ("a//b/./c", "a/b/c"),
            ("/../a", "/a"),
            ("a/../..", ".."),
            ("/", "/"),
            ("./", "."),
            ("/a/b/../../..", "/"),
        ] {
            assert_eq!(clean(path), cleaned, "{path}");
        }
        assert_eq!(join("/work", "a/../b/"), "/work/b");
        assert_eq!(join("/", "x"), "/x");
        assert_eq!(join("/work", "/x"), "/x");
    }

    #[test]
    fn matching_is_gos() {
        for (pattern, text, wanted) in [
            ("abc", "abc", true),
            ("*", "abc", true),
            ("*c", "abc", true),
            ("a*", "a/b", false),
            ("a*/b", "abc/b", true),
            ("a*b*c*d*e*/f", "axbxcxdxexxx/f", true),
            ("a*b?c*x", "abxbbxdbxebxczzx", true),
            ("ab[c]", "abc", true),
            ("ab[b-d]", "abc", true),
            ("ab[^c]", "abc", false),
            ("[\\-x]", "-", true),
            ("a???b", "a☺b", false),
            ("a[^a]b", "a☺b", true),
            ("[a-ζ]*", "α", true),
            ("*x", "xxx", true),
            ("a\\*b", "a*b", true),
            ("a\\*b", "axb", false),
        ] {
            assert_eq!(
                matches(&tokens(pattern, false).unwrap(), text),
                wanted,
                "{pattern} {text}"
            );
        }
        for bad in ["[]a]", "[-]", "[x-]", "[a", "a\\", "[a-b-c]", "[^"] {
            assert_eq!(tokens(bad, false), Err(BadPattern), "{bad}");
        }
    }
}
