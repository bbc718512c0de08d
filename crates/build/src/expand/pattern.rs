//! The small patterns of `${v#p}`, `${v%p}` and `${v/p/r}`: `*` any text, `?` any character, backslash escapes.

use std::collections::HashSet;

use super::ExpandError;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token {
    Any,
    One,
    Exactly(char),
}

/// A compiled pattern.
pub struct Pattern {
    tokens: Vec<Token>,
}

impl Pattern {
    /// Reads a pattern. A backslash may stand before `*`, `?`, `\`, `}` and `/` only.
    pub fn new(text: &str) -> Result<Self, ExpandError> {
        let mut tokens = Vec::new();
        let mut characters = text.chars();
        while let Some(c) = characters.next() {
            tokens.push(match c {
                '*' => Token::Any,
                '?' => Token::One,
                '\\' => match characters.next() {
                    Some(escaped @ ('*' | '?' | '\\' | '}' | '/')) => Token::Exactly(escaped),
                    other => {
                        let escaped = other.unwrap_or('\\');
                        return Err(ExpandError::Pattern {
                            pattern: text.to_owned(),
                            escaped,
                        });
                    }
                },
                other => Token::Exactly(other),
            });
        }
        Ok(Self { tokens })
    }

    /// `${v#p}` or, greedily, `${v##p}`.
    pub fn trim_prefix(&self, value: &str, greedy: bool) -> String {
        let value: Vec<char> = value.chars().collect();
        let end = match_end(&self.tokens, &value, 0, greedy).unwrap_or(0);
        value[end..].iter().collect()
    }

    /// `${v%p}` or, greedily, `${v%%p}`: the same backwards.
    pub fn trim_suffix(&self, value: &str, greedy: bool) -> String {
        let tokens: Vec<Token> = self.tokens.iter().rev().copied().collect();
        let value: Vec<char> = value.chars().rev().collect();
        let end = match_end(&tokens, &value, 0, greedy).unwrap_or(0);
        value[end..].iter().rev().collect()
    }

    /// `${v/p/r}` or, for all matches, `${v//p/r}`; the longest match at each place.
    pub fn replace(&self, value: &str, replacement: &str, all: bool) -> String {
        let value: Vec<char> = value.chars().collect();
        let mut out = String::new();
        let mut position = 0;
        let mut last_end = None;
        while position <= value.len() {
            match match_end(&self.tokens, &value, position, true) {
                Some(end) if end > position || last_end != Some(position) => {
                    out.push_str(replacement);
                    last_end = Some(end);
                    if !all {
                        out.extend(&value[end..]);
                        return out;
                    }
                    if end > position {
                        position = end;
                        continue;
                    }
                }
                _ => {}
            }
            out.extend(value.get(position));
            position += 1;
        }
        out
    }
}

/// Where a match that begins at `start` ends; greedy or shortest.
fn match_end(tokens: &[Token], value: &[char], start: usize, greedy: bool) -> Option<usize> {
    let mut failed = HashSet::new();
    step(tokens, value, 0, start, greedy, &mut failed)
}

/// `failed` keeps the search within tokens × characters.
fn step(
    tokens: &[Token],
    value: &[char],
    mut token: usize,
    mut position: usize,
    greedy: bool,
    failed: &mut HashSet<(usize, usize)>,
) -> Option<usize> {
    while let Some(next) = tokens.get(token) {
        match next {
            Token::Any => {
                if failed.contains(&(token, position)) {
                    return None;
                }
                let rest = value.len() - position;
                let lengths: Box<dyn Iterator<Item = usize>> = if greedy {
                    Box::new((0..=rest).rev())
                } else {
                    Box::new(0..=rest)
                };
                for length in lengths {
                    if let Some(end) =
                        step(tokens, value, token + 1, position + length, greedy, failed)
                    {
                        return Some(end);
                    }
                }
                failed.insert((token, position));
                return None;
            }
            Token::One if position < value.len() => {}
            Token::Exactly(c) if value.get(position) == Some(c) => {}
            _ => return None,
        }
        token += 1;
        position += 1;
    }
    Some(position)
}
