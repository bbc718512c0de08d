//! `-o FILE`: what is there is whole, or nothing is.

use std::io::{self, BufWriter, Write};
use std::path::Path;

use ketch_sys::fs::UnnamedFile;
use rustix::fs::Mode;

use crate::failure::Failure;

/// Bytes of one write.
const BUFFER_BYTES: usize = 1 << 17;

/// Has `produce` write to the file at `path`, which appears, or is replaced, when all of it is there: an interrupted
/// command leaves nothing. A pipe or a device is written as it is.
///
/// # Errors
/// A folder that is not there, in Docker's words after `failed`; the file's; what `produce` says.
pub fn write(
    path: &Path,
    failed: &str,
    produce: impl FnOnce(&mut dyn Write) -> Result<(), Failure>,
) -> Result<(), Failure> {
    check(path, failed)?;
    let failure = |action, source| Failure::File {
        action,
        path: path.to_owned(),
        source,
    };
    if path.metadata().is_ok_and(|found| !found.is_file()) {
        let mut options = std::fs::OpenOptions::new();
        let file = options
            .write(true)
            .open(path)
            .map_err(|e| failure("open", e))?;
        let mut out = BufWriter::with_capacity(BUFFER_BYTES, file);
        produce(&mut out)?;
        return out.flush().map_err(|source| failure("write", source));
    }
    let system = |error: ketch_sys::Error| failure("create", error.errno.into());
    let mut file = UnnamedFile::create(path, Mode::from(0o600)).map_err(system)?;
    let mut out = BufWriter::with_capacity(BUFFER_BYTES, file.file());
    produce(&mut out)?;
    out.flush().map_err(|source| failure("write", source))?;
    drop(out);
    file.persist().map_err(system)
}

/// Has `produce` write to standard output, which must not be a terminal.
///
/// # Errors
/// A terminal, refused in Docker's words with `verb`; the stream's; what `produce` says.
pub fn write_stdout(
    verb: &str,
    produce: impl FnOnce(&mut dyn Write) -> Result<(), Failure>,
) -> Result<(), Failure> {
    if rustix::termios::isatty(io::stdout()) {
        return Err(Failure::usage(format!(
            "cowardly refusing to {verb} to a terminal. Use the -o flag or redirect"
        )));
    }
    let mut pipe = Pipe {
        stream: io::stdout().lock(),
        is_closed: false,
    };
    let mut out = BufWriter::with_capacity(BUFFER_BYTES, &mut pipe);
    let produced = produce(&mut out).and_then(|()| out.flush().map_err(Failure::stdout));
    drop(out.into_parts());
    if pipe.is_closed {
        // Whatever the failure is called on its way: the reader has gone, which is its right.
        return Err(Failure::stdout(io::ErrorKind::BrokenPipe.into()));
    }
    produced
}

/// Standard output that remembers whether its reader has gone.
struct Pipe<W> {
    stream: W,
    is_closed: bool,
}

impl<W> Pipe<W> {
    fn note<T>(&mut self, result: io::Result<T>) -> io::Result<T> {
        let gone = |error: &io::Error| error.kind() == io::ErrorKind::BrokenPipe;
        self.is_closed |= result.as_ref().is_err_and(gone);
        result
    }
}

impl<W: Write> Write for Pipe<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let result = self.stream.write(bytes);
        self.note(result)
    }

    fn flush(&mut self) -> io::Result<()> {
        let result = self.stream.flush();
        self.note(result)
    }
}

fn check(path: &Path, failed: &str) -> Result<(), Failure> {
    let reason = if path.is_dir() {
        "cannot write to a directory".to_owned()
    } else {
        match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() && !parent.is_dir() => format!(
                "invalid output path: directory {:?} does not exist",
                parent.display().to_string()
            ),
            _ => return Ok(()),
        }
    };
    Err(Failure::usage(format!("{failed}: {reason}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_command_leaves_the_old_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out");
        std::fs::write(&path, "old").unwrap();
        let failed = write(&path, "failed to save image", |out| {
            out.write_all(b"half").unwrap();
            Err(Failure::usage("no"))
        });
        assert_eq!(failed.unwrap_err().to_string(), "no");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "old");
        write(&path, "failed to save image", |out| {
            out.write_all(b"new").unwrap();
            Ok(())
        })
        .unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "new");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        let error = write(&dir.path().join("no/out"), "failed to save image", |_| {
            Ok(())
        });
        let text = error.unwrap_err().to_string();
        assert!(
            text.starts_with("failed to save image: invalid output path: directory \""),
            "{text}"
        );
        assert!(text.ends_with("/no\" does not exist"), "{text}");
    }
}
