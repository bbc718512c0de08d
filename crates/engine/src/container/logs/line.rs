//! One line of a json-file log.

use std::borrow::Cow;

use jiff::Timestamp;
use serde::Deserialize;

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// Where the program wrote it.
    pub stream: LogStream,
    /// When the monitor read it.
    pub time: Timestamp,
    /// What, with its newline if it had one.
    pub bytes: Vec<u8>,
}

/// Standard output or error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogStream {
    /// Standard output; everything of a container with a terminal.
    Stdout,
    /// Standard error.
    Stderr,
}

#[derive(Deserialize)]
struct Record<'a> {
    #[serde(borrow)]
    log: Cow<'a, str>,
    stream: LogStream,
    time: Timestamp,
}

/// The message on a line; None for a line that a crash or a full disk has torn.
pub(super) fn parse(line: &[u8]) -> Option<LogLine> {
    let record: Record<'_> = serde_json::from_slice(line).ok()?;
    Some(LogLine {
        stream: record.stream,
        time: record.time,
        bytes: record.log.into_owned().into_bytes(),
    })
}
