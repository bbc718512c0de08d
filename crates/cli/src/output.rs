//! Standard output and standard error: the only places where this program prints.

use std::io::{self, BufWriter, Write};

use crate::failure::Failure;

/// Buffered standard output for one command. Dropping it without [`Output::finish`] loses nothing but errors.
pub struct Output {
    writer: BufWriter<io::StdoutLock<'static>>,
}

impl Output {
    /// Takes standard output.
    pub fn new() -> Self {
        Self {
            writer: BufWriter::new(io::stdout().lock()),
        }
    }

    /// Writes `text` as it is.
    ///
    /// # Errors
    /// [`Failure::Stream`].
    pub fn text(&mut self, text: &str) -> Result<(), Failure> {
        self.writer
            .write_all(text.as_bytes())
            .map_err(Failure::stdout)
    }

    /// Writes a line.
    ///
    /// # Errors
    /// [`Failure::Stream`].
    pub fn line(&mut self, text: &str) -> Result<(), Failure> {
        self.text(text)?;
        self.text("\n")
    }

    /// Pushes out what is buffered.
    ///
    /// # Errors
    /// [`Failure::Stream`].
    pub fn flush(&mut self) -> Result<(), Failure> {
        self.writer.flush().map_err(Failure::stdout)
    }

    /// Pushes out what is buffered; the last call.
    ///
    /// # Errors
    /// [`Failure::Stream`].
    pub fn finish(mut self) -> Result<(), Failure> {
        self.flush()
    }
}

/// Prints one line at once: the common case of a command that tells one name.
///
/// # Errors
/// [`Failure::Stream`].
pub fn print_line(text: &str) -> Result<(), Failure> {
    let mut output = Output::new();
    output.line(text)?;
    output.finish()
}

/// Prints `text` to standard output.
///
/// # Errors
/// [`Failure::Stream`].
pub fn print(text: &str) -> Result<(), Failure> {
    let mut output = Output::new();
    output.text(text)?;
    output.finish()
}

/// Prints one line to standard error. A standard error that is gone is nobody to tell.
pub fn warn(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}
