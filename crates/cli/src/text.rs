//! Texts as columns show them: cut to a display width, quoted as Go does, times in Go's notation.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Cuts `text` to `columns` display columns, the last of them an ellipsis.
pub fn ellipsis(text: &str, columns: usize) -> String {
    if text.width() <= columns {
        return text.to_owned();
    }
    let mut width = 0;
    let mut cut = String::new();
    for letter in text.chars() {
        width += letter.width().unwrap_or(0);
        if width + 1 > columns {
            break;
        }
        cut.push(letter);
    }
    cut.push('…');
    cut
}

/// Go's `strconv.Quote`.
pub fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for letter in text.chars() {
        match letter {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{b}' => out.push_str("\\v"),
            control if control.is_control() => {
                out.push_str(&format!("\\x{:02x}", u32::from(control)))
            }
            other => out.push(other),
        }
    }
    out.push('"');
    out
}

/// Go's default time text in the local zone: `2026-11-10 02:14:46 +0000 UTC`.
pub fn go_time(time: Timestamp) -> String {
    time.to_zoned_datetime(TimeZone::system())
        .strftime("%Y-%m-%d %H:%M:%S %z %Z")
        .to_string()
}

/// RFC 3339 in the local zone, whole seconds, as Go writes it: `2026-11-10T02:14:46Z`.
pub fn rfc3339(time: Timestamp) -> String {
    let zoned = time.to_zoned_datetime(TimeZone::system());
    let text = zoned.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string();
    match text.strip_suffix("+00:00") {
        Some(start) => format!("{start}Z"),
        None => text,
    }
}

/// The first 12 digits of a digest or id, without `sha256:`.
pub fn short_id(id: &str) -> &str {
    let digits = id.rsplit(':').next().unwrap_or(id);
    digits.get(..12).unwrap_or(digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cut_by_display_width() {
        assert_eq!(ellipsis("sleep 600", 20), "sleep 600");
        assert_eq!(ellipsis("exactly twenty chars", 20), "exactly twenty chars");
        assert_eq!(
            ellipsis("this is longer than twenty", 20),
            "this is longer than…"
        );
        assert_eq!(
            ellipsis("한국어 한국어 한국어 한국어", 20),
            "한국어 한국어 한국…"
        );
    }

    #[test]
    fn quoting_is_gos() {
        assert_eq!(quote("sh -c \"a\\b\""), r#""sh -c \"a\\b\"""#);
        assert_eq!(quote("a\n\tb\u{1}…"), r#""a\n\tb\x01…""#);
    }

    #[test]
    fn ids_are_short_without_their_algorithm() {
        assert_eq!(short_id("sha256:0123456789abcdef"), "0123456789ab");
        assert_eq!(short_id("abc"), "abc");
    }
}
