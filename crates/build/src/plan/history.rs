//! The words of an image's history, as BuildKit writes them: Go's `%q` and `%v` of the instruction's values.

use std::time::Duration;

use ketch_spec::image::HealthCheck;

/// Go's `strconv.Quote`.
pub fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => {
                out.push('\\');
                out.push(c);
            }
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{b}' => out.push_str("\\v"),
            '\u{c}' => out.push_str("\\f"),
            c if (c as u32) < 0x80 && c.is_control() => {
                out.push_str(&format!("\\x{:02x}", c as u32))
            }
            c if c.is_control() => out.push_str(&format!("\\u{:04x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// Go's `%q` of a list of strings.
pub fn quoted_list(items: &[String]) -> String {
    format!(
        "[{}]",
        items
            .iter()
            .map(|item| quote(item))
            .collect::<Vec<_>>()
            .join(" ")
    )
}

/// Go's `%v` of a list of strings.
pub fn plain_list(items: &[String]) -> String {
    format!("[{}]", items.join(" "))
}

/// Go's `%q` of a health check.
pub fn health(check: &HealthCheck) -> String {
    let duration = |ns: i64| {
        let text =
            ketch_spec::duration::go_format(Duration::from_nanos(u64::try_from(ns).unwrap_or(0)));
        quote(&text)
    };
    let retries = match u32::try_from(check.retries).ok().and_then(char::from_u32) {
        Some(c) if (c as u32) < 0x80 && c.is_control() => format!("\\x{:02x}", c as u32),
        Some('\'') => "\\'".to_owned(),
        Some('\\') => "\\\\".to_owned(),
        Some(c) => c.to_string(),
        None => "\u{fffd}".to_owned(),
    };
    format!(
        "HEALTHCHECK &{{{} {} {} {} {} '{retries}'}}",
        quoted_list(&check.test),
        duration(check.interval),
        duration(check.timeout),
        duration(check.start_period),
        duration(check.start_interval),
    )
}

/// What a heredoc is in a title: its first line.
pub fn heredoc_summary(content: &str) -> String {
    let mut lines = content.lines();
    let first = lines.next().unwrap_or_default().trim();
    let more = if lines.next().is_some() { "..." } else { "" };
    format!(" ({first}{more})")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_formats() {
        assert_eq!(quote("a \"b\"\n\u{1}é"), "\"a \\\"b\\\"\\n\\x01é\"");
        assert_eq!(quoted_list(&["a".into(), "b c".into()]), "[\"a\" \"b c\"]");
        let check = HealthCheck {
            test: vec!["CMD-SHELL".into(), "true".into()],
            interval: 5_000_000_000,
            retries: 3,
            ..HealthCheck::default()
        };
        assert_eq!(
            health(&check),
            "HEALTHCHECK &{[\"CMD-SHELL\" \"true\"] \"5s\" \"0s\" \"0s\" \"0s\" '\\x03'}"
        );
    }
}
