//! Questions that wait for the host's resolvers, over UDP: a socket each, so that each has a port of its own for a
//! forger to guess, besides its number.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::Instant;

use rustix::event::epoll;
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

use super::message::{self, Code, Question};
use crate::claim::random;

/// A question on its way.
#[derive(Debug)]
pub(super) struct Pending {
    /// Who asked.
    pub(super) client: SocketAddr,
    /// When to try the next resolver.
    pub(super) deadline: Instant,
    query: Vec<u8>,
    question: Vec<u8>,
    /// Resolvers not yet tried, the next one last.
    untried: Vec<SocketAddr>,
    socket: Option<OwnedFd>,
    /// The number that the resolver's answer must bear.
    number: [u8; 2],
}

/// What came of looking for an answer.
pub(super) enum Progress {
    /// Nothing that is one.
    Nothing,
    /// The resolver cannot be reached.
    Failed,
    /// An answer of so many bytes, with the client's own number.
    Answer(usize),
}

impl Pending {
    pub(super) fn new(
        query: &[u8],
        question: &Question,
        client: SocketAddr,
        mut untried: Vec<SocketAddr>,
    ) -> Self {
        untried.reverse();
        let question = question.bytes(query).to_vec();
        let query = query.to_vec();
        Self {
            client,
            deadline: Instant::now(),
            query,
            question,
            untried,
            socket: None,
            number: [0; 2],
        }
    }

    /// Asks the next resolver that can be asked. False: there is none.
    pub(super) fn ask_next(&mut self, epoll: &OwnedFd, token: u64, deadline: Instant) -> bool {
        self.deadline = deadline;
        while let Some(resolver) = self.untried.pop() {
            // The old socket leaves the epoll set by being closed.
            self.socket = None;
            if let Ok(socket) = self.send(resolver)
                && epoll::add(
                    epoll,
                    &socket,
                    epoll::EventData::new_u64(token),
                    epoll::EventFlags::IN,
                )
                .is_ok()
            {
                self.socket = Some(socket);
                return true;
            }
        }
        false
    }

    fn send(&mut self, resolver: SocketAddr) -> Result<OwnedFd, Errno> {
        let socket = connect(resolver, SocketType::DGRAM)?;
        self.number = random().map_err(|_| Errno::IO)?;
        let mut query = self.query.clone();
        query[..2].copy_from_slice(&self.number);
        rustix::net::send(&socket, &query, SendFlags::DONTWAIT)?;
        Ok(socket)
    }

    /// Reads what has come.
    pub(super) fn receive(&mut self, buffer: &mut [u8]) -> Progress {
        let Some(socket) = &self.socket else {
            return Progress::Failed;
        };
        match rustix::net::recv(socket, &mut *buffer, RecvFlags::DONTWAIT) {
            Err(Errno::AGAIN | Errno::INTR) => Progress::Nothing,
            // Nobody listens there, or there is no way.
            Err(_) => Progress::Failed,
            Ok((_, length)) => {
                let length = length.min(buffer.len());
                if !self.is_answer(&buffer[..length]) {
                    return Progress::Nothing;
                }
                buffer[..2].copy_from_slice(&self.query[..2]);
                Progress::Answer(length)
            }
        }
    }

    /// Whether a message answers this question: number, direction and question are right.
    fn is_answer(&self, message: &[u8]) -> bool {
        message.len() >= 12
            && message[..2] == self.number
            && message[2] & 0x80 != 0
            && message
                .get(12..12 + self.question.len())
                .is_some_and(|q| q.eq_ignore_ascii_case(&self.question))
    }

    /// What to tell the client when all resolvers have failed.
    pub(super) fn refusal(&self) -> Vec<u8> {
        message::refusal(&self.query, Code::ServerFailure)
    }
}

/// A socket to a resolver; over TCP the connection may still be on its way.
pub(super) fn connect(resolver: SocketAddr, kind: SocketType) -> Result<OwnedFd, Errno> {
    let family = if resolver.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(family, kind, flags, None)?;
    match rustix::net::connect(&socket, &resolver) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(socket),
        Err(errno) => Err(errno),
    }
}
