//! `logs`: reads what the monitor wrote, in Docker's json-file format: one line of JSON a message, in
//! `log/container.log`, with older messages in `container.log.1`, `.2` and so on.
//!
//! The reader follows rotation by the identity of the file it is in, not by its name.

mod file;
mod line;
mod tail;

use std::collections::VecDeque;
use std::path::PathBuf;

use jiff::Timestamp;
use ketch_spec::Id;
use rustix::fs::inotify::WatchFlags;

use self::file::LogFile;
use super::load::{self, is_live};
use super::watch::Watch;
use crate::{Engine, Error, ErrorKind, Result};

pub use line::{LogLine, LogStream};

/// How long a follower waits before it asks whether the container still runs, if it hears nothing: its end is heard
/// too, so this only bounds what a lost event costs.
const ASK_AGAIN: std::time::Duration = std::time::Duration::from_secs(5);

/// What to read.
#[derive(Debug, Clone, Copy, Default)]
pub struct LogOptions {
    /// Wait for more until the container ends.
    pub follow: bool,
    /// Only messages of this time or later.
    pub since: Option<Timestamp>,
    /// Only messages of this time or earlier.
    pub until: Option<Timestamp>,
    /// Only so many of the messages that are there already, counted from the end; None means all.
    pub tail: Option<u64>,
    /// Only this stream; None means both.
    pub stream: Option<LogStream>,
}

/// The messages of a container: a blocking iterator.
#[derive(Debug)]
pub struct LogReader {
    engine: Engine,
    id: Id,
    options: LogOptions,
    /// Files to read, oldest first; the last is the one being written.
    files: VecDeque<LogFile>,
    path: PathBuf,
    /// What tells of changes, while following.
    watch: Option<Watch>,
    ended: bool,
}

/// Reads the log of a container. Following a container that does not run ends where the log ends.
///
/// # Errors
/// `NotFound`; `Unsupported` in Docker's words for a log driver that keeps nothing.
pub fn logs(engine: &Engine, wanted: &str, options: LogOptions) -> Result<LogReader> {
    let id = load::resolve(engine, wanted)?;
    let (config, state) = load::load(engine, &id)?;
    if config.log.driver == "none" {
        return Err(Error::new(
            ErrorKind::Unsupported,
            "configured logging driver does not support reading",
        ));
    }
    let path = engine.paths().log_file(&id);
    let mut options = options;
    options.follow &= is_live(state.status);
    let watch = if options.follow {
        // Before the files are opened, so that nothing falls between. Both directories: the log's for messages, the
        // container's for its end.
        let flags = WatchFlags::MODIFY | WatchFlags::CREATE | WatchFlags::MOVED_TO;
        let watch = Watch::on(&engine.paths().log_dir(&id), flags)?;
        if let Some(watch) = &watch {
            watch.add_container(engine, &id)?;
        }
        watch
    } else {
        None
    };
    let mut files = file::open_all(&path)?;
    if let Some(count) = options.tail {
        tail::seek(&mut files, count)?;
    }
    Ok(LogReader {
        engine: engine.clone(),
        id,
        options,
        files,
        path,
        watch,
        ended: false,
    })
}

impl LogReader {
    /// The next message that is there already.
    fn ready(&mut self) -> Result<Option<LogLine>> {
        loop {
            let several = self.files.len() > 1;
            let Some(file) = self.files.front_mut() else {
                break;
            };
            // Read first, ask about rotation afterwards: what was written before it is then in our hands.
            if let Some(line) = file.next_line()? {
                match line::parse(&line) {
                    Some(line) if self.options.until.is_some_and(|until| line.time > until) => {
                        self.ended = true;
                        return Ok(None);
                    }
                    Some(line) if self.is_wanted(&line) => return Ok(Some(line)),
                    _ => continue,
                }
            }
            if several {
                self.files.pop_front();
            } else if !self.options.follow {
                return Ok(None);
            } else {
                let newer = file.newer(&self.path)?;
                if newer.is_empty() {
                    return Ok(None);
                }
                self.files.extend(newer);
            }
        }
        if self.options.follow {
            self.files = file::open_all(&self.path)?;
        }
        Ok(None)
    }

    fn is_wanted(&self, line: &LogLine) -> bool {
        self.options.since.is_none_or(|since| line.time >= since)
            && self
                .options
                .stream
                .is_none_or(|stream| line.stream == stream)
    }

    fn is_running(&self) -> Result<bool> {
        match load::load(&self.engine, &self.id) {
            Ok((_, state)) => Ok(is_live(state.status)),
            Err(error) if error.kind == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn next_line(&mut self) -> Result<Option<LogLine>> {
        let mut last_round = false;
        while !self.ended {
            if let Some(line) = self.ready()? {
                return Ok(Some(line));
            }
            let Some(watch) = &self.watch else { break };
            if self.ended || last_round {
                break;
            }
            // Asked before the last look: what the monitor wrote, it wrote before it said that the container ended.
            last_round = !self.is_running()?;
            if !last_round {
                let limit = self.options.until.map_or(ASK_AGAIN, |until| {
                    let left = until.duration_since(Timestamp::now());
                    ASK_AGAIN.min(left.try_into().unwrap_or_default())
                });
                watch.wait(limit)?;
                self.ended = self
                    .options
                    .until
                    .is_some_and(|until| until < Timestamp::now())
                    && self.files.is_empty();
                last_round = self
                    .options
                    .until
                    .is_some_and(|until| until < Timestamp::now());
            }
        }
        self.ended = true;
        Ok(None)
    }
}

impl Iterator for LogReader {
    type Item = Result<LogLine>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let next = self.next_line();
        self.ended |= next.is_err();
        next.transpose()
    }
}

#[cfg(test)]
mod tests;
