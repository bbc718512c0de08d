//! Our ends of the standard streams of one process, init or exec session: pipes, or one terminal.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use ketch_sys::pty;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};

use crate::log_line::Stream;

/// With more than this waiting for a process's standard input, clients are not read.
const FULL_BYTES: usize = 64 * 1024;

/// Which streams a process gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wiring {
    /// A terminal; the child makes it and sends the other end.
    Terminal,
    /// Pipes; without `stdin`, standard input is /dev/null. Without `output`, output is /dev/null too.
    Pipes {
        /// Standard input is a pipe.
        stdin: bool,
        /// Standard output and error are pipes.
        output: bool,
    },
}

/// The child's ends.
#[derive(Debug)]
pub struct ChildEnds {
    /// Standard input.
    pub stdin: OwnedFd,
    /// Standard output.
    pub stdout: OwnedFd,
    /// Standard error.
    pub stderr: OwnedFd,
}

/// What a read gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// So many bytes.
    Bytes(usize),
    /// Nothing at the moment.
    Nothing,
    /// Every writer has left.
    End,
}

/// Our ends.
#[derive(Debug, Default)]
pub struct ProcessStreams {
    console: Option<OwnedFd>,
    stdin: Option<OwnedFd>,
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
    pending: Vec<u8>,
    end_after_pending: bool,
}

/// Makes the streams of `wiring`: ours, and the child's unless it makes a terminal for itself.
///
/// # Errors
/// Those of pipe(2), and of opening /dev/null.
pub fn make(wiring: Wiring) -> Result<(ProcessStreams, Option<ChildEnds>), Errno> {
    let Wiring::Pipes { stdin, output } = wiring else {
        return Ok((ProcessStreams::default(), None));
    };
    let mut ours = ProcessStreams::default();
    let null = || rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty());
    let child_stdin = if stdin {
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
        set_nonblocking(&writer)?;
        ours.stdin = Some(writer);
        reader
    } else {
        null()?
    };
    let out = |ours: &mut Option<OwnedFd>| -> Result<OwnedFd, Errno> {
        if !output {
            return null();
        }
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
        set_nonblocking(&reader)?;
        *ours = Some(reader);
        Ok(writer)
    };
    let child = ChildEnds {
        stdin: child_stdin,
        stdout: out(&mut ours.stdout)?,
        stderr: out(&mut ours.stderr)?,
    };
    Ok((ours, Some(child)))
}

impl ProcessStreams {
    /// Takes the terminal that the child has made.
    ///
    /// # Errors
    /// Those of fcntl(2).
    pub fn set_console(&mut self, console: OwnedFd) -> Result<(), Errno> {
        set_nonblocking(&console)?;
        self.console = Some(console);
        Ok(())
    }

    /// Sets the terminal's size, if there is one.
    ///
    /// # Errors
    /// Those of `TIOCSWINSZ`.
    pub fn resize(&self, rows: u16, columns: u16) -> ketch_sys::Result<()> {
        self.console.as_ref().map_or(Ok(()), |console| {
            pty::set_size(console, pty::Size { rows, columns })
        })
    }

    /// The descriptor that `stream` is read from; None once it has ended. A terminal's output is standard output.
    pub fn source(&self, stream: Stream) -> Option<BorrowedFd<'_>> {
        match stream {
            Stream::Stdout => self.console.as_ref().or(self.stdout.as_ref()),
            Stream::Stderr => self.stderr.as_ref(),
        }
        .map(AsFd::as_fd)
    }

    /// The descriptor of standard input, while bytes wait for it.
    pub fn thirsty(&self) -> Option<BorrowedFd<'_>> {
        self.sink().filter(|_| !self.pending.is_empty())
    }

    /// Whether no more input should be taken from clients now.
    pub fn is_full(&self) -> bool {
        self.pending.len() > FULL_BYTES
    }

    /// Reads once; an ended stream is closed.
    pub fn read(&mut self, stream: Stream, buffer: &mut [u8]) -> Output {
        let Some(source) = self.source(stream) else {
            return Output::End;
        };
        loop {
            return match rustix::io::read(source, &mut *buffer) {
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => Output::Nothing,
                // A terminal whose last user has left says EIO.
                Ok(0) | Err(_) => {
                    self.close(stream);
                    Output::End
                }
                Ok(count) => Output::Bytes(count),
            };
        }
    }

    /// Takes input for the process.
    pub fn feed(&mut self, bytes: &[u8]) {
        if self.sink().is_some() && !self.end_after_pending {
            self.pending.extend_from_slice(bytes);
            self.write_pending();
        }
    }

    /// Ends standard input after what was fed. A terminal's input has no end but its own end-of-file character.
    pub fn end_input(&mut self) {
        self.end_after_pending = self.console.is_none();
        self.write_pending();
    }

    /// Writes what waits, as far as it goes.
    pub fn write_pending(&mut self) {
        while let Some(sink) = self.thirsty() {
            match rustix::io::write(sink, &self.pending) {
                Ok(count) => drop(self.pending.drain(..count)),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return,
                Err(_) => {
                    // The process has closed its standard input: what comes is for nobody.
                    self.pending.clear();
                    self.stdin = None;
                }
            }
        }
        self.pending.shrink_to(1024);
        if self.end_after_pending {
            self.stdin = None;
        }
    }

    fn sink(&self) -> Option<BorrowedFd<'_>> {
        self.console
            .as_ref()
            .or(self.stdin.as_ref())
            .map(AsFd::as_fd)
    }

    fn close(&mut self, stream: Stream) {
        match stream {
            Stream::Stdout => (self.console, self.stdout) = (None, None),
            Stream::Stderr => self.stderr = None,
        }
    }
}

fn set_nonblocking(descriptor: &OwnedFd) -> Result<(), Errno> {
    let flags = rustix::fs::fcntl_getfl(descriptor)?;
    rustix::fs::fcntl_setfl(descriptor, flags | OFlags::NONBLOCK)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn output_is_read_to_its_end() {
        let (mut ours, child) = make(Wiring::Pipes {
            stdin: false,
            output: true,
        })
        .expect("pipes");
        let child = child.expect("ends");
        let mut buffer = [0; 64];
        assert_eq!(ours.read(Stream::Stdout, &mut buffer), Output::Nothing);
        File::from(child.stdout).write_all(b"hello").expect("write");
        assert_eq!(ours.read(Stream::Stdout, &mut buffer), Output::Bytes(5));
        assert_eq!(ours.read(Stream::Stdout, &mut buffer), Output::End);
        assert!(ours.source(Stream::Stdout).is_none() && ours.source(Stream::Stderr).is_some());
    }

    #[test]
    fn input_waits_in_bounds_and_ends_after_what_was_fed() {
        let (mut ours, child) = make(Wiring::Pipes {
            stdin: true,
            output: false,
        })
        .expect("pipes");
        let mut reader = File::from(child.expect("ends").stdin);
        let mut fed = 0;
        while !ours.is_full() {
            ours.feed(&[1; 10_000]);
            fed += 10_000;
        }
        ours.end_input();
        assert!(ours.thirsty().is_some());
        let mut read = 0;
        let mut buffer = [0; 8192];
        loop {
            match reader.read(&mut buffer).expect("read") {
                0 => break,
                count => read += count,
            }
            ours.write_pending();
        }
        assert_eq!(read, fed);
    }

    #[test]
    fn input_for_a_process_that_closed_it_is_dropped() {
        let (mut ours, child) = make(Wiring::Pipes {
            stdin: true,
            output: false,
        })
        .expect("pipes");
        drop(child);
        ours.feed(b"x");
        assert!(ours.thirsty().is_none());
    }
}
