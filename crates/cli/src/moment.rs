//! Points in time as flags give them: RFC 3339 in parts, Unix seconds, or a duration before now.

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, civil};

use crate::failure::Failure;

/// Reads `text` as seen at `now`: `42m` is 42 minutes before.
///
/// # Errors
/// [`Failure::Usage`] naming `what`.
pub fn parse(what: &str, text: &str, now: Timestamp) -> Result<Timestamp, Failure> {
    let wrong = || {
        Failure::usage(format!(
            "invalid value for {what:?}: failed to parse value as time or duration: {text:?}"
        ))
    };
    if let Ok(duration) = ketch_spec::duration::parse(text)
        && text.ends_with(|last: char| last.is_alphabetic())
    {
        return now
            .checked_sub(SignedDuration::try_from(duration).map_err(|_| wrong())?)
            .map_err(|_| wrong());
    }
    unix(text)
        .or_else(|| text.parse().ok())
        .or_else(|| local(text))
        .ok_or_else(wrong)
}

/// `1136073600`, `1136073600.000000001`.
fn unix(text: &str) -> Option<Timestamp> {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = seconds.parse().ok()?;
    let digits: String = fraction
        .chars()
        .chain(std::iter::repeat('0'))
        .take(9)
        .collect();
    Timestamp::new(seconds, digits.parse().ok()?).ok()
}

/// A date, or a date and time without a zone, in the local one.
fn local(text: &str) -> Option<Timestamp> {
    let text = text.strip_suffix('Z').unwrap_or(text);
    let civil: civil::DateTime = match text.parse::<civil::DateTime>() {
        Ok(time) => time,
        Err(_) => text
            .parse::<civil::Date>()
            .ok()?
            .to_datetime(civil::Time::midnight()),
    };
    let zone = TimeZone::system();
    civil
        .to_zoned_datetime(zone)
        .ok()
        .map(|zoned| zoned.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<i64> {
        parse("since", text, Timestamp::from_second(1_000_000).unwrap())
            .ok()
            .map(Timestamp::as_second)
    }

    #[test]
    fn durations_count_back_and_other_forms_are_absolute() {
        assert_eq!(read("10m"), Some(999_400));
        assert_eq!(read("1h30m"), Some(994_600));
        assert_eq!(read("1136073600"), Some(1_136_073_600));
        assert_eq!(read("1136073600.5"), Some(1_136_073_600));
        assert_eq!(read("2006-01-02T15:04:05Z"), Some(1_136_214_245));
        assert_eq!(read("2006-01-02T15:04:05+01:00"), Some(1_136_210_645));
        assert!(read("2006-01-02T15:04").is_some());
        assert!(read("2006-01-02").is_some());
        assert_eq!(read("yesterday"), None);
    }
}
