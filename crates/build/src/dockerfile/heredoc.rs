//! `<<NAME` on RUN, COPY and ADD.

use crate::expand::{Style, expand};

/// A heredoc and its lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heredoc {
    /// Its name, quotes removed.
    pub name: String,
    /// Whether variables in it are expanded: no, if the name was quoted.
    pub expand: bool,
    /// `<<-`: leading tabs go.
    pub chomp: bool,
    /// The lines, with their line ends.
    pub content: String,
}

impl Heredoc {
    /// The content with leading tabs removed if so asked.
    pub fn chomped(&self) -> String {
        if !self.chomp {
            return self.content.clone();
        }
        self.content
            .split_inclusive('\n')
            .map(|line| line.trim_start_matches('\t'))
            .collect()
    }
}

/// The heredocs that a line announces, in order, without content.
pub fn announced(line: &str) -> Vec<Heredoc> {
    if !line.contains("<<") {
        return Vec::new();
    }
    let style = Style {
        raw_quotes: true,
        raw_escapes: true,
        skip_unset: true,
        ..Style::instruction('\\')
    };
    // A line that the lexer cannot read (an open quote, say) belongs to the shell, as it stands.
    let words = expand(line, &(), style)
        .map(|expanded| expanded.words)
        .unwrap_or_default();
    words.iter().filter_map(|word| parse(word)).collect()
}

/// Reads one word as `[n]<<[-]NAME`; None if it is anything else.
pub fn parse(word: &str) -> Option<Heredoc> {
    let rest = word
        .trim_start_matches(|c: char| c.is_ascii_digit())
        .strip_prefix("<<")?;
    let (chomp, rest) = rest
        .strip_prefix('-')
        .map_or((false, rest), |rest| (true, rest));
    if rest.is_empty() || rest.contains('<') {
        return None;
    }
    let plain = Style {
        skip_unset: true,
        ..Style::instruction('\\')
    };
    let raw = Style {
        raw_quotes: true,
        raw_escapes: true,
        ..plain
    };
    let mut words = expand(rest, &(), plain).ok()?.words;
    let quoted = expand(rest, &(), raw).ok()?.words;
    if words.len() != 1 || quoted.len() != 1 {
        return None;
    }
    let name = words.remove(0);
    Some(Heredoc {
        expand: name == quoted[0],
        name,
        chomp,
        content: String::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_flags() {
        let names = |line| {
            announced(line)
                .into_iter()
                .map(|h| (h.name, h.expand, h.chomp))
                .collect::<Vec<_>>()
        };
        assert_eq!(
            names("RUN <<EOF cat <<-\"X Y\" 3<<'Z'"),
            [
                ("EOF".into(), true, false),
                ("X Y".into(), false, true),
                ("Z".into(), false, false)
            ]
        );
        assert!(names("RUN echo a << b").is_empty());
        assert!(names("RUN cat <<<word").is_empty());
        assert!(names("RUN echo 'a <<EOF'").is_empty());
    }

    #[test]
    fn tabs_go_only_if_asked() {
        let mut heredoc = Heredoc {
            name: "E".into(),
            expand: true,
            chomp: true,
            content: "\ta\n\t\tb\n".into(),
        };
        assert_eq!(heredoc.chomped(), "a\nb\n");
        heredoc.chomp = false;
        assert_eq!(heredoc.chomped(), "\ta\n\t\tb\n");
    }
}
