//! Pauses between attempts, and the words of servers made fit for a terminal.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::time::Duration;

use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimeParser;

use crate::options::RetryPolicy;

/// Longest text of a server that is shown, in characters.
const TEXT_MAX: usize = 300;

/// As [`delay`], shortened by chance by up to a quarter: clients that failed together must not return together. What
/// the server asks for is kept to.
pub(crate) fn pause(policy: &RetryPolicy, failed: u32, asked: Option<Duration>) {
    let whole = delay(policy, failed, asked);
    let spread = if asked.is_some() {
        Duration::ZERO
    } else {
        // The standard library's hasher has new keys for each value: chance enough for this.
        let chance = RandomState::new().build_hasher().finish() % 1024;
        whole / 4096 * u32::try_from(chance).unwrap_or(0)
    };
    std::thread::sleep(whole - spread);
}

/// The pause after failure number `failed` (from 1); `asked` is the server's wish.
pub(crate) fn delay(policy: &RetryPolicy, failed: u32, asked: Option<Duration>) -> Duration {
    let doubled = policy
        .first_delay
        .saturating_mul(1 << failed.saturating_sub(1).min(16));
    asked.unwrap_or(doubled).min(policy.longest_delay)
}

/// `Retry-After` (RFC 9110, section 10.2.3): seconds, or the moment from which on to try. One that is past is now.
pub(crate) fn retry_after(header: Option<&str>, now: Timestamp) -> Option<Duration> {
    let text = header?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let moment = DateTimeParser::new().parse_timestamp(text).ok()?;
    Some(Duration::try_from(moment.duration_since(now)).unwrap_or(Duration::ZERO))
}

/// Statuses that another attempt may change.
pub(crate) fn is_transient_status(status: u16) -> bool {
    matches!(status, 408 | 429 | 500 | 502 | 503 | 504)
}

/// One bounded line without control characters.
pub(crate) fn clean_text(text: &str) -> String {
    let words: Vec<&str> = text
        .split(char::is_whitespace)
        .filter(|word| !word.is_empty())
        .collect();
    words
        .join(" ")
        .chars()
        .filter(|c| !c.is_control())
        .take(TEXT_MAX)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_and_are_bounded() {
        let policy = RetryPolicy::default();
        let pauses: Vec<u128> = (1..=8)
            .map(|n| delay(&policy, n, None).as_millis())
            .collect();
        assert_eq!(pauses, [250, 500, 1000, 2000, 4000, 8000, 10_000, 10_000]);
        assert_eq!(delay(&policy, u32::MAX, None), policy.longest_delay);
        let now: Timestamp = "2015-10-21T07:27:57Z".parse().unwrap();
        let asked = |text| retry_after(Some(text), now);
        assert_eq!(delay(&policy, 1, asked(" 2 ")), Duration::from_secs(2));
        assert_eq!(delay(&policy, 1, asked("86400")), policy.longest_delay);
        let date = "Wed, 21 Oct 2015 07:28:00 GMT";
        assert_eq!(asked(date), Some(Duration::from_secs(3)));
        let past = "Wed, 21 Oct 2015 07:27:00 GMT";
        assert_eq!(asked(past), Some(Duration::ZERO));
        assert_eq!(asked("soon"), None);
        assert_eq!(asked("-1"), None);
    }

    #[test]
    fn server_text_is_made_harmless() {
        assert_eq!(clean_text("a\x1b[31m\n  b\0"), "a[31m b");
        assert_eq!(clean_text(&"x".repeat(9999)).len(), TEXT_MAX);
    }
}
