//! Sizes: what `--memory` and friends accept, and how listings show them (the rules of docker/go-units).

/// Why a text is not a size; the words are Docker's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SizeError {
    /// No number, a negative one, or one beyond 2^63-1.
    #[error("invalid size: '{text}'")]
    Number {
        /// What was given.
        text: String,
    },
    /// A unit we do not know.
    #[error("invalid suffix: '{suffix}'")]
    Suffix {
        /// The unit.
        suffix: String,
    },
}

/// Reads a size in bytes: `64m`, `1.5g`, `10KiB`, `512`, `1 GB`. Units are 1024-based and in either case.
pub fn parse_bytes(text: &str) -> Result<u64, SizeError> {
    parse_with_base(text, 1024)
}

/// Reads a size with 1000-based units: `10MB` is 10 000 000.
pub fn parse_decimal(text: &str) -> Result<u64, SizeError> {
    parse_with_base(text, 1000)
}

fn parse_with_base(text: &str, base: u64) -> Result<u64, SizeError> {
    let wrong = || SizeError::Number { text: text.into() };
    let last = text
        .rfind(|c: char| c.is_ascii_digit() || c == '.' || c == ' ')
        .ok_or_else(wrong)?;
    let (number, suffix) = text.split_at(last + 1);
    let number = number.strip_suffix(' ').unwrap_or(number);
    let factor = multiplier(suffix, base)?;
    let valid = number.bytes().all(|b| b.is_ascii_digit() || b == b'.')
        && number.bytes().any(|b| b.is_ascii_digit());
    if !valid {
        return Err(wrong());
    }
    let bytes = if number.contains('.') {
        let value: f64 = number.parse().map_err(|_| wrong())?;
        // The cast saturates, so that a value out of range is refused below.
        (value * factor as f64) as u64
    } else {
        number
            .parse::<u64>()
            .ok()
            .and_then(|n| n.checked_mul(factor))
            .ok_or_else(wrong)?
    };
    // Limits travel as signed 64-bit numbers in the wire formats and the kernel.
    if i64::try_from(bytes).is_err() {
        Err(wrong())
    } else {
        Ok(bytes)
    }
}

/// `k`, `kb` and `kib` are the same; `b` and nothing are bytes.
fn multiplier(suffix: &str, base: u64) -> Result<u64, SizeError> {
    let lower = suffix.to_ascii_lowercase();
    let power = match lower.as_str() {
        "" | "b" => return Ok(1),
        "k" | "kb" | "kib" => 1,
        "m" | "mb" | "mib" => 2,
        "g" | "gb" | "gib" => 3,
        "t" | "tb" | "tib" => 4,
        "p" | "pb" | "pib" => 5,
        _ => return Err(SizeError::Suffix { suffix: lower }),
    };
    Ok(base.pow(power))
}

/// `7.83MB`: 1000-based units, three significant digits.
pub fn human(bytes: u64) -> String {
    scaled(
        bytes as f64,
        1000.0,
        &["B", "kB", "MB", "GB", "TB", "PB", "EB"],
        3,
    )
}

/// `7.832MB`: 1000-based units, four significant digits.
pub fn human_long(bytes: u64) -> String {
    scaled(
        bytes as f64,
        1000.0,
        &["B", "kB", "MB", "GB", "TB", "PB", "EB"],
        4,
    )
}

/// `8.583MiB`: 1024-based units, four significant digits.
pub fn human_binary(bytes: u64) -> String {
    scaled(
        bytes as f64,
        1024.0,
        &["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"],
        4,
    )
}

fn scaled(mut value: f64, base: f64, units: &[&str], digits: usize) -> String {
    let mut unit = 0;
    // 999.9 kB has no three-digit form of its own (C's %g would print 1e+03): it is 1 MB.
    while unit + 1 < units.len() && round_significant(value, digits) >= base {
        value /= base;
        unit += 1;
    }
    let rounded = round_significant(value, digits);
    let decimals = digits.saturating_sub(integer_digits(rounded));
    let mut text = format!("{rounded:.decimals$}");
    if text.contains('.') {
        text.truncate(text.trim_end_matches('0').trim_end_matches('.').len());
    }
    text.push_str(units[unit]);
    text
}

/// Counted, not computed: a logarithm would link the mathematics library, which every start of the program would load.
fn integer_digits(value: f64) -> usize {
    std::iter::successors(Some(value), |rest| Some(rest / 10.0))
        .take_while(|rest| *rest >= 10.0)
        .count()
        + 1
}

fn round_significant(value: f64, digits: usize) -> f64 {
    let decimals = digits as i32 - integer_digits(value) as i32;
    let factor = 10f64.powi(decimals);
    (value * factor).round() / factor
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_sizes() {
        let cases = [
            ("0", 0),
            ("42", 42),
            ("42b", 42),
            ("64m", 64 << 20),
            ("64MB", 64 << 20),
            ("64MiB", 64 << 20),
            ("1.5g", 3 << 29),
            ("1.5G", 3 << 29),
            ("32 k", 32 << 10),
            (".5k", 512),
            ("2t", 2 << 40),
            ("1p", 1 << 50),
        ];
        for (text, bytes) in cases {
            assert_eq!(parse_bytes(text), Ok(bytes), "{text}");
        }
        assert_eq!(parse_decimal("10MB"), Ok(10_000_000));
    }

    #[test]
    fn refusals() {
        for text in [
            "",
            "m",
            "-1m",
            "+1",
            " ",
            ".",
            "1.2.3",
            "1 2",
            "9e9",
            "8388608t",
            "99999999999999999999",
        ] {
            assert!(parse_bytes(text).is_err(), "{text}");
        }
        let refused = parse_bytes("5q").unwrap_err();
        assert_eq!(refused.to_string(), "invalid suffix: 'q'");
        assert_eq!(
            parse_bytes("hello").unwrap_err().to_string(),
            "invalid size: 'hello'"
        );
        assert_eq!(
            parse_bytes("5bb").unwrap_err().to_string(),
            "invalid suffix: 'bb'"
        );
    }

    #[test]
    fn shows_decimal_sizes() {
        let cases = [
            (0, "0B"),
            (1, "1B"),
            (999, "999B"),
            (1000, "1kB"),
            (1090, "1.09kB"),
            (7_830_000, "7.83MB"),
            (7_800_000, "7.8MB"),
            (192_000_000, "192MB"),
            (999_900, "1MB"),
            (1_500_000_000, "1.5GB"),
            (u64::MAX, "18.4EB"),
        ];
        for (bytes, text) in cases {
            assert_eq!(human(bytes), text, "{bytes}");
        }
    }

    #[test]
    fn shows_binary_sizes() {
        let cases = [
            (0, "0B"),
            (1023, "1023B"),
            (1024, "1KiB"),
            (9_000_000, "8.583MiB"),
            (8_000_000_000, "7.451GiB"),
        ];
        for (bytes, text) in cases {
            assert_eq!(human_binary(bytes), text, "{bytes}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(text in "\\PC{0,30}", bytes: u64) {
            let _ = parse_bytes(&text);
            let _ = human_binary(bytes);
            prop_assert!(human(bytes).len() <= 7, "{}", human(bytes));
        }

        #[test]
        fn plain_numbers_are_exact(bytes in 0..=i64::MAX as u64) {
            prop_assert_eq!(parse_bytes(&bytes.to_string()), Ok(bytes));
        }
    }
}
