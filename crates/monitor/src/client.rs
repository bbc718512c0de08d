//! One connection of a command: its request comes in, replies and frames go out, and neither buffer grows without
//! bound. Sockets never block here.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use ketch_engine::container::control::{AttachStreams, MAX_REQUEST_BYTES, Reply};
use ketch_engine::container::stream::{self, Frame};
use rustix::event::PollFlags;

use crate::log_line::Stream;

/// With more than this waiting to be sent to one attached client, its source is not read: the process feels the
/// back-pressure of its pipe, as under Docker.
const FULL_BYTES: usize = 64 * 1024;

/// A process whose streams clients join.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// The container's init.
    Init,
    /// An exec session, by its number.
    Session(u64),
}

/// What a client waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Awaited {
    /// The next exit.
    Exit,
    /// That the container is gone.
    Removal,
}

/// What a connection is for at the moment.
#[derive(Debug)]
pub enum Role {
    /// Its request is not whole yet.
    Asking,
    /// Its reply comes later.
    Waiting(Awaited),
    /// It has joined the streams of a process.
    Attached {
        /// Which.
        target: Target,
        /// Which streams.
        streams: AttachStreams,
    },
    /// Nothing follows after what waits to be sent.
    Leaving,
}

/// What came from a client.
#[derive(Debug)]
pub enum Incoming {
    /// A whole request line, without its end.
    Request(Vec<u8>),
    /// A frame of an attached client.
    Frame(Frame),
    /// Its sending direction has ended.
    End,
    /// It sent what no client sends.
    Nonsense(String),
}

/// A connection.
#[derive(Debug)]
pub struct Client {
    /// Its number, never used twice.
    pub id: u64,
    /// What it is for.
    pub role: Role,
    socket: UnixStream,
    input: Vec<u8>,
    input_ended: bool,
    output: Vec<u8>,
    sent: usize,
    gone: bool,
}

impl Client {
    /// A new connection; the socket must be non-blocking.
    pub fn new(id: u64, socket: UnixStream, role: Role) -> Self {
        Self {
            id,
            role,
            socket,
            input: Vec::new(),
            input_ended: false,
            output: Vec::new(),
            sent: 0,
            gone: false,
        }
    }

    /// What to poll its socket for. Input of a client whose target can't take more now (`paused`) is left where it is.
    pub fn interest(&self, paused: bool) -> PollFlags {
        let mut flags = PollFlags::empty();
        if !self.input_ended && !paused && !matches!(self.role, Role::Leaving) {
            flags |= PollFlags::IN;
        }
        if self.pending() > 0 {
            flags |= PollFlags::OUT;
        }
        flags
    }

    /// Whether it is over: it left, or it has got everything that was for it.
    pub fn is_over(&self) -> bool {
        self.gone || (matches!(self.role, Role::Leaving) && self.pending() == 0)
    }

    /// The other side is away.
    pub fn set_gone(&mut self) {
        self.gone = true;
    }

    /// Whether it receives `stream` of `target`.
    pub fn receives(&self, target: Target, stream: Stream) -> bool {
        match &self.role {
            Role::Attached {
                target: joined,
                streams,
            } if *joined == target && !self.gone => match stream {
                Stream::Stdout => streams.stdout,
                Stream::Stderr => streams.stderr,
            },
            _ => false,
        }
    }

    /// Whether it is attached to `target`, and whether with standard input.
    pub fn attached_to(&self, target: Target) -> Option<bool> {
        match &self.role {
            Role::Attached {
                target: joined,
                streams,
            } if *joined == target && !self.gone => Some(streams.stdin),
            _ => None,
        }
    }

    /// Whether no more output should be read for it.
    pub fn is_full(&self) -> bool {
        self.pending() > FULL_BYTES
    }

    /// Reads what has come, at most one buffer full.
    pub fn receive(&mut self, buffer: &mut [u8]) -> Vec<Incoming> {
        let mut incoming = Vec::new();
        match self.socket.read(buffer) {
            Ok(0) => {
                self.input_ended = true;
                incoming.push(Incoming::End);
            }
            Ok(count) => {
                self.input.extend_from_slice(&buffer[..count]);
                self.parse(&mut incoming);
            }
            Err(error)
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(_) => self.gone = true,
        }
        incoming
    }

    /// Takes what is whole out of bytes received earlier: frames may follow a request in one packet.
    pub fn parse(&mut self, incoming: &mut Vec<Incoming>) {
        match self.role {
            Role::Asking => self.parse_request(incoming),
            Role::Attached { .. } => loop {
                match stream::take_frame(&mut self.input) {
                    Ok(Some(frame)) => incoming.push(Incoming::Frame(frame)),
                    Ok(None) => break,
                    Err(error) => {
                        incoming.push(Incoming::Nonsense(error.to_string()));
                        break;
                    }
                }
            },
            Role::Waiting(_) | Role::Leaving => self.input.clear(),
        }
        if self.input.is_empty() {
            self.input = Vec::new();
        }
    }

    fn parse_request(&mut self, incoming: &mut Vec<Incoming>) {
        if let Some(end) = self.input.iter().position(|byte| *byte == b'\n') {
            let rest = self.input.split_off(end + 1);
            let mut line = std::mem::replace(&mut self.input, rest);
            line.pop();
            incoming.push(Incoming::Request(line));
        } else if self.input.len() > MAX_REQUEST_BYTES {
            self.input.clear();
            incoming.push(Incoming::Nonsense(format!(
                "a request has at most {MAX_REQUEST_BYTES} bytes"
            )));
        }
    }

    /// Sends a reply; what follows it is the caller's business.
    pub fn reply(&mut self, reply: &Reply) {
        match serde_json::to_vec(reply) {
            Ok(mut line) => {
                line.push(b'\n');
                self.send(&[&line]);
            }
            // Our own types always serialise; were it not so, the client must not wait for ever.
            Err(_) => self.gone = true,
        }
    }

    /// Sends a reply, the last thing this client gets.
    pub fn reply_and_leave(&mut self, reply: &Reply) {
        self.reply(reply);
        self.role = Role::Leaving;
    }

    /// Sends output of the process it is attached to.
    pub fn send_output(&mut self, stream: Stream, bytes: &[u8]) {
        let kind = match stream {
            Stream::Stdout => stream::STDOUT,
            Stream::Stderr => stream::STDERR,
        };
        for chunk in bytes.chunks(stream::MAX_FRAME_BYTES) {
            self.send(&[&stream::header(kind, chunk.len()), chunk]);
        }
    }

    /// Sends a frame.
    pub fn send_frame(&mut self, frame: &Frame) {
        let mut bytes = Vec::new();
        match stream::write_frame(&mut bytes, frame) {
            Ok(()) => self.send(&[&bytes]),
            Err(_) => self.gone = true,
        }
    }

    /// Sends what waits; to be called when the socket has room.
    pub fn flush(&mut self) {
        while self.pending() > 0 && !self.gone {
            match self.socket.write(&self.output[self.sent..]) {
                Ok(count) => self.sent += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => self.gone = true,
            }
        }
        self.output = Vec::new();
        self.sent = 0;
    }

    fn pending(&self) -> usize {
        self.output.len() - self.sent
    }

    /// Straight to the socket if nothing waits before it; what the socket does not take is kept.
    fn send(&mut self, parts: &[&[u8]]) {
        if self.gone {
            return;
        }
        let mut done = 0;
        if self.pending() == 0 {
            let slices: Vec<_> = parts
                .iter()
                .map(|part| std::io::IoSlice::new(part))
                .collect();
            match self.socket.write_vectored(&slices) {
                Ok(count) => done = count,
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                Err(_) => {
                    self.gone = true;
                    return;
                }
            }
        } else if self.sent > FULL_BYTES {
            self.output.drain(..self.sent);
            self.sent = 0;
        }
        for part in parts {
            let skip = done.min(part.len());
            done -= skip;
            self.output.extend_from_slice(&part[skip..]);
        }
    }
}

impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(role: Role) -> (Client, UnixStream) {
        let (ours, theirs) = UnixStream::pair().expect("socketpair");
        ours.set_nonblocking(true).expect("non-blocking");
        (Client::new(1, ours, role), theirs)
    }

    fn attached() -> Role {
        Role::Attached {
            target: Target::Init,
            streams: AttachStreams {
                stdin: true,
                stdout: true,
                stderr: false,
            },
        }
    }

    #[test]
    fn a_request_in_pieces_and_frames_after_it() {
        let (mut client, mut theirs) = pair(Role::Asking);
        let mut buffer = [0; 1024];
        theirs.write_all(b"\"Wa").expect("write");
        assert!(client.receive(&mut buffer).is_empty());
        theirs.write_all(b"it\"\n").expect("write");
        stream::write_frame(&mut theirs, &Frame::StdinEnd).expect("frame");
        let incoming = client.receive(&mut buffer);
        assert!(matches!(&incoming[..], [Incoming::Request(line)] if line == b"\"Wait\""));
        client.role = attached();
        let mut later = Vec::new();
        client.parse(&mut later);
        assert!(matches!(later[..], [Incoming::Frame(Frame::StdinEnd)]));
    }

    #[test]
    fn an_endless_request_is_refused() {
        let (mut client, mut theirs) = pair(Role::Asking);
        theirs.set_nonblocking(true).expect("non-blocking");
        let mut buffer = vec![0; 1 << 16];
        let chunk = vec![b'x'; 1 << 16];
        for _ in 0..64 {
            let _ = theirs.write(&chunk);
            if let [Incoming::Nonsense(message)] = &client.receive(&mut buffer)[..] {
                assert!(message.contains("at most"));
                return;
            }
        }
        panic!("never refused");
    }

    #[test]
    fn output_arrives_in_order_and_a_slow_client_is_full() {
        let (mut client, theirs) = pair(attached());
        let chunk = vec![7u8; 16 * 1024];
        let mut frames = 0;
        while !client.is_full() {
            client.send_output(Stream::Stdout, &chunk);
            frames += 1;
            assert!(frames < 10_000, "never full");
        }
        assert!(client.interest(false).contains(PollFlags::OUT));
        let mut theirs = std::io::BufReader::new(theirs);
        for _ in 0..frames {
            client.flush();
            let frame = stream::read_frame(&mut theirs)
                .expect("read")
                .expect("a frame");
            assert_eq!(frame, Frame::Stdout(chunk.clone()));
        }
        assert!(!client.is_full() && !client.interest(false).contains(PollFlags::OUT));
    }

    #[test]
    fn a_client_that_left_is_over() {
        let (mut client, theirs) = pair(attached());
        drop(theirs);
        client.send_output(Stream::Stdout, b"x");
        assert!(client.is_over());
        let (mut leaving, _theirs) = pair(Role::Asking);
        leaving.reply_and_leave(&Reply::Ok);
        assert!(leaving.is_over());
    }

    #[test]
    fn receives_only_what_it_asked_for() {
        let (client, _theirs) = pair(attached());
        assert!(client.receives(Target::Init, Stream::Stdout));
        assert!(!client.receives(Target::Init, Stream::Stderr));
        assert!(!client.receives(Target::Session(1), Stream::Stdout));
        assert_eq!(client.attached_to(Target::Init), Some(true));
    }
}
