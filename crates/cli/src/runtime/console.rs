//! The terminal of a process in the foreground: our own terminal in raw mode, and the container's, copied both ways.

use std::os::fd::{AsFd, OwnedFd};

use ketch_sys::Error as SysError;
use ketch_sys::pty::{self, RawMode};
use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;

use super::failure::Failure;

/// What was read and is to be written.
const BUFFER_BYTES: usize = 16 * 1024;

/// Writes of no more than this never block when poll(2) said that they would not.
const PIECE_BYTES: usize = 4096;

/// Both terminals.
pub struct Console {
    master: OwnedFd,
    /// Dropping it restores our terminal.
    _raw: Option<RawMode<'static>>,
    /// From our input to the container.
    input: Direction,
    /// From the container to our output.
    output: Direction,
}

/// One way.
#[derive(Default)]
struct Direction {
    waiting: Vec<u8>,
    closed: bool,
}

impl Direction {
    fn can_read(&self) -> bool {
        !self.closed && self.waiting.is_empty()
    }

    /// Reads what is there; an end or an error of the source closes it.
    fn read(&mut self, source: impl AsFd) {
        let mut bytes = vec![0; BUFFER_BYTES];
        match rustix::io::read(source, &mut bytes) {
            Ok(count @ 1..) => self.waiting.extend_from_slice(&bytes[..count]),
            Err(Errno::AGAIN | Errno::INTR) => {}
            // EIO: nobody has the terminal open any more.
            Ok(0) | Err(_) => self.closed = true,
        }
    }

    /// Writes a piece; a target that is gone takes no more.
    fn write(&mut self, target: impl AsFd) {
        let piece = self.waiting.len().min(PIECE_BYTES);
        match rustix::io::write(target, &self.waiting[..piece]) {
            Ok(count) => drop(self.waiting.drain(..count)),
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(_) => {
                self.waiting.clear();
                self.closed = true;
            }
        }
    }
}

/// What a poll can say is ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The container's terminal.
    Master,
    /// Our input.
    Input,
    /// Our output.
    Output,
}

impl Console {
    /// `master` is the container's terminal.
    pub fn new(master: OwnedFd) -> Result<Self, Failure> {
        rustix::io::ioctl_fionbio(&master, true)
            .map_err(|errno| SysError::new("ioctl FIONBIO", errno))?;
        let console = Self {
            master,
            // Input that is no terminal is copied all the same.
            _raw: RawMode::enter(rustix::stdio::stdin()).ok(),
            input: Direction::default(),
            output: Direction::default(),
        };
        console.resize();
        Ok(console)
    }

    /// Gives the container's terminal the size of ours.
    pub fn resize(&self) {
        if let Ok(size) = pty::size(rustix::stdio::stdin()) {
            // The container's end may be closed by now.
            let _ = pty::set_size(&self.master, size);
        }
    }

    /// What to wait for: reads, and writes that could not be finished.
    pub fn wanted(&self) -> Vec<(Side, PollFd<'_>)> {
        let mut wanted = Vec::with_capacity(3);
        let mut master = PollFlags::empty();
        master.set(PollFlags::IN, self.output.can_read());
        master.set(PollFlags::OUT, !self.input.waiting.is_empty());
        if !master.is_empty() {
            wanted.push((Side::Master, PollFd::new(&self.master, master)));
        }
        if self.input.can_read() {
            let stdin = PollFd::from_borrowed_fd(rustix::stdio::stdin(), PollFlags::IN);
            wanted.push((Side::Input, stdin));
        }
        if !self.output.waiting.is_empty() {
            let stdout = PollFd::from_borrowed_fd(rustix::stdio::stdout(), PollFlags::OUT);
            wanted.push((Side::Output, stdout));
        }
        wanted
    }

    /// Copies what is ready.
    pub fn copy(&mut self, side: Side) {
        match side {
            Side::Master => {
                if self.output.can_read() {
                    self.output.read(&self.master);
                }
                if !self.input.waiting.is_empty() {
                    self.input.write(&self.master);
                }
            }
            Side::Input => self.input.read(rustix::stdio::stdin()),
            Side::Output => self.output.write(rustix::stdio::stdout()),
        }
    }

    /// The child has ended: writes what it had said. Its descendants may still have the terminal; they are not waited
    /// for.
    pub fn drain(&mut self) {
        loop {
            while !self.output.waiting.is_empty() {
                self.output.write(rustix::stdio::stdout());
            }
            if self.output.closed {
                return;
            }
            self.output.read(&self.master);
            if self.output.waiting.is_empty() {
                return;
            }
        }
    }
}
