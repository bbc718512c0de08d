//! Events: one line of JSON each, appended by one write, so that lines of several writers never mix.
//!
//! The file is rotated at [`MAX_FILE_BYTES`]; the half before stays until the next rotation.

mod document;
mod listen;
mod select;

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::container::ContainerConfig;
use crate::lock::LeafLock;
use crate::{Engine, Error, ErrorKind, Result};

pub use document::document;
pub use listen::Listener;
pub use select::{KEYS, Selection};

/// Size in bytes at which the file is rotated.
pub const MAX_FILE_BYTES: u64 = 4 << 20;
/// The longest line that is read.
const MAX_LINE_BYTES: u64 = 64 << 10;

/// Something that happened to an object.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// When.
    pub time: Timestamp,
    /// `container`, `image`, `volume`, `network`: Docker's words.
    #[serde(rename = "type")]
    pub noun: String,
    /// `create`, `start`, `die`, `exec_start`, …: Docker's words.
    pub action: String,
    /// The object: an id, a name or a reference.
    pub id: String,
    /// `name`, `image`, `exitCode`, labels.
    #[serde(default)]
    pub attributes: BTreeMap<String, String>,
}

impl Event {
    /// An event of this moment.
    pub fn now(noun: &str, action: &str, id: impl Into<String>) -> Self {
        Self {
            time: Timestamp::now(),
            noun: noun.into(),
            action: action.into(),
            id: id.into(),
            attributes: BTreeMap::new(),
        }
    }

    /// An event of a container: with its name, its image and its labels, as Docker's.
    pub fn of_container(action: &str, config: &ContainerConfig) -> Self {
        let mut event = Self::now("container", action, config.id.as_str());
        event.attributes = config.labels.clone();
        event
            .with("name", &config.name)
            .with("image", &config.image.reference)
    }

    /// The same event with one more attribute.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl Into<String>) -> Self {
        self.attributes.insert(key.into(), value.into());
        self
    }
}

/// Appends an event. What it tells of has happened already, so a caller has no better answer to a failure than to go
/// on: it may drop the result.
///
/// # Errors
/// Input and output.
pub fn publish(engine: &Engine, event: &Event) -> Result<()> {
    let path = engine.paths().events_file();
    let mut line = serde_json::to_vec(event).map_err(|error| failed("write", &path, &error))?;
    line.push(b'\n');
    let mut file = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(&path)
        .map_err(|error| failed("open", &path, &error))?;
    file.write_all(&line)
        .map_err(|error| failed("write", &path, &error))?;
    if file
        .metadata()
        .is_ok_and(|meta| meta.len() >= MAX_FILE_BYTES)
    {
        rotate(engine, &file)?;
    }
    Ok(())
}

/// Events from `since` to `until`, oldest first, as far back as they are kept.
///
/// # Errors
/// Input and output; lines that are not events are left out.
pub fn read(
    engine: &Engine,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
) -> Result<Vec<Event>> {
    let mut events = Vec::new();
    for path in [engine.paths().events_old(), engine.paths().events_file()] {
        let Some(file) = open(&path)? else { continue };
        read_lines(BufReader::new(file), &mut |event| events.push(event))
            .map_err(|e| failed("read", &path, &e))?;
    }
    events.retain(|event| {
        since.is_none_or(|since| event.time >= since)
            && until.is_none_or(|until| event.time <= until)
    });
    Ok(events)
}

/// Reads events as they come. Poll the events directory with inotify, then call [`Follower::take_new`] until it is empty.
#[derive(Debug)]
pub struct Follower {
    path: PathBuf,
    file: Option<File>,
    rest: Vec<u8>,
}

impl Follower {
    /// Follows from this moment on.
    ///
    /// # Errors
    /// Input and output.
    pub fn from_now(engine: &Engine) -> Result<Self> {
        let path = engine.paths().events_file();
        let mut file = open(&path)?;
        if let Some(file) = &mut file {
            file.seek(SeekFrom::End(0))
                .map_err(|error| failed("seek", &path, &error))?;
        }
        Ok(Self {
            path,
            file,
            rest: Vec::new(),
        })
    }

    /// The events since the last call.
    ///
    /// # Errors
    /// Input and output.
    pub fn take_new(&mut self) -> Result<Vec<Event>> {
        let mut events = Vec::new();
        loop {
            if self.file.is_none() {
                self.file = open(&self.path)?;
            }
            let Some(file) = &mut self.file else {
                return Ok(events);
            };
            // Ask whether the file has been rotated away before reading it to its end, so that nothing is lost.
            let rotated = !is_current(file, &self.path);
            let mut bytes = std::mem::take(&mut self.rest);
            file.read_to_end(&mut bytes)
                .map_err(|error| failed("read", &self.path, &error))?;
            let whole = bytes
                .iter()
                .rposition(|&byte| byte == b'\n')
                .map_or(0, |end| end + 1);
            read_lines(&bytes[..whole], &mut |event| events.push(event))
                .map_err(|e| failed("read", &self.path, &e))?;
            self.rest = bytes.split_off(whole);
            if !rotated {
                return Ok(events);
            }
            self.file = None;
            self.rest.clear();
        }
    }
}

fn read_lines(mut reader: impl BufRead, each: &mut dyn FnMut(Event)) -> io::Result<()> {
    let mut line = Vec::new();
    loop {
        line.clear();
        if (&mut reader)
            .take(MAX_LINE_BYTES)
            .read_until(b'\n', &mut line)?
            == 0
        {
            return Ok(());
        }
        if let Ok(event) = serde_json::from_slice(&line) {
            each(event);
        }
    }
}

fn rotate(engine: &Engine, full: &File) -> Result<()> {
    let _lock = LeafLock::take(&engine.paths().events_lock())?;
    let path = engine.paths().events_file();
    if is_current(full, &path) {
        fs::rename(&path, engine.paths().events_old())
            .map_err(|error| failed("rename", &path, &error))?;
    }
    Ok(())
}

fn is_current(file: &File, path: &Path) -> bool {
    match (file.metadata(), fs::metadata(path)) {
        (Ok(ours), Ok(there)) => ours.ino() == there.ino() && ours.dev() == there.dev(),
        _ => false,
    }
}

fn open(path: &Path) -> Result<Option<File>> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("open", path, &error)),
    }
}

fn failed(call: &str, path: &Path, error: &(dyn std::error::Error + 'static)) -> Error {
    Error::caused(
        ErrorKind::Internal,
        format!("{call} {}", path.display()),
        error,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::engine;

    #[test]
    fn events_come_back_in_order_within_bounds() {
        let (_dir, engine) = engine();
        for action in ["create", "start", "die"] {
            publish(
                &engine,
                &Event::now("container", action, "x").with("name", "web"),
            )
            .unwrap();
        }
        let all = read(&engine, None, None).unwrap();
        assert_eq!(
            all.iter()
                .map(|event| event.action.as_str())
                .collect::<Vec<_>>(),
            ["create", "start", "die"]
        );
        assert_eq!(
            read(&engine, Some(all[2].time), None).unwrap(),
            [all[2].clone()]
        );
        assert_eq!(
            read(&engine, None, Some(all[0].time)).unwrap(),
            [all[0].clone()]
        );
    }

    #[test]
    fn a_follower_loses_nothing_over_a_rotation() {
        let (_dir, engine) = engine();
        let mut follower = Follower::from_now(&engine).unwrap();
        publish(&engine, &Event::now("container", "one", "x")).unwrap();
        assert_eq!(follower.take_new().unwrap().len(), 1);
        publish(&engine, &Event::now("container", "two", "x")).unwrap();
        rotate(&engine, &File::open(engine.paths().events_file()).unwrap()).unwrap();
        publish(&engine, &Event::now("container", "three", "x")).unwrap();
        let actions: Vec<String> = follower
            .take_new()
            .unwrap()
            .into_iter()
            .map(|event| event.action)
            .collect();
        assert_eq!(actions, ["two", "three"]);
        assert_eq!(read(&engine, None, None).unwrap().len(), 3);
    }

    #[test]
    fn the_file_is_rotated_at_its_bound() {
        let (_dir, engine) = engine();
        let event = Event::now("container", "x", "x").with("filler", "f".repeat(60_000));
        for _ in 0..MAX_FILE_BYTES / 60_000 + 1 {
            publish(&engine, &event).unwrap();
        }
        assert!(engine.paths().events_old().exists());
        assert!(
            fs::metadata(engine.paths().events_file()).map_or(0, |meta| meta.len())
                < MAX_FILE_BYTES
        );
    }

    #[test]
    fn a_torn_line_of_a_power_cut_is_left_out() {
        let (_dir, engine) = engine();
        fs::write(engine.paths().events_file(), "{\"time\":\n").unwrap();
        publish(&engine, &Event::now("container", "create", "x")).unwrap();
        assert_eq!(read(&engine, None, None).unwrap().len(), 1);
    }
}
