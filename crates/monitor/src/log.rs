//! The log of a container, in Docker's json-file format: one JSON object a line, because other tools tail these files.
//!
//! A message is a line of output with its newline. A line longer than [`log_line::MAX_MESSAGE_BYTES`] becomes several messages,
//! all but the last without a newline; an unfinished line waits for the rest of it, or for the end of the stream.
//! Writing never blocks the container for ever and never stops it: what cannot be written is counted, and the log
//! itself says how much is missing as soon as it can be written again.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use ketch_engine::container::config::LogConfig;

use crate::log_line::{self, LineSplitter};

pub use crate::log_line::Stream;

/// Bytes gathered before a write.
const WRITE_BYTES: usize = 32 * 1024;

/// Why a log cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// No such driver.
    #[error("logging driver {driver:?} is not supported")]
    Driver {
        /// As configured.
        driver: String,
    },
    /// No such option, or one we do not have.
    #[error("unknown log opt '{option}' for {driver} log driver")]
    Option {
        /// The driver.
        driver: String,
        /// As configured.
        option: String,
    },
    /// A value that makes no sense.
    #[error("invalid value {value:?} of log opt '{option}'")]
    Value {
        /// The option.
        option: String,
        /// As configured.
        value: String,
    },
    /// The file.
    #[error("{call} {}", path.display())]
    File {
        /// What was tried.
        call: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// Where the output of a container goes.
#[derive(Debug)]
pub struct Log {
    file: Option<LogFile>,
    stdout: LineSplitter,
    stderr: LineSplitter,
}

impl Log {
    /// Opens the log at `path` as `config` says.
    ///
    /// # Errors
    /// An unknown driver or option by name; the file's.
    pub fn open(path: &Path, config: &LogConfig) -> Result<Self, LogError> {
        let file = match config.driver.as_str() {
            "json-file" => Some(LogFile::open(path, Rotation::parse(&config.options)?)?),
            "none" => None,
            other => {
                return Err(LogError::Driver {
                    driver: other.to_owned(),
                });
            }
        };
        Ok(Self {
            file,
            stdout: LineSplitter::default(),
            stderr: LineSplitter::default(),
        })
    }

    /// Takes output that came at `now`.
    pub fn append(&mut self, stream: Stream, bytes: &[u8], now: Timestamp) {
        let Some(file) = &mut self.file else { return };
        let time = now.to_string();
        let splitter = match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        };
        splitter.feed(bytes, |message| file.message(stream, message, &time));
        file.flush();
    }

    /// Writes a line of the monitor's own, as standard error.
    pub fn note(&mut self, message: &str, now: Timestamp) {
        if let Some(file) = &mut self.file {
            let line = format!("ketch: {}\n", message.replace('\n', " "));
            file.message(Stream::Stderr, line.as_bytes(), &now.to_string());
            file.flush();
        }
    }

    /// Writes unfinished lines: the streams have ended.
    pub fn finish(&mut self, now: Timestamp) {
        let Some(file) = &mut self.file else { return };
        let time = now.to_string();
        self.stdout
            .finish(|message| file.message(Stream::Stdout, message, &time));
        self.stderr
            .finish(|message| file.message(Stream::Stderr, message, &time));
        file.flush();
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Rotation {
    max_bytes: Option<u64>,
    max_files: u32,
}

impl Rotation {
    fn parse(options: &BTreeMap<String, String>) -> Result<Self, LogError> {
        let mut rotation = Self {
            max_bytes: None,
            max_files: 1,
        };
        for (option, value) in options {
            let invalid = || LogError::Value {
                option: option.clone(),
                value: value.clone(),
            };
            match option.as_str() {
                "max-size" if value == "-1" => rotation.max_bytes = None,
                "max-size" => {
                    let bytes = ketch_spec::size::parse_bytes(value).map_err(|_| invalid())?;
                    rotation.max_bytes = Some(bytes).filter(|bytes| *bytes > 0);
                    rotation.max_bytes.ok_or_else(invalid)?;
                }
                "max-file" => {
                    rotation.max_files = value
                        .parse()
                        .ok()
                        .filter(|files| *files > 0)
                        .ok_or_else(invalid)?;
                }
                "compress" if value == "false" => {}
                _ => {
                    return Err(LogError::Option {
                        driver: "json-file".into(),
                        option: option.clone(),
                    });
                }
            }
        }
        Ok(rotation)
    }
}

#[derive(Debug)]
struct LogFile {
    path: PathBuf,
    file: File,
    size: u64,
    rotation: Rotation,
    buffer: Vec<u8>,
    buffered_messages: u64,
    lost_messages: u64,
}

impl LogFile {
    fn open(path: &Path, rotation: Rotation) -> Result<Self, LogError> {
        let file = open_file(path).map_err(|source| LogError::File {
            call: "open",
            path: path.into(),
            source,
        })?;
        let size = file
            .metadata()
            .map_err(|source| LogError::File {
                call: "stat",
                path: path.into(),
                source,
            })?
            .len();
        let path = path.to_owned();
        Ok(Self {
            path,
            file,
            size,
            rotation,
            buffer: Vec::new(),
            buffered_messages: 0,
            lost_messages: 0,
        })
    }

    fn message(&mut self, stream: Stream, message: &[u8], time: &str) {
        let max_bytes = self.rotation.max_bytes;
        let full = |bytes: u64| max_bytes.is_some_and(|max| bytes >= max);
        if full(self.size + self.buffer.len() as u64) {
            self.flush();
            if full(self.size) {
                self.rotate();
            }
        }
        if self.lost_messages > 0 && self.buffer.is_empty() {
            let note = format!(
                "ketch: {} messages could not be written to this log\n",
                self.lost_messages
            );
            log_line::encode(&mut self.buffer, Stream::Stderr, note.as_bytes(), time);
        }
        log_line::encode(&mut self.buffer, stream, message, time);
        self.buffered_messages += 1;
        if self.buffer.len() >= WRITE_BYTES {
            self.flush();
        }
    }

    fn flush(&mut self) {
        if self.buffer.is_empty() {
            return;
        }
        match self.file.write_all(&self.buffer) {
            Ok(()) => {
                self.size += self.buffer.len() as u64;
                self.lost_messages = 0;
            }
            Err(_) => {
                self.lost_messages += self.buffered_messages;
                // Part of it may have been written: half a line would make the file unreadable.
                let _ = self.file.set_len(self.size);
            }
        }
        self.buffered_messages = 0;
        self.buffer.clear();
        self.buffer.shrink_to(WRITE_BYTES);
    }

    /// `log` becomes `log.1`, `log.1` becomes `log.2`, …; with one file, it begins anew.
    fn rotate(&mut self) {
        if self.rotation.max_files == 1 {
            if self.file.set_len(0).is_ok() {
                self.size = 0;
            }
            return;
        }
        for number in (1..self.rotation.max_files).rev() {
            let from = if number == 1 {
                self.path.clone()
            } else {
                numbered(&self.path, number - 1)
            };
            // Not all of them exist yet; and where a rename fails, the file only grows longer than wished.
            let _ = std::fs::rename(from, numbered(&self.path, number));
        }
        if let Ok(file) = open_file(&self.path) {
            self.size = file.metadata().map(|metadata| metadata.len()).unwrap_or(0);
            self.file = file;
        }
    }
}

fn numbered(path: &Path, number: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    name.into()
}

fn open_file(path: &Path) -> std::io::Result<File> {
    let file = File::options()
        .append(true)
        .create(true)
        .mode(0o640)
        .open(path)?;
    // Output of programs may be secret: the umask must not widen this, nor an older file be wider.
    if file.metadata()?.permissions().mode() & 0o777 != 0o640 {
        file.set_permissions(std::fs::Permissions::from_mode(0o640))?;
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(options: &[(&str, &str)]) -> LogConfig {
        let options = options
            .iter()
            .map(|(name, value)| ((*name).into(), (*value).into()))
            .collect();
        LogConfig {
            driver: "json-file".into(),
            options,
        }
    }

    fn lines(path: &Path) -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(path).expect("log");
        text.lines()
            .map(|line| serde_json::from_str(line).expect("a JSON line"))
            .collect()
    }

    #[test]
    fn writes_dockers_format() {
        let directory = tempfile::tempdir().expect("tempdir");
        let path = directory.path().join("container.log");
        let mut log = Log::open(&path, &config(&[])).expect("open");
        let now: Timestamp = "2024-02-03T04:05:06.120000000Z".parse().expect("time");
        log.append(Stream::Stdout, b"one\ntw", now);
        log.append(Stream::Stderr, b"oops\n", now);
        log.append(Stream::Stdout, b"o\nrest", now);
        log.finish(now);
        let text = std::fs::read_to_string(&path).expect("log");
        let first = text.lines().next().expect("a line");
        assert_eq!(
            first,
            r#"{"log":"one\n","stream":"stdout","time":"2024-02-03T04:05:06.12Z"}"#
        );
        let messages: Vec<_> = lines(&path)
            .iter()
            .map(|line| line["log"].as_str().expect("text").to_owned())
            .collect();
        assert_eq!(messages, ["one\n", "oops\n", "two\n", "rest"]);
        assert_eq!(
            std::fs::metadata(&path).expect("stat").permissions().mode() & 0o777,
            0o640
        );
    }

    #[test]
    fn rotates_by_size_and_keeps_so_many_files() {
        let directory = tempfile::tempdir().expect("tempdir");
        let path = directory.path().join("container.log");
        let mut log =
            Log::open(&path, &config(&[("max-size", "1k"), ("max-file", "3")])).expect("open");
        for number in 0..100 {
            log.append(
                Stream::Stdout,
                format!("line {number}\n").as_bytes(),
                Timestamp::UNIX_EPOCH,
            );
        }
        let mut names: Vec<_> = std::fs::read_dir(directory.path())
            .expect("list")
            .map(|e| e.expect("entry").file_name())
            .collect();
        names.sort();
        assert_eq!(
            names,
            ["container.log", "container.log.1", "container.log.2"]
        );
        let last = lines(&path).last().expect("a line")["log"].clone();
        assert_eq!(last, "line 99\n");
        // Every file ends with a whole line, and the older one is directly before the newer one.
        let previous = lines(&numbered(&path, 1)).last().expect("a line")["log"]
            .as_str()
            .expect("text")
            .to_owned();
        let first = lines(&path)[0]["log"].as_str().expect("text").to_owned();
        let number = |text: &str| {
            text.trim_start_matches("line ")
                .trim()
                .parse::<u32>()
                .expect("number")
        };
        assert_eq!(number(&previous) + 1, number(&first));
        assert!(std::fs::metadata(numbered(&path, 1)).expect("stat").len() < 1024 + 100);
    }

    #[test]
    fn one_file_begins_anew() {
        let directory = tempfile::tempdir().expect("tempdir");
        let path = directory.path().join("container.log");
        let mut log = Log::open(&path, &config(&[("max-size", "200")])).expect("open");
        let lines_of_three: Vec<u8> = (0..3)
            .flat_map(|n| format!("line {n}\n").into_bytes())
            .collect();
        for _ in 0..20 {
            log.append(Stream::Stdout, &lines_of_three, Timestamp::UNIX_EPOCH);
        }
        assert!(std::fs::metadata(&path).expect("stat").len() < 300);
        assert_eq!(lines(&path).last().expect("a line")["log"], "line 2\n");
    }

    #[test]
    fn driver_none_keeps_nothing_and_others_are_refused_by_name() {
        let directory = tempfile::tempdir().expect("tempdir");
        let path = directory.path().join("container.log");
        let none = LogConfig {
            driver: "none".into(),
            options: BTreeMap::new(),
        };
        Log::open(&path, &none).expect("open").append(
            Stream::Stdout,
            b"x\n",
            Timestamp::UNIX_EPOCH,
        );
        assert!(!path.exists());
        let syslog = LogConfig {
            driver: "syslog".into(),
            options: BTreeMap::new(),
        };
        assert!(
            Log::open(&path, &syslog)
                .expect_err("refused")
                .to_string()
                .contains("syslog")
        );
        for options in [
            [("max-size", "0")],
            [("max-size", "x")],
            [("max-file", "0")],
            [("tag", "x")],
            [("compress", "true")],
        ] {
            let message = Log::open(&path, &config(&options))
                .expect_err("refused")
                .to_string();
            assert!(message.contains(options[0].0), "{message}");
        }
    }

    #[test]
    fn says_how_much_is_missing_after_a_full_disk() {
        let directory = tempfile::tempdir().expect("tempdir");
        let path = directory.path().join("container.log");
        let mut log = Log::open(&path, &config(&[])).expect("open");
        log.append(Stream::Stdout, b"first\n", Timestamp::UNIX_EPOCH);
        let file = log.file.as_mut().expect("file");
        let good = std::mem::replace(
            &mut file.file,
            File::options()
                .write(true)
                .open("/dev/full")
                .expect("/dev/full"),
        );
        log.append(Stream::Stdout, b"lost\nlost\n", Timestamp::UNIX_EPOCH);
        log.file.as_mut().expect("file").file = good;
        log.append(Stream::Stdout, b"later\n", Timestamp::UNIX_EPOCH);
        let messages: Vec<_> = lines(&path)
            .iter()
            .map(|line| line["log"].as_str().expect("text").to_owned())
            .collect();
        assert_eq!(
            messages,
            [
                "first\n",
                "ketch: 2 messages could not be written to this log\n",
                "later\n"
            ]
        );
    }
}
