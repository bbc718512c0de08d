//! Variable expansion and quote removal, as BuildKit's shell lexer does them: `$v`, `${v}`, `${v:-w}`, `${v-w}`,
//! `${v:+w}`, `${v+w}`, `${v:?m}`, `${v?m}`, `${v#p}`, `${v##p}`, `${v%p}`, `${v%%p}`, `${v/p/r}`, `${v//p/r}`; words
//! may nest.

mod pattern;

use std::collections::BTreeSet;
use std::iter::Peekable;
use std::str::Chars;

/// How deep `${a:-${b:-…}}` may nest.
const MAX_DEPTH: usize = 100;

/// What a name stands for.
pub trait Variables {
    /// The value; None if it is not set.
    fn get(&self, name: &str) -> Option<&str>;
}

impl Variables for () {
    fn get(&self, _: &str) -> Option<&str> {
        None
    }
}

impl Variables for std::collections::BTreeMap<String, String> {
    fn get(&self, name: &str) -> Option<&str> {
        self.get(name).map(String::as_str)
    }
}

/// Why a word cannot be expanded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExpandError {
    /// A quote is not closed.
    #[error("unexpected end of statement while looking for matching {0}")]
    Unclosed(&'static str),
    /// `${` without `}` or `/` without its pair.
    #[error("syntax error: missing '{0}'")]
    Missing(&'static str),
    /// `${}`, `${:x}` and the like.
    #[error("syntax error: bad substitution")]
    BadSubstitution,
    /// `${v:=w}` and the like.
    #[error("unsupported modifier ({0}) in substitution")]
    Modifier(String),
    /// `${v:?m}` and the variable is not there.
    #[error("{name}: {message}")]
    Required {
        /// The variable.
        name: String,
        /// The user's message or ours.
        message: String,
    },
    /// A pattern with an escape that means nothing.
    #[error("invalid pattern ({pattern}) in substitution: invalid escape '\\{escaped}'")]
    Pattern {
        /// The pattern.
        pattern: String,
        /// The character after the backslash.
        escaped: char,
    },
    /// Too many levels.
    #[error("substitutions are nested more than {MAX_DEPTH} deep")]
    TooDeep,
}

/// How to treat quotes, escapes and names that are not set.
#[derive(Debug, Clone, Copy)]
pub struct Style {
    /// Backslash or backtick.
    pub escape: char,
    /// Keep quotes in the result.
    pub raw_quotes: bool,
    /// Keep escapes in the result.
    pub raw_escapes: bool,
    /// Quotes are ordinary characters (heredoc contents).
    pub plain_quotes: bool,
    /// Leave `$name` as it stands if it is not set.
    pub skip_unset: bool,
}

impl Style {
    /// As instructions are expanded.
    pub fn instruction(escape: char) -> Self {
        Self {
            escape,
            raw_quotes: false,
            raw_escapes: false,
            plain_quotes: false,
            skip_unset: false,
        }
    }
}

/// An expanded word.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Expanded {
    /// The whole, one string.
    pub text: String,
    /// The same split at blanks outside quotes, after expansion.
    pub words: Vec<String>,
    /// Names that were asked for and are not set.
    pub unset: BTreeSet<String>,
}

/// Expands `word`.
///
/// # Errors
/// [`ExpandError`].
pub fn expand(
    word: &str,
    variables: &dyn Variables,
    style: Style,
) -> Result<Expanded, ExpandError> {
    let mut lexer = Lexer {
        input: word.chars().peekable(),
        variables,
        style,
        raw_escapes: style.raw_escapes,
        unset: BTreeSet::new(),
        depth: 0,
    };
    let (text, words) = lexer.until(None, style.raw_escapes)?;
    Ok(Expanded {
        text,
        words,
        unset: lexer.unset,
    })
}

struct Lexer<'a> {
    input: Peekable<Chars<'a>>,
    variables: &'a dyn Variables,
    style: Style,
    raw_escapes: bool,
    unset: BTreeSet<String>,
    depth: usize,
}

/// Collects words while characters arrive.
#[derive(Default)]
struct Words {
    current: String,
    done: Vec<String>,
}

impl Words {
    fn push(&mut self, c: char) {
        if c.is_whitespace() {
            self.end();
        } else {
            self.current.push(c);
        }
    }

    fn end(&mut self) {
        if !self.current.is_empty() {
            self.done.push(std::mem::take(&mut self.current));
        }
    }
}

impl Lexer<'_> {
    /// Reads up to `stop`, which is consumed, or to the end.
    fn until(
        &mut self,
        stop: Option<char>,
        raw_escapes: bool,
    ) -> Result<(String, Vec<String>), ExpandError> {
        let outer = std::mem::replace(&mut self.raw_escapes, raw_escapes);
        self.depth += 1;
        let result = if self.depth > MAX_DEPTH {
            Err(ExpandError::TooDeep)
        } else {
            self.until_inner(stop)
        };
        self.depth -= 1;
        self.raw_escapes = outer;
        result
    }

    fn until_inner(&mut self, stop: Option<char>) -> Result<(String, Vec<String>), ExpandError> {
        let mut text = String::new();
        let mut words = Words::default();
        while let Some(&c) = self.input.peek() {
            if Some(c) == stop {
                self.input.next();
                words.end();
                return Ok((text, words.done));
            }
            match c {
                '$' => {
                    let value = self.dollar()?;
                    value.chars().for_each(|c| words.push(c));
                    text.push_str(&value);
                }
                '\'' | '"' if !self.style.plain_quotes => {
                    let value = if c == '"' {
                        self.double_quotes()?
                    } else {
                        self.single_quotes()?
                    };
                    words.current.push_str(&value);
                    text.push_str(&value);
                }
                _ => self.plain(&mut text, &mut words),
            }
        }
        if stop.is_some() {
            return Err(ExpandError::Unclosed("the end of a substitution"));
        }
        words.end();
        Ok((text, words.done))
    }

    fn plain(&mut self, text: &mut String, words: &mut Words) {
        let Some(c) = self.input.next() else { return };
        if c != self.style.escape {
            words.push(c);
            text.push(c);
            return;
        }
        if self.raw_escapes {
            words.current.push(c);
            text.push(c);
        }
        if let Some(escaped) = self.input.next() {
            words.current.push(escaped);
            text.push(escaped);
        }
    }

    fn single_quotes(&mut self) -> Result<String, ExpandError> {
        let mut text = String::new();
        let quote = self.input.next();
        text.extend(quote.filter(|_| self.style.raw_quotes));
        loop {
            match self
                .input
                .next()
                .ok_or(ExpandError::Unclosed("single-quote"))?
            {
                '\'' => break,
                c => text.push(c),
            }
        }
        text.extend(quote.filter(|_| self.style.raw_quotes));
        Ok(text)
    }

    fn double_quotes(&mut self) -> Result<String, ExpandError> {
        let mut text = String::new();
        let quote = self.input.next();
        text.extend(quote.filter(|_| self.style.raw_quotes));
        loop {
            match *self
                .input
                .peek()
                .ok_or(ExpandError::Unclosed("double-quote"))?
            {
                '"' => break,
                '$' => text.push_str(&self.dollar()?),
                c if c == self.style.escape => {
                    self.input.next();
                    if self.raw_escapes {
                        text.push(c);
                    }
                    match self.input.peek() {
                        None => {}
                        Some(&next) if matches!(next, '"' | '$') || next == self.style.escape => {
                            self.input.next();
                            text.push(next);
                        }
                        Some(_) => text.push(c),
                    }
                }
                c => {
                    self.input.next();
                    text.push(c);
                }
            }
        }
        self.input.next();
        text.extend(quote.filter(|_| self.style.raw_quotes));
        Ok(text)
    }

    fn dollar(&mut self) -> Result<String, ExpandError> {
        self.input.next();
        if self.input.peek() != Some(&'{') {
            let name = self.name();
            if name.is_empty() {
                return Ok("$".into());
            }
            let value = self.lookup(&name);
            return Ok(value.unwrap_or_else(|| {
                if self.style.skip_unset {
                    format!("${name}")
                } else {
                    String::new()
                }
            }));
        }
        self.input.next();
        match self.input.peek() {
            None => return Err(ExpandError::Missing("}")),
            Some('{' | '}' | ':') => return Err(ExpandError::BadSubstitution),
            Some(_) => {}
        }
        let name = self.name();
        match self.input.next() {
            Some('}') => {
                let value = self.lookup(&name);
                Ok(value.unwrap_or_else(|| {
                    if self.style.skip_unset {
                        format!("${{{name}}}")
                    } else {
                        String::new()
                    }
                }))
            }
            Some(':') => {
                let modifier = self.input.next().ok_or(ExpandError::Missing("}"))?;
                self.modified(&name, modifier, true)
            }
            Some(modifier @ ('+' | '-' | '?' | '#' | '%')) => self.modified(&name, modifier, false),
            Some('/') => self.replaced(&name),
            Some(other) => Err(ExpandError::Modifier(other.to_string())),
            None => Err(ExpandError::Missing("}")),
        }
    }

    /// The rest of `${name<modifier>word}`.
    fn modified(
        &mut self,
        name: &str,
        modifier: char,
        null_is_unset: bool,
    ) -> Result<String, ExpandError> {
        let written = format!("{}{modifier}", if null_is_unset { ":" } else { "" });
        let is_pattern = matches!(modifier, '#' | '%');
        let (mut word, _) = self
            .until(Some('}'), is_pattern)
            .map_err(|error| self.or_missing(error, "}"))?;
        let value = self.variables.get(name).map(str::to_owned);
        if self.style.skip_unset && value.is_none() {
            return Ok(format!("${{{name}{written}{word}}}"));
        }
        let absent = value
            .as_ref()
            .is_none_or(|value| null_is_unset && value.is_empty());
        match modifier {
            '-' => Ok(if absent {
                word
            } else {
                value.unwrap_or_default()
            }),
            '+' => Ok(if absent { String::new() } else { word }),
            '?' if absent => {
                let ours = if value.is_none() {
                    "is not allowed to be unset"
                } else {
                    "is not allowed to be empty"
                };
                let message = if word.is_empty() {
                    ours.to_owned()
                } else {
                    word
                };
                Err(ExpandError::Required {
                    name: name.to_owned(),
                    message,
                })
            }
            '?' => Ok(value.unwrap_or_default()),
            '#' | '%' => {
                let greedy = word.starts_with(modifier);
                if greedy {
                    word.remove(0);
                }
                let pattern = pattern::Pattern::new(&word)?;
                let value = value.unwrap_or_default();
                Ok(if modifier == '#' {
                    pattern.trim_prefix(&value, greedy)
                } else {
                    pattern.trim_suffix(&value, greedy)
                })
            }
            _ => Err(ExpandError::Modifier(written)),
        }
    }

    /// The rest of `${name/pattern/replacement}`.
    fn replaced(&mut self, name: &str) -> Result<String, ExpandError> {
        let all = self.input.next_if_eq(&'/').is_some();
        let (pattern, _) = self
            .until(Some('/'), true)
            .map_err(|error| self.or_missing(error, "/"))?;
        let (replacement, _) = self
            .until(Some('}'), true)
            .map_err(|error| self.or_missing(error, "}"))?;
        let value = self.lookup(name);
        if self.style.skip_unset && value.is_none() {
            let slash = if all { "//" } else { "/" };
            return Ok(format!("${{{name}{slash}{pattern}/{replacement}}}"));
        }
        Ok(pattern::Pattern::new(&pattern)?.replace(&value.unwrap_or_default(), &replacement, all))
    }

    /// An error at the end of the input is about the missing end.
    fn or_missing(&mut self, error: ExpandError, end: &'static str) -> ExpandError {
        match error {
            ExpandError::TooDeep => error,
            _ if self.input.peek().is_none() => ExpandError::Missing(end),
            _ => error,
        }
    }

    /// A name: letters, digits and `_`; a number; or one special parameter.
    fn name(&mut self) -> String {
        let mut name = String::new();
        match self.input.peek() {
            Some(c) if c.is_numeric() => {
                while let Some(c) = self.input.next_if(|c| c.is_numeric()) {
                    name.push(c);
                }
                return name;
            }
            Some('@' | '*' | '#' | '?' | '-' | '$' | '!') => {
                name.extend(self.input.next());
                return name;
            }
            _ => {}
        }
        while let Some(c) = self.input.next_if(|c| c.is_alphanumeric() || *c == '_') {
            name.push(c);
        }
        name
    }

    fn lookup(&mut self, name: &str) -> Option<String> {
        let value = self.variables.get(name).map(str::to_owned);
        if value.is_none() {
            self.unset.insert(name.to_owned());
        }
        value
    }
}

#[cfg(test)]
mod tests;
