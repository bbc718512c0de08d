//! Durations: Go's notation (`1h30m`, `1.5s`, `100ms`) and ages as listings show them.

use std::time::Duration;

/// Why a text is not a duration; the words are Go's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// Not a sequence of numbers with units, negative, or beyond 2^63-1 nanoseconds.
    #[error("time: invalid duration {text:?}")]
    Invalid {
        /// What was given.
        text: String,
    },
    /// A number without a unit.
    #[error("time: missing unit in duration {text:?}")]
    MissingUnit {
        /// What was given.
        text: String,
    },
    /// A unit that is not ns, us, ms, s, m or h.
    #[error("time: unknown unit {unit:?} in duration {text:?}")]
    UnknownUnit {
        /// The unit.
        unit: String,
        /// What was given.
        text: String,
    },
}

/// Reads Go's notation: numbers with optional fractions, each with a unit of ns, us (µs), ms, s, m, h.
/// A plain `0` needs no unit; negative durations are refused.
pub fn parse(text: &str) -> Result<Duration, DurationError> {
    let invalid = || DurationError::Invalid { text: text.into() };
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let number_end = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(rest.len());
        let (number, after) = rest.split_at(number_end);
        let unit_end = after
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_end);
        if !number.bytes().any(|b| b.is_ascii_digit()) {
            return Err(invalid());
        }
        let scale = match unit {
            "" => return Err(DurationError::MissingUnit { text: text.into() }),
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => {
                return Err(DurationError::UnknownUnit {
                    unit: unit.into(),
                    text: text.into(),
                });
            }
        };
        let part = nanoseconds(number, scale).ok_or_else(invalid)?;
        total = total.checked_add(part).ok_or_else(invalid)?;
        rest = after;
    }
    if i64::try_from(total).is_err() {
        Err(invalid())
    } else {
        Ok(Duration::from_nanos(total))
    }
}

/// `number` times `scale`, exactly, digits below a nanosecond dropped.
fn nanoseconds(number: &str, scale: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if fraction.contains('.') {
        return None;
    }
    let whole: u64 = if whole.is_empty() {
        0
    } else {
        whole.parse().ok()?
    };
    let mut total = whole.checked_mul(scale)?;
    // An hour has fewer than 10^13 nanoseconds: further digits count for nothing.
    let fraction = &fraction[..fraction.len().min(15)];
    if !fraction.is_empty() {
        let digits: u128 = fraction.parse().ok()?;
        let part = digits * u128::from(scale) / 10u128.pow(fraction.len() as u32);
        total = total.checked_add(u64::try_from(part).ok()?)?;
    }
    Some(total)
}

/// Go's `Duration.String`: `1h30m0s`, `1.5s`, `100ms`, `0s`.
pub fn go_format(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    if nanos == 0 {
        return "0s".into();
    }
    if nanos < 1_000_000_000 {
        let (unit, scale) = match nanos {
            0..1_000 => ("ns", 1),
            1_000..1_000_000 => ("µs", 1_000),
            _ => ("ms", 1_000_000),
        };
        return format!("{}{unit}", with_fraction(nanos, scale));
    }
    let total_s = nanos / 1_000_000_000;
    let seconds = with_fraction(nanos % 60_000_000_000, 1_000_000_000);
    match (total_s / 3600, total_s / 60 % 60) {
        (0, 0) => format!("{seconds}s"),
        (0, minutes) => format!("{minutes}m{seconds}s"),
        (hours, minutes) => format!("{hours}h{minutes}m{seconds}s"),
    }
}

fn with_fraction(value: u128, scale: u128) -> String {
    let width = scale.ilog10() as usize;
    let fraction = value % scale;
    if fraction == 0 {
        return (value / scale).to_string();
    }
    let text = format!("{}.{fraction:0width$}", value / scale);
    text.trim_end_matches('0').to_owned()
}

/// An age in words, without "ago": `Less than a second`, `About a minute`, `2 hours` (go-units' HumanDuration).
pub fn age(seconds: i64) -> String {
    let minutes = seconds / 60;
    let hours = (seconds + 1800) / 3600;
    match () {
        () if seconds < 1 => "Less than a second".into(),
        () if seconds == 1 => "1 second".into(),
        () if seconds < 60 => format!("{seconds} seconds"),
        () if minutes == 1 => "About a minute".into(),
        () if minutes < 60 => format!("{minutes} minutes"),
        () if hours == 1 => "About an hour".into(),
        () if hours < 48 => format!("{hours} hours"),
        () if hours < 24 * 7 * 2 => format!("{} days", hours / 24),
        () if hours < 24 * 30 * 2 => format!("{} weeks", hours / 24 / 7),
        () if hours < 24 * 365 * 2 => format!("{} months", hours / 24 / 30),
        () => format!("{} years", seconds / 3600 / 24 / 365),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_gos_notation() {
        let cases = [
            ("0", 0),
            ("1h30m", 5_400_000_000_000),
            ("1.5s", 1_500_000_000),
            ("100ms", 100_000_000),
            (".5s", 500_000_000),
            ("1.s", 1_000_000_000),
            ("3us", 3_000),
            ("3µs", 3_000),
            ("+5s", 5_000_000_000),
            ("1m1m", 120_000_000_000),
            ("0.100000000000000000000h", 360_000_000_000),
        ];
        for (text, nanos) in cases {
            assert_eq!(parse(text), Ok(Duration::from_nanos(nanos)), "{text}");
        }
    }

    #[test]
    fn refusals_use_gos_words() {
        let cases = [
            ("", "time: invalid duration \"\""),
            ("5", "time: missing unit in duration \"5\""),
            ("5x", "time: unknown unit \"x\" in duration \"5x\""),
            ("5d", "time: unknown unit \"d\" in duration \"5d\""),
            ("-1s", "time: invalid duration \"-1s\""),
            ("s", "time: invalid duration \"s\""),
            (".s", "time: invalid duration \".s\""),
            ("1.2.3s", "time: invalid duration \"1.2.3s\""),
            ("9999999999h", "time: invalid duration \"9999999999h\""),
        ];
        for (text, message) in cases {
            assert_eq!(parse(text).unwrap_err().to_string(), message);
        }
    }

    #[test]
    fn formats_as_go_does() {
        let cases = [
            (0, "0s"),
            (1, "1ns"),
            (1_500, "1.5µs"),
            (100_000_000, "100ms"),
            (1_500_000_000, "1.5s"),
            (60_000_000_000, "1m0s"),
            (5_400_000_000_000, "1h30m0s"),
            (3_600_000_000_001, "1h0m0.000000001s"),
        ];
        for (nanos, text) in cases {
            assert_eq!(go_format(Duration::from_nanos(nanos)), text);
        }
    }

    #[test]
    fn ages_in_words() {
        let day = 86_400;
        let cases = [
            (-5, "Less than a second"),
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "About a minute"),
            (119, "About a minute"),
            (120, "2 minutes"),
            (3599, "59 minutes"),
            (3600, "About an hour"),
            (5399, "About an hour"),
            (5400, "2 hours"),
            (47 * 3600, "47 hours"),
            (2 * day, "2 days"),
            (13 * day, "13 days"),
            (14 * day, "2 weeks"),
            (59 * day, "8 weeks"),
            (60 * day, "2 months"),
            (729 * day, "24 months"),
            (730 * day, "2 years"),
        ];
        for (seconds, text) in cases {
            assert_eq!(age(seconds), text, "{seconds}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(text in "\\PC{0,30}", seconds in -1_000_000_000_000i64..1_000_000_000_000) {
            let _ = parse(&text);
            let _ = age(seconds);
        }

        #[test]
        fn formatted_reads_back(nanos in 0..=i64::MAX as u64) {
            let duration = Duration::from_nanos(nanos);
            prop_assert_eq!(parse(&go_format(duration)), Ok(duration));
        }
    }
}
