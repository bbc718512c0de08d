//! The question before something is removed, and the report after it.

use std::io::{BufRead, Write};

use jiff::Timestamp;

use crate::failure::Failure;
use crate::filter::Filters;
use crate::{moment, output};

/// Asks `[y/N]`; false means no, and so does the end of the input.
///
/// # Errors
/// Standard output or input.
pub fn confirm(warning: &str) -> Result<bool, Failure> {
    output::print(&format!(
        "{warning}\nAre you sure you want to continue? [y/N] "
    ))?;
    std::io::stdout().flush().map_err(Failure::stdout)?;
    let mut answer = String::new();
    std::io::stdin()
        .lock()
        .read_line(&mut answer)
        .map_err(|source| Failure::Stream {
            stream: "standard input",
            source,
        })?;
    if !answer.ends_with('\n') {
        output::print_line("")?;
    }
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}

/// `7.832MB` of a report's last line.
pub fn reclaimed(bytes: u64) -> String {
    format!(
        "Total reclaimed space: {}",
        ketch_spec::size::human_long(bytes)
    )
}

/// The earliest of the `until` filters.
///
/// # Errors
/// A value that is no time.
pub fn until(filters: &Filters) -> Result<Option<Timestamp>, Failure> {
    let now = Timestamp::now();
    let mut earliest: Option<Timestamp> = None;
    for text in filters.values("until") {
        let moment = moment::parse("until", text, now)?;
        earliest = Some(earliest.map_or(moment, |other| other.min(moment)));
    }
    Ok(earliest)
}
