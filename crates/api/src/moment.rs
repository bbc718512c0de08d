//! Points in time as clients send them.

use jiff::{SignedDuration, Timestamp};
use ketch_engine::{Error, ErrorKind, Result};

/// Reads `1136073600`, `1136073600.000000001`, RFC 3339, or a duration before `now` (`10m`). `0` and an empty text
/// mean none.
///
/// # Errors
/// `Invalid`, naming `what`.
pub fn parse(what: &str, text: &str, now: Timestamp) -> Result<Option<Timestamp>> {
    if matches!(text, "" | "0") {
        return Ok(None);
    }
    unix(text)
        .or_else(|| text.parse().ok())
        .or_else(|| before(text, now))
        .map(Some)
        .ok_or_else(|| {
            Error::new(
                ErrorKind::Invalid,
                format!("invalid value for {what:?}: {text:?} is neither a time nor a duration"),
            )
        })
}

fn unix(text: &str) -> Option<Timestamp> {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits: String = fraction
        .chars()
        .chain(std::iter::repeat('0'))
        .take(9)
        .collect();
    Timestamp::new(seconds.parse().ok()?, digits.parse().ok()?).ok()
}

fn before(text: &str, now: Timestamp) -> Option<Timestamp> {
    let duration = ketch_spec::duration::parse(text).ok()?;
    now.checked_sub(SignedDuration::try_from(duration).ok()?)
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_dates_and_durations_are_read() {
        let now = Timestamp::from_second(1000).unwrap();
        let read = |text: &str| parse("since", text, now).unwrap();
        assert_eq!(read("0"), None);
        assert_eq!(read(""), None);
        assert_eq!(read("5.25"), Some(Timestamp::new(5, 250_000_000).unwrap()));
        assert_eq!(
            read("1970-01-01T00:00:07Z"),
            Some(Timestamp::from_second(7).unwrap())
        );
        assert_eq!(read("1m"), Some(Timestamp::from_second(940).unwrap()));
        assert_eq!(
            parse("since", "soon", now).unwrap_err().kind,
            ErrorKind::Invalid
        );
    }
}
