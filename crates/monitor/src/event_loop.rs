//! The one loop: every descriptor the monitor waits for, and what happens when one is ready.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Instant;

use jiff::Timestamp;
use ketch_engine::{Error, ErrorKind, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::client::{Client, Incoming, Role, Target};
use crate::log_line::Stream;
use crate::monitor::Monitor;
use crate::process_streams::{Output, ProcessStreams};
use crate::session::exit_record;

/// Something the loop waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    Signals,
    Listener,
    Client(u64),
    Init,
    Session(u64),
    Output(Target, Stream),
    Input(Target),
    OutOfMemory,
    Names,
}

/// Descriptors of one turn.
#[derive(Default)]
struct Wanted<'a> {
    sources: Vec<Source>,
    descriptors: Vec<PollFd<'a>>,
}

impl<'a> Wanted<'a> {
    fn add(&mut self, source: Source, descriptor: BorrowedFd<'a>, flags: PollFlags) {
        self.sources.push(source);
        self.descriptors
            .push(PollFd::from_borrowed_fd(descriptor, flags));
    }

    fn add_streams(&mut self, target: Target, streams: &'a ProcessStreams, full: bool) {
        for stream in [Stream::Stdout, Stream::Stderr] {
            if let Some(source) = streams.source(stream).filter(|_| !full) {
                self.add(Source::Output(target, stream), source, PollFlags::IN);
            }
        }
        if let Some(sink) = streams.thirsty() {
            self.add(Source::Input(target), sink, PollFlags::OUT);
        }
    }
}

impl Monitor {
    /// One turn: waits for something, at most until `until`, and deals with all that is ready.
    ///
    /// # Errors
    /// If waiting itself fails: nothing can be supervised then.
    pub fn turn(&mut self, until: Option<Instant>) -> Result<()> {
        for (source, flags) in self.wait(until)? {
            self.dispatch(source, flags);
        }
        self.timers(Instant::now());
        for client in self.control.take_over() {
            self.client_left(&client);
        }
        Ok(())
    }

    fn wait(&self, until: Option<Instant>) -> Result<Vec<(Source, PollFlags)>> {
        let mut wanted = self.wanted();
        let timeout = until.map(|until| {
            let left = until.saturating_duration_since(Instant::now());
            // A moment longer than asked for is right, a moment shorter would spin.
            Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: i64::from(left.subsec_nanos()),
            }
        });
        match poll(&mut wanted.descriptors, timeout.as_ref()) {
            Ok(_) => {}
            Err(Errno::INTR) => return Ok(Vec::new()),
            Err(errno) => {
                return Err(Error::caused(
                    ErrorKind::Internal,
                    "cannot wait for events",
                    &errno,
                ));
            }
        }
        let ready = wanted
            .sources
            .iter()
            .zip(&wanted.descriptors)
            .filter(|(_, found)| !found.revents().is_empty());
        Ok(ready
            .map(|(source, found)| (*source, found.revents()))
            .collect())
    }

    fn wanted(&self) -> Wanted<'_> {
        let mut wanted = Wanted::default();
        wanted.add(Source::Signals, self.signals.as_fd(), PollFlags::IN);
        if self.control.has_room() {
            wanted.add(Source::Listener, self.control.as_fd(), PollFlags::IN);
        }
        for client in self.control.clients() {
            wanted.add(
                Source::Client(client.id),
                client.as_fd(),
                client.interest(self.is_input_full(client)),
            );
        }
        let Some(run) = &self.run else { return wanted };
        if run.ended.is_none() {
            wanted.add(Source::Init, run.made.container().pidfd(), PollFlags::IN);
        }
        wanted.add_streams(
            Target::Init,
            &run.streams,
            self.control.is_full(Target::Init),
        );
        for session in &run.sessions {
            let target = Target::Session(session.id);
            wanted.add(Source::Session(session.id), session.pidfd(), PollFlags::IN);
            wanted.add_streams(target, &session.streams, self.control.is_full(target));
        }
        if let Some(descriptor) = run.kills.descriptor() {
            wanted.add(Source::OutOfMemory, descriptor, PollFlags::IN);
        }
        if let Some(names) = run.made.names() {
            wanted.add(Source::Names, names.descriptor(), PollFlags::IN);
        }
        wanted
    }

    fn is_input_full(&self, client: &Client) -> bool {
        let (Role::Attached { target, .. }, Some(run)) = (&client.role, &self.run) else {
            return false;
        };
        match target {
            Target::Init => run.streams.is_full(),
            Target::Session(id) => run
                .sessions
                .iter()
                .any(|session| session.id == *id && session.streams.is_full()),
        }
    }

    fn dispatch(&mut self, source: Source, flags: PollFlags) {
        match source {
            Source::Signals => self.own_signals(),
            Source::Listener => self.control.accept(),
            Source::Client(id) => self.client_ready(id, flags),
            Source::Init => self.init_ready(),
            Source::Session(id) => self.session_ready(id),
            Source::Output(target, stream) => drop(self.pass_output(target, stream)),
            Source::Input(target) => {
                if let Some(streams) = self.streams(target) {
                    streams.write_pending();
                }
            }
            Source::OutOfMemory => self.out_of_memory(),
            Source::Names => self.answer_names(),
        }
    }

    /// The streams of a process, if it is still there.
    pub fn streams(&mut self, target: Target) -> Option<&mut ProcessStreams> {
        let run = self.run.as_mut()?;
        match target {
            Target::Init => Some(&mut run.streams),
            Target::Session(id) => run.session(id).map(|session| &mut session.streams),
        }
    }

    /// Reads once from a process and passes it on: to the log and to clients.
    pub fn pass_output(&mut self, target: Target, stream: Stream) -> Output {
        let Some(run) = self.run.as_mut() else {
            return Output::End;
        };
        let streams = match target {
            Target::Init => Some(&mut run.streams),
            Target::Session(id) => run
                .sessions
                .iter_mut()
                .find(|session| session.id == id)
                .map(|s| &mut s.streams),
        };
        let output = streams.map_or(Output::End, |streams| {
            streams.read(stream, &mut self.buffer)
        });
        let Output::Bytes(count) = output else {
            return output;
        };
        let bytes = &self.buffer[..count];
        match target {
            Target::Init => run.log.append(stream, bytes, Timestamp::now()),
            Target::Session(id) => {
                if let Some(session) = run.session(id) {
                    session.keep(bytes);
                }
            }
        }
        self.control.broadcast(target, stream, bytes);
        output
    }

    fn answer_names(&mut self) {
        let answered = self
            .run
            .as_mut()
            .map_or(Ok(()), |run| run.made.answer_names());
        if let Err(error) = answered {
            self.note(&error);
        }
    }

    fn own_signals(&mut self) {
        use rustix::process::Signal;
        while let Ok(Some(signal)) = self.signals.read() {
            // A hang-up says that a terminal is gone: ours never was one.
            if signal != Signal::HUP.as_raw() {
                self.stop_for_shutdown();
            }
        }
    }

    fn client_ready(&mut self, id: u64, flags: PollFlags) {
        let Some(client) = self.control.client(id) else {
            return;
        };
        if flags.contains(PollFlags::OUT) {
            client.flush();
        }
        let mut incoming = Vec::new();
        if flags.contains(PollFlags::IN) {
            incoming = client.receive(&mut self.buffer);
        } else if flags.intersects(PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL) {
            client.set_gone();
        }
        for message in incoming {
            self.incoming(id, message);
        }
    }

    fn incoming(&mut self, id: u64, message: Incoming) {
        match message {
            Incoming::Request(line) => {
                self.request(id, &line);
                // Frames may have come in the same packet.
                let mut later = Vec::new();
                if let Some(client) = self
                    .control
                    .client(id)
                    .filter(|c| matches!(c.role, Role::Attached { .. }))
                {
                    client.parse(&mut later);
                }
                for message in later {
                    self.incoming(id, message);
                }
            }
            Incoming::Frame(frame) => self.frame(id, frame),
            Incoming::Nonsense(reason) => self.refuse(id, &reason),
            Incoming::End => self.input_ended(id),
        }
    }

    fn init_ready(&mut self) {
        let Some(run) = self.run.as_mut() else { return };
        // An error cannot be: init is our child, and nobody else collects it.
        if let Ok(Some(exit)) = run.made.container_mut().try_wait() {
            run.ended = Some(exit);
        }
    }

    fn session_ready(&mut self, id: u64) {
        let Some(session) = self.run.as_mut().and_then(|run| run.session(id)) else {
            return;
        };
        if let Ok(Some(exit)) = session.process.try_wait() {
            self.session_ended(id, &exit_record(exit, Timestamp::now()));
        }
    }
}
