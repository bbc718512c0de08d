//! An attached session: our terminal or streams on one side, the frames of a container's process on the other. One
//! thread, one poll loop; everything in between is bounded.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use ketch_engine::container::state::ExitRecord;
use ketch_engine::container::stream::{Frame, MAX_FRAME_BYTES, take_frame, write_frame};
use ketch_spec::detach_keys::DetachFilter;
use ketch_sys::poll::SignalFd;
use ketch_sys::pty::RawMode;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use crate::terminal;

/// Typed bytes that wait for the container: beyond this our standard input is left alone.
const MAX_OUTGOING: usize = 4 * MAX_FRAME_BYTES;
/// Bytes read at once.
const READ_BYTES: usize = 32 * 1024;

const SIGHUP: i32 = 1;
const SIGINT: i32 = 2;
const SIGQUIT: i32 = 3;
const SIGTERM: i32 = 15;
const SIGWINCH: i32 = 28;
/// Signals that end us, unless they are passed on.
const ENDING: [i32; 4] = [SIGHUP, SIGINT, SIGQUIT, SIGTERM];
/// Signals passed on besides: USR1, USR2, ALRM, CONT, TSTP, and the I/O and power ones. Not CHLD, PIPE and URG,
/// which are ours, and not those that report our own faults.
const PASSED: [i32; 9] = [10, 12, 14, 18, 20, 24, 25, 29, 30];

/// What kind of session it is.
pub struct Options {
    /// The process has a terminal.
    pub tty: bool,
    /// Our standard input goes to it.
    pub stdin: bool,
    /// Our signals go to it.
    pub proxy_signals: bool,
    /// The sequence that leaves it; empty for none. Counts with a terminal only.
    pub detach_keys: Vec<u8>,
    /// Send the terminal's size at once, twice and different, so that programs draw anew.
    pub redraw: bool,
}

/// How a session ended.
#[derive(Debug)]
pub enum Ended {
    /// The process has ended.
    Exited(ExitRecord),
    /// The user typed the detach sequence.
    Detached,
    /// This signal is for us.
    Signalled(i32),
    /// The other side went away without telling the end.
    Lost,
}

/// Signals caught from before the container starts, so that none is lost in between.
pub struct Prepared {
    options: Options,
    signals: Option<SignalFd>,
}

impl Prepared {
    /// Catches the signals that the session wants.
    ///
    /// # Errors
    /// Those of signalfd.
    pub fn new(options: Options) -> io::Result<Self> {
        let mut wanted = Vec::new();
        if options.proxy_signals {
            wanted.extend(ENDING.iter().chain(&PASSED));
        } else if options.tty {
            wanted.extend(ENDING);
        }
        if options.tty {
            wanted.push(SIGWINCH);
        }
        let signals = if wanted.is_empty() {
            None
        } else {
            Some(SignalFd::new(&wanted).map_err(system)?)
        };
        Ok(Self { options, signals })
    }

    /// Runs the session on `stream` until it ends.
    ///
    /// # Errors
    /// Our own standard output or the connection failed.
    pub fn run(self, stream: UnixStream) -> io::Result<Ended> {
        let stdin = io::stdin();
        let raw = if self.options.tty && self.options.stdin && rustix::termios::isatty(&stdin) {
            Some(RawMode::enter(stdin.as_fd()).map_err(system)?)
        } else {
            None
        };
        if raw.is_some() {
            restore_on_panic();
        }
        stream.set_nonblocking(true)?;
        let filter = DetachFilter::new(if self.options.tty {
            self.options.detach_keys
        } else {
            Vec::new()
        });
        let mut session = Session {
            stream,
            stdin_open: self.options.stdin,
            filter,
            proxy_signals: self.options.proxy_signals,
            signals: self.signals,
            outgoing: Vec::new(),
            incoming: Vec::new(),
            exit: None,
        };
        if self.options.redraw && self.options.tty {
            session.redraw();
        }
        let ended = session.run();
        drop(raw);
        ended
    }
}

/// A panic ends the program without running destructors in release builds: give the terminal back first.
fn restore_on_panic() {
    let Ok(before) = rustix::termios::tcgetattr(io::stdin()) else {
        return;
    };
    let mut cooked = before;
    // What raw mode took away; the exact mode before is restored on all regular ways out.
    cooked.local_modes |= rustix::termios::LocalModes::ECHO
        | rustix::termios::LocalModes::ICANON
        | rustix::termios::LocalModes::ISIG
        | rustix::termios::LocalModes::IEXTEN;
    cooked.input_modes |= rustix::termios::InputModes::ICRNL;
    cooked.output_modes |= rustix::termios::OutputModes::OPOST;
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        let _ =
            rustix::termios::tcsetattr(io::stdin(), rustix::termios::OptionalActions::Now, &cooked);
        hook(info);
    }));
}

struct Session {
    stream: UnixStream,
    stdin_open: bool,
    filter: DetachFilter,
    proxy_signals: bool,
    signals: Option<SignalFd>,
    outgoing: Vec<u8>,
    incoming: Vec<u8>,
    exit: Option<ExitRecord>,
}

impl Session {
    fn run(&mut self) -> io::Result<Ended> {
        loop {
            self.send()?;
            let ready = self.wait()?;
            if ready.signals
                && let Some(ended) = self.on_signals()?
            {
                return Ok(ended);
            }
            if ready.stream
                && let Some(ended) = self.on_stream()?
            {
                return Ok(ended);
            }
            if ready.stdin && self.on_stdin()? {
                self.send()?;
                return Ok(Ended::Detached);
            }
        }
    }

    fn wait(&self) -> io::Result<Ready> {
        let stdin = io::stdin();
        let mut stream_flags = PollFlags::IN;
        if !self.outgoing.is_empty() {
            stream_flags |= PollFlags::OUT;
        }
        let mut fds = vec![PollFd::new(&self.stream, stream_flags)];
        let signals_at = self.signals.as_ref().map(|signals| {
            fds.push(PollFd::from_borrowed_fd(signals.as_fd(), PollFlags::IN));
            fds.len() - 1
        });
        let stdin_at = (self.stdin_open && self.outgoing.len() < MAX_OUTGOING).then(|| {
            fds.push(PollFd::new(&stdin, PollFlags::IN));
            fds.len() - 1
        });
        match poll(&mut fds, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let readable = PollFlags::IN | PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL;
        let is_ready =
            |at: Option<usize>| at.is_some_and(|at| fds[at].revents().intersects(readable));
        Ok(Ready {
            stream: is_ready(Some(0)),
            signals: is_ready(signals_at),
            stdin: is_ready(stdin_at),
        })
    }

    /// Writes what waits, as far as the other side takes it.
    fn send(&mut self) -> io::Result<()> {
        while !self.outgoing.is_empty() {
            match (&self.stream).write(&self.outgoing) {
                Ok(0) => return Ok(()),
                Ok(count) => drop(self.outgoing.drain(..count)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // The process has ended: what is left to read tells how.
                Err(error) if is_gone(&error) => self.outgoing.clear(),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn queue(&mut self, frame: &Frame) {
        // A frame of bounded size to memory has no way to fail.
        let _ = write_frame(&mut self.outgoing, frame);
    }

    fn on_stream(&mut self) -> io::Result<Option<Ended>> {
        let mut buffer = [0u8; READ_BYTES];
        let count = match (&self.stream).read(&mut buffer) {
            Ok(count) => count,
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                ) =>
            {
                return Ok(None);
            }
            Err(error) if is_gone(&error) => 0,
            Err(error) => return Err(error),
        };
        if count == 0 {
            return Ok(Some(self.exit.take().map_or(Ended::Lost, Ended::Exited)));
        }
        self.incoming.extend_from_slice(&buffer[..count]);
        while let Some(frame) = take_frame(&mut self.incoming)? {
            match frame {
                Frame::Stdout(bytes) => write_all(io::stdout().as_fd(), &bytes)?,
                // A standard error that is gone must not end the session.
                Frame::Stderr(bytes) => drop(write_all(io::stderr().as_fd(), &bytes)),
                Frame::Exit(record) => self.exit = Some(record),
                Frame::Stdin(_) | Frame::StdinEnd | Frame::Resize { .. } | Frame::Signal(_) => {
                    return Err(io::Error::new(
                        io::ErrorKind::InvalidData,
                        "the monitor sent a client's frame",
                    ));
                }
            }
        }
        Ok(self.exit.take().map(Ended::Exited))
    }

    /// Reads standard input; true if the user detached.
    fn on_stdin(&mut self) -> io::Result<bool> {
        let mut buffer = [0u8; READ_BYTES];
        match rustix::io::read(io::stdin(), &mut buffer) {
            Ok(0) => {
                self.stdin_open = false;
                self.queue(&Frame::StdinEnd);
            }
            Ok(count) => {
                let (send, detached) = self.filter.feed(&buffer[..count]);
                if !send.is_empty() {
                    self.queue(&Frame::Stdin(send));
                }
                return Ok(detached);
            }
            Err(Errno::INTR | Errno::AGAIN) => {}
            // A terminal that hung up, or one that another process group has: no more input.
            Err(Errno::IO | Errno::BADF) => {
                self.stdin_open = false;
                self.queue(&Frame::StdinEnd);
            }
            Err(errno) => return Err(errno.into()),
        }
        Ok(false)
    }

    fn on_signals(&mut self) -> io::Result<Option<Ended>> {
        while let Some(signal) = self
            .signals
            .as_ref()
            .map(SignalFd::read)
            .transpose()
            .map_err(system)?
            .flatten()
        {
            match signal {
                SIGWINCH => self.resize(terminal::session_size()),
                _ if self.proxy_signals => self.queue(&Frame::Signal(signal)),
                _ => return Ok(Some(Ended::Signalled(signal))),
            }
        }
        Ok(None)
    }

    fn resize(&mut self, size: Option<(u16, u16)>) {
        if let Some((rows, columns)) = size {
            self.queue(&Frame::Resize { rows, columns });
        }
    }

    fn redraw(&mut self) {
        if let Some((rows, columns)) = terminal::session_size() {
            self.resize(Some((rows.saturating_add(1), columns.saturating_add(1))));
            self.resize(Some((rows, columns)));
        }
    }
}

struct Ready {
    stream: bool,
    signals: bool,
    stdin: bool,
}

/// A failed system call as an io error.
fn system(error: ketch_sys::Error) -> io::Error {
    io::Error::new(io::Error::from(error.errno).kind(), error)
}

fn is_gone(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
    )
}

/// Writes everything, also to a stream that someone has made non-blocking.
fn write_all(stream: BorrowedFd<'_>, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::write(stream, bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                let _ = poll(
                    &mut [PollFd::from_borrowed_fd(stream, PollFlags::OUT)],
                    None,
                );
            }
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

/// What is told about a session whose monitor went away.
pub fn lost_message(container: &str, run_root: &Path) -> String {
    format!(
        "the monitor of {container} went away (its run root is {})",
        run_root.display()
    )
}
