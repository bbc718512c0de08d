//! Output of containers, line by line, each with its container's name in front.

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use ketch_engine::container::LogLine;
use ketch_engine::container::logs::LogStream;

use crate::failure::Failure;

/// The longest line that is held back until its end comes.
const MAX_LINE: usize = 1 << 20;
/// Colours of names: cyan, yellow, green, magenta, blue, and their bright forms.
const COLOURS: [&str; 10] = [
    "36", "33", "32", "35", "34", "36;1", "33;1", "32;1", "35;1", "34;1",
];

/// How lines are shown.
#[derive(Debug, Clone, Default)]
pub struct Look {
    /// Columns of the longest name.
    pub width: usize,
    /// Names in front.
    pub prefix: bool,
    /// Colours.
    pub colours: bool,
    /// Times in front.
    pub timestamps: bool,
}

/// Prints lines of several containers, whole line by whole line.
pub struct Printer {
    look: Look,
    gone: AtomicBool,
}

impl Printer {
    /// With a look.
    pub fn new(look: Look) -> Self {
        Self {
            look,
            gone: AtomicBool::new(false),
        }
    }

    /// The reader of our output has gone: there is nothing more to print.
    pub fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Relaxed)
    }

    /// The lines of one container, number `index` of all.
    pub fn source(&self, name: &str, index: usize) -> Source<'_> {
        Source {
            printer: self,
            prefix: self.look.front(name, index),
            held: [Vec::new(), Vec::new()],
        }
    }

    /// Prints a line of our own.
    ///
    /// # Errors
    /// Standard output.
    pub fn note(&self, text: &str) -> Result<(), Failure> {
        self.write(LogStream::Stdout, format!("{text}\n").as_bytes())
    }

    fn write(&self, stream: LogStream, bytes: &[u8]) -> Result<(), Failure> {
        let written = match stream {
            LogStream::Stdout => {
                let mut out = io::stdout().lock();
                out.write_all(bytes).and_then(|()| out.flush())
            }
            LogStream::Stderr => io::stderr().lock().write_all(bytes),
        };
        written.map_err(|source| {
            self.gone.store(true, Ordering::Relaxed);
            Failure::stdout(source)
        })
    }
}

impl Look {
    fn front(&self, name: &str, index: usize) -> String {
        if !self.prefix {
            return String::new();
        }
        let front = format!("{name:width$}  | ", width = self.width);
        match self.colours {
            true => format!("\x1b[{}m{front}\x1b[0m", COLOURS[index % COLOURS.len()]),
            false => front,
        }
    }
}

/// The lines of one container.
pub struct Source<'a> {
    printer: &'a Printer,
    prefix: String,
    /// What has no end of line yet, of standard output and standard error.
    held: [Vec<u8>; 2],
}

impl Source<'_> {
    /// Prints what a message completes.
    ///
    /// # Errors
    /// Our own streams.
    pub fn message(&mut self, line: &LogLine) -> Result<(), Failure> {
        let at = usize::from(line.stream == LogStream::Stderr);
        let mut text = std::mem::take(&mut self.held[at]);
        if text.is_empty() && self.printer.look.timestamps {
            let stamp = line.time.strftime("%Y-%m-%dT%H:%M:%S.%9fZ ").to_string();
            text.extend_from_slice(stamp.as_bytes());
        }
        text.extend_from_slice(&line.bytes);
        if line.bytes.ends_with(b"\n") || text.len() > MAX_LINE {
            return self.print(line.stream, &text);
        }
        self.held[at] = text;
        Ok(())
    }

    /// Prints what was held back.
    ///
    /// # Errors
    /// Our own streams.
    pub fn finish(&mut self) -> Result<(), Failure> {
        for (at, stream) in [LogStream::Stdout, LogStream::Stderr]
            .into_iter()
            .enumerate()
        {
            let held = std::mem::take(&mut self.held[at]);
            if !held.is_empty() {
                self.print(stream, &held)?;
            }
        }
        Ok(())
    }

    fn print(&self, stream: LogStream, text: &[u8]) -> Result<(), Failure> {
        let text = text.strip_suffix(b"\n").unwrap_or(text);
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        let mut whole = Vec::with_capacity(self.prefix.len() + text.len() + 1);
        whole.extend_from_slice(self.prefix.as_bytes());
        whole.extend_from_slice(text);
        whole.push(b'\n');
        self.printer.write(stream, &whole)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_padded_to_the_longest() {
        let look = Look {
            width: 7,
            prefix: true,
            ..Look::default()
        };
        assert_eq!(look.front("web-1", 0), "web-1    | ");
        let coloured = Look {
            colours: true,
            ..look
        };
        assert_eq!(coloured.front("web-1", 11), "\x1b[33mweb-1    | \x1b[0m");
        assert_eq!(Look::default().front("web-1", 0), "");
    }
}
