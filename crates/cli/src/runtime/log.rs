//! Where errors go: standard error, and the log file in the form that callers parse.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use jiff::Timestamp;

/// Form of a line of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// `time="…" level=error msg="…"`
    Text,
    /// `{"level":"error","msg":"…","time":"…"}`
    Json,
}

/// Where errors go.
#[derive(Debug)]
pub struct Log {
    file: Option<PathBuf>,
    format: Format,
}

impl Log {
    /// `file` None: standard error alone.
    pub fn new(file: Option<PathBuf>, format: Format) -> Self {
        Self {
            file: file.filter(|path| !path.as_os_str().is_empty()),
            format,
        }
    }

    /// The verb failed.
    pub fn error(&self, message: &str) {
        self.write("error", message);
        if self.file.is_some() {
            let _ = writeln!(io::stderr().lock(), "{message}");
        }
    }

    /// For those who look for mistakes.
    pub fn debug(&self, message: &str) {
        self.write("debug", message);
    }

    /// Something went wrong that does not make the verb fail.
    pub fn warn(&self, message: &str) {
        self.write("warning", message);
    }

    /// A log that cannot be written must not make the verb fail: standard error has the line instead, and the reason.
    fn write(&self, level: &str, message: &str) {
        let line = line(self.format, level, message, &Timestamp::now());
        let Some(path) = &self.file else {
            let _ = io::stderr().lock().write_all(line.as_bytes());
            return;
        };
        let opened = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o644)
            .open(path);
        if let Err(error) = opened.and_then(|mut file| file.write_all(line.as_bytes())) {
            let mut stderr = io::stderr().lock();
            let _ = stderr.write_all(line.as_bytes());
            let _ = writeln!(stderr, "write the log {}: {error}", path.display());
        }
    }
}

fn line(format: Format, level: &str, message: &str, time: &Timestamp) -> String {
    match format {
        Format::Text => format!("time=\"{time:.0}\" level={level} msg={message:?}\n"),
        Format::Json => {
            let time = format!("{time:.0}");
            let value = serde_json::json!({ "level": level, "msg": message, "time": time });
            format!("{value}\n")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_those_of_logrus() {
        let time = "2026-01-02T03:04:05.6Z".parse().unwrap();
        assert_eq!(
            line(Format::Json, "error", "a \"b\"", &time),
            "{\"level\":\"error\",\"msg\":\"a \\\"b\\\"\",\"time\":\"2026-01-02T03:04:05Z\"}\n"
        );
        assert_eq!(
            line(Format::Text, "warning", "a \"b\"", &time),
            "time=\"2026-01-02T03:04:05Z\" level=warning msg=\"a \\\"b\\\"\"\n"
        );
    }
}
