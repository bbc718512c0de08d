//! `.dockerignore`: patterns from the root of the context, `**` for any depth, `!` to take back, the last match wins.
//! The same matcher serves `COPY --exclude`.

use crate::error::BuildError;
use crate::path::{self, Token};

/// A list of patterns.
#[derive(Debug, Clone, Default)]
pub struct Matcher {
    patterns: Vec<Pattern>,
}

#[derive(Debug, Clone)]
struct Pattern {
    /// `!`.
    takes_back: bool,
    tokens: Vec<Token>,
    /// The pattern, if it is plain text: most are, and then a comparison does.
    plain: Option<String>,
    /// The leading path components that are plain text.
    prefix: String,
}

/// Which patterns matched a directory: its entries are matched too, whatever they are called.
#[derive(Debug, Clone, Default)]
pub struct Above(Vec<bool>);

impl Matcher {
    /// Reads an ignore file; `file` names it in errors.
    ///
    /// # Errors
    /// A line that is no pattern.
    pub fn from_file(file: &str, text: &str) -> Result<Self, BuildError> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut matcher = Self::default();
        for (index, line) in text.lines().enumerate() {
            if line.starts_with('#') {
                continue;
            }
            let wrong = |reason| BuildError::IgnoreFile {
                file: file.to_owned(),
                line: index + 1,
                pattern: line.to_owned(),
                reason,
            };
            matcher.add(line).map_err(wrong)?;
        }
        Ok(matcher)
    }

    /// Adds one pattern; an empty one does nothing.
    pub fn add(&mut self, line: &str) -> Result<(), &'static str> {
        let line = line.trim();
        if line.is_empty() {
            return Ok(());
        }
        let (takes_back, text) = line
            .strip_prefix('!')
            .map_or((false, line), |rest| (true, rest.trim()));
        if text.is_empty() {
            return Err("\"!\" alone takes nothing back");
        }
        let cleaned = path::clean(text);
        let cleaned = cleaned
            .strip_prefix('/')
            .filter(|rest| !rest.is_empty())
            .unwrap_or(&cleaned);
        path::tokens(cleaned, false).map_err(|_| "an open bracket or a backslash at the end")?;
        let tokens = compile(cleaned)?;
        let is_plain = |part: &&str| !part.contains(['*', '?', '[', '\\']);
        let prefix = cleaned
            .split('/')
            .take_while(is_plain)
            .collect::<Vec<_>>()
            .join("/");
        let plain = (prefix == cleaned).then(|| cleaned.to_owned());
        self.patterns.push(Pattern {
            takes_back,
            tokens,
            plain,
            prefix,
        });
        Ok(())
    }

    /// Whether nothing is ever ignored.
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// Whether `path` is ignored, given what matched the directory it is in; and what matched it, for its entries.
    pub fn matches(&self, path: &str, above: &Above) -> (bool, Above) {
        let mut ignored = false;
        let mut matched = Vec::with_capacity(self.patterns.len());
        for (index, pattern) in self.patterns.iter().enumerate() {
            let mut hit = above.0.get(index).copied().unwrap_or(false);
            // A pattern that would change nothing is not tried.
            if !hit && pattern.takes_back == ignored {
                hit = match &pattern.plain {
                    Some(plain) => plain == path,
                    None => path::matches(&pattern.tokens, path),
                };
            }
            if hit {
                ignored = !pattern.takes_back;
            }
            matched.push(hit);
        }
        (ignored, Above(matched))
    }

    /// Whether `path` is ignored, its parents considered.
    pub fn ignores(&self, path: &str) -> bool {
        let mut above = Above::default();
        let mut ignored = false;
        for (end, _) in path.match_indices('/').chain([(path.len(), "")]) {
            (ignored, above) = self.matches(&path[..end], &above);
        }
        ignored
    }

    /// What matched the directory `path`, for walking from there.
    pub fn above(&self, path: &str) -> Above {
        let mut above = Above::default();
        if path.is_empty() {
            return above;
        }
        for (end, _) in path.match_indices('/').chain([(path.len(), "")]) {
            above = self.matches(&path[..end], &above).1;
        }
        above
    }

    /// Whether something below the ignored directory `path` may still be taken back.
    pub fn may_take_back_below(&self, path: &str) -> bool {
        let below = |outer: &str, inner: &str| {
            outer.is_empty()
                || inner == outer
                || inner
                    .strip_prefix(outer)
                    .is_some_and(|rest| rest.starts_with('/'))
        };
        let mut taking_back = self.patterns.iter().filter(|pattern| pattern.takes_back);
        taking_back.any(|pattern| below(path, &pattern.prefix) || below(&pattern.prefix, path))
    }
}

/// A pattern that begins with `**` and is otherwise plain matches as the end of a path, even within a name: `**foo`
/// matches `barfoo`, as in Docker.
fn compile(pattern: &str) -> Result<Vec<Token>, &'static str> {
    if let Some(rest) = pattern.strip_prefix("**")
        && !rest.is_empty()
        && !rest.starts_with('/')
        && !rest.contains(['*', '?', '[', ']', '\\'])
    {
        return Ok(std::iter::once(Token::Rest)
            .chain(rest.chars().map(Token::Exactly))
            .collect());
    }
    path::tokens(pattern, true).map_err(|_| "an open bracket or a backslash at the end")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matcher(lines: &[&str]) -> Matcher {
        Matcher::from_file(".dockerignore", &lines.join("\n")).unwrap()
    }

    #[test]
    fn single_patterns() {
        for (pattern, path, ignored) in [
            ("**", "file", true),
            ("**", "dir/file", true),
            ("**/", "file", true),
            ("**/file", "dir/dir/file", true),
            ("**/file", "file", true),
            ("**/file", "myfile", false),
            ("**file", "dir/myfile", true),
            ("dir/**", "dir", false),
            ("dir/**", "dir/file", true),
            ("dir/**/file", "dir/file", true),
            ("dir/**/file", "dir/a/b/file", true),
            ("**/dir2/*", "dir/dir2/file", true),
            ("**/dir2/*", "dir/dir2/dir2/file", true),
            ("a*b", "a/b", false),
            ("*.md", "docs/x.md", false),
            ("*.md", "x.md", true),
            ("foo", "bar/foo", false),
            ("foo", "foo/bar", true),
            ("/foo", "foo", true),
            ("foo/", "foo", true),
            ("./foo", "foo", true),
            ("a.b", "axb", false),
            ("a[b-d]e", "ace", true),
            ("a[^b-d]e", "aze", true),
            ("abc.def", "abcdef", false),
            ("*/file", "a/file", true),
            ("*/file", "a/b/file", false),
            ("?oo", "foo", true),
            ("foo\\*", "foo*", true),
            ("# not a pattern", "# not a pattern", false),
            ("  padded  ", "padded", true),
            ("..", "x", false),
            (".", "x", false),
        ] {
            assert_eq!(
                matcher(&[pattern]).ignores(path),
                ignored,
                "{pattern} {path}"
            );
        }
    }

    #[test]
    fn the_last_match_wins() {
        let m = matcher(&["*", "!src", "src/*.tmp", "!src/keep.tmp"]);
        for (path, ignored) in [
            ("a", true),
            ("src", false),
            ("src/a.rs", false),
            ("src/a.tmp", true),
            ("src/keep.tmp", false),
        ] {
            assert_eq!(m.ignores(path), ignored, "{path}");
        }
        let order = matcher(&["!README.md", "*.md"]);
        assert!(order.ignores("README.md"));
    }

    #[test]
    fn directories_are_walked_only_where_something_may_come_back() {
        let m = matcher(&["node_modules", "dist", "!dist/keep/**"]);
        assert!(!m.may_take_back_below("node_modules"));
        assert!(m.may_take_back_below("dist"));
        assert!(m.may_take_back_below("dist/keep/x"));
        assert!(matcher(&["a", "!**/b"]).may_take_back_below("a"));
    }

    #[test]
    fn bad_lines_are_told() {
        let error = Matcher::from_file("x.dockerignore", "ok\n[a\n")
            .unwrap_err()
            .to_string();
        assert!(error.contains("x.dockerignore:2"), "{error}");
        assert!(Matcher::from_file("f", "!").is_err());
    }
}
