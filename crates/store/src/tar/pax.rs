//! Extended headers of POSIX: records `<length> <key>=<value>\n`.

use super::{Problem, Time};

/// One record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    pub key: &'a [u8],
    pub value: &'a [u8],
}

/// The records of an extended header's body, taken apart one by one: there may be hundreds of thousands in a megabyte.
#[derive(Debug, Clone)]
pub struct Records<'a> {
    body: &'a [u8],
}

impl<'a> Records<'a> {
    pub fn new(body: &'a [u8]) -> Self {
        Self { body }
    }

    fn record(&mut self) -> Result<Record<'a>, Problem> {
        let body = self.body;
        let space = body
            .iter()
            .take(20)
            .position(|byte| *byte == b' ')
            .ok_or(Problem::Extended)?;
        let length = usize::try_from(decimal(&body[..space]).ok_or(Problem::Extended)?)
            .map_err(|_| Problem::Extended)?;
        if length <= space + 1 || length > body.len() || body[length - 1] != b'\n' {
            return Err(Problem::Extended);
        }
        let record = &body[space + 1..length - 1];
        let equals = record
            .iter()
            .position(|byte| *byte == b'=')
            .ok_or(Problem::Extended)?;
        if equals == 0 {
            return Err(Problem::Extended);
        }
        self.body = &body[length..];
        Ok(Record {
            key: &record[..equals],
            value: &record[equals + 1..],
        })
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<Record<'a>, Problem>;

    fn next(&mut self) -> Option<Self::Item> {
        // Some programs fill up with NULs.
        if self.body.iter().all(|byte| *byte == 0) {
            return None;
        }
        let record = self.record();
        if record.is_err() {
            self.body = &[];
        }
        Some(record)
    }
}

/// Decimal digits only.
pub fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0u64, |value, digit| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        value.checked_mul(10)?.checked_add(digit)
    })
}

/// `[-]seconds[.fraction]`; digits behind the ninth are cut.
pub fn time(text: &[u8]) -> Option<Time> {
    let (negative, text) = match text.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (whole, fraction) = match text.iter().position(|byte| *byte == b'.') {
        Some(at) => (&text[..at], &text[at + 1..]),
        None => (text, &[][..]),
    };
    let seconds = i64::try_from(decimal(whole)?).ok()?;
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let digits: Vec<u8> = fraction
        .iter()
        .copied()
        .chain(std::iter::repeat(b'0'))
        .take(9)
        .collect();
    let nanoseconds = u32::try_from(decimal(&digits)?).ok()?;
    Some(match (negative, nanoseconds) {
        (false, _) => Time {
            seconds,
            nanoseconds,
        },
        (true, 0) => Time {
            seconds: -seconds,
            nanoseconds: 0,
        },
        // -1.25 is three quarters after -2.
        (true, _) => Time {
            seconds: -seconds - 1,
            nanoseconds: 1_000_000_000 - nanoseconds,
        },
    })
}

/// A time as [`time`] reads it.
pub fn format_time(time: Time) -> String {
    let (sign, seconds, nanoseconds) = match (time.seconds < 0, time.nanoseconds) {
        (true, 0) => ("-", time.seconds.unsigned_abs(), 0),
        (true, nanoseconds) => (
            "-",
            time.seconds.unsigned_abs() - 1,
            1_000_000_000 - nanoseconds,
        ),
        (false, nanoseconds) => ("", time.seconds.unsigned_abs(), nanoseconds),
    };
    if nanoseconds == 0 {
        return format!("{sign}{seconds}");
    }
    format!(
        "{sign}{seconds}.{}",
        format!("{nanoseconds:09}").trim_end_matches('0')
    )
}

/// Appends one record to the body of an extended header.
pub fn append(body: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    // The length counts its own digits.
    let rest = key.len() + value.len() + 3;
    let mut length = rest + digits(rest);
    if rest + digits(length) != length {
        length = rest + digits(length);
    }
    body.extend_from_slice(length.to_string().as_bytes());
    body.push(b' ');
    body.extend_from_slice(key);
    body.push(b'=');
    body.extend_from_slice(value);
    body.push(b'\n');
}

fn digits(number: usize) -> usize {
    number.to_string().len()
}
