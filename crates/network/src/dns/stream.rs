//! A client's TCP connection: one question after another, each answered here or by a resolver over TCP.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::Instant;

use rustix::event::epoll;
use rustix::io::Errno;
use rustix::net::SocketType;

use super::message::{self, Code};
use super::upstream::connect;

/// The longest query; answers may have the 65,535 bytes of the protocol.
const MAX_QUERY_BYTES: usize = 4096;
/// Messages over TCP begin with their length in two bytes.
const LENGTH_BYTES: usize = 2;

/// A connection of a client, perhaps with one to a resolver.
#[derive(Debug)]
pub(super) struct Stream {
    client: Half,
    upstream: Option<Half>,
    /// What the resolver was asked.
    query: Vec<u8>,
    deadline: Instant,
}

/// One end of what we stand between.
#[derive(Debug)]
struct Half {
    socket: OwnedFd,
    received: Vec<u8>,
    to_send: Vec<u8>,
    ended: bool,
}

impl Half {
    /// The socket is watched for its edges: whoever hears of one goes on until the kernel says that it would block.
    fn new(socket: OwnedFd, epoll: &OwnedFd, token: u64) -> Option<Self> {
        let flags = epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::ET;
        epoll::add(epoll, &socket, epoll::EventData::new_u64(token), flags).ok()?;
        Some(Self {
            socket,
            received: Vec::new(),
            to_send: Vec::new(),
            ended: false,
        })
    }

    fn push(&mut self, message: &[u8]) {
        let Ok(length) = u16::try_from(message.len()) else {
            return;
        };
        self.to_send.extend(length.to_be_bytes());
        self.to_send.extend_from_slice(message);
    }

    /// The first whole message.
    fn pop(&mut self) -> Option<Vec<u8>> {
        let length = usize::from(u16::from_be_bytes(*self.received.first_chunk()?));
        let message = self
            .received
            .get(LENGTH_BYTES..LENGTH_BYTES + length)?
            .to_vec();
        self.received.drain(..LENGTH_BYTES + length);
        Some(message)
    }

    /// Sends and receives what can be. False: the connection is broken, or brings more than it may.
    fn pump(&mut self, max_bytes: usize) -> bool {
        while !self.to_send.is_empty() {
            match rustix::io::write(&self.socket, &self.to_send) {
                Ok(sent) => drop(self.to_send.drain(..sent)),
                // Not connected yet, or full.
                Err(Errno::AGAIN | Errno::NOTCONN | Errno::INPROGRESS) => break,
                Err(Errno::INTR) => {}
                Err(_) => return false,
            }
        }
        let mut buffer = [0; 4096];
        while !self.ended {
            match rustix::io::read(&self.socket, &mut buffer) {
                Ok(0) => self.ended = true,
                Ok(length) => self.received.extend_from_slice(&buffer[..length]),
                Err(Errno::AGAIN | Errno::NOTCONN | Errno::INPROGRESS) => break,
                Err(Errno::INTR) => {}
                Err(_) => return false,
            }
            if self.received.len() > max_bytes {
                return false;
            }
        }
        true
    }
}

impl Stream {
    pub(super) fn new(
        client: OwnedFd,
        epoll: &OwnedFd,
        token: u64,
        deadline: Instant,
    ) -> Option<Self> {
        let client = Half::new(client, epoll, token)?;
        Some(Self {
            client,
            upstream: None,
            query: Vec::new(),
            deadline,
        })
    }

    pub(super) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Goes on as far as it can without waiting. False: the connection has ended.
    pub(super) fn pump(&mut self) -> bool {
        // A client may send some queries ahead, but not fill our memory while it takes no answers.
        if !self.client.pump(4 * MAX_QUERY_BYTES) {
            return false;
        }
        if let Some(upstream) = &mut self.upstream {
            let alive = upstream.pump(LENGTH_BYTES + message::MAX_TCP_BYTES);
            let answer = upstream.pop();
            if answer.is_some() || !alive || upstream.ended {
                self.upstream = None;
                let answer = answer.filter(|answer| is_answer(answer, &self.query));
                let answer =
                    answer.unwrap_or_else(|| message::refusal(&self.query, Code::ServerFailure));
                self.client.push(&answer);
                return self.client.pump(4 * MAX_QUERY_BYTES) && !self.is_done();
            }
        }
        !self.is_done()
    }

    /// Whether the client has said all and got all.
    fn is_done(&self) -> bool {
        self.client.ended
            && self.upstream.is_none()
            && self.client.to_send.is_empty()
            && !self.has_query()
    }

    fn has_query(&self) -> bool {
        let length = self
            .client
            .received
            .first_chunk()
            .map(|length| usize::from(u16::from_be_bytes(*length)));
        length.is_some_and(|length| self.client.received.len() >= LENGTH_BYTES + length)
    }

    /// The client's next query, when the one before has been answered.
    pub(super) fn next_query(&mut self) -> Option<Vec<u8>> {
        if self.upstream.is_some() || !self.client.to_send.is_empty() {
            return None;
        }
        self.client.pop()
    }

    /// Answers a query.
    pub(super) fn answer(&mut self, answer: &[u8], deadline: Instant) {
        self.deadline = deadline;
        self.client.push(answer);
    }

    /// Passes a query on to the first resolver that can be connected to.
    pub(super) fn ask(
        &mut self,
        query: Vec<u8>,
        resolvers: &[SocketAddr],
        epoll: &OwnedFd,
        token: u64,
        deadline: Instant,
    ) {
        self.deadline = deadline;
        let sockets = resolvers
            .iter()
            .filter_map(|resolver| connect(*resolver, SocketType::STREAM).ok());
        match sockets
            .into_iter()
            .find_map(|socket| Half::new(socket, epoll, token))
        {
            Some(mut upstream) => {
                upstream.push(&query);
                self.query = query;
                self.upstream = Some(upstream);
            }
            None => self
                .client
                .push(&message::refusal(&query, Code::ServerFailure)),
        }
    }
}

/// Whether an answer bears the number of its query.
fn is_answer(answer: &[u8], query: &[u8]) -> bool {
    answer.len() >= 12 && answer.get(..2) == query.get(..2) && answer[2] & 0x80 != 0
}
