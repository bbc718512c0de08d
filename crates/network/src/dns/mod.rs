//! Name answers for a container in user networks, on 127.0.0.11 inside its network namespace, as under Docker.
//!
//! The sockets that listen are born in the container's namespace, on high ports; rules there lead port 53 of
//! 127.0.0.11 to them, so that software in the container can have port 53 itself. Names of containers are answered
//! from endpoint records ([`EndpointNames`]); other questions go to the host's resolvers, from sockets in the host's
//! namespace. One descriptor to poll, no thread, nothing blocks, and everything is bounded.

mod endpoint_names;
mod message;
mod redirect;
mod resolv_conf;
mod stream;
mod upstream;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags};

pub use endpoint_names::EndpointNames;
pub use resolv_conf::nameservers;

use crate::{Error, Result};
use message::{Code, Question};
use stream::Stream;
use upstream::{Pending, Progress};

/// Where the container asks.
pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);

/// How many resolvers are tried.
const MAX_UPSTREAMS: usize = 3;
/// How many questions may wait for resolvers, and how many TCP connections may be open.
const MAX_PENDING: usize = 64;
const MAX_STREAMS: usize = 16;
/// How many datagrams one call of [`Server::handle`] takes.
const MAX_DATAGRAMS: usize = 64;
/// How long a resolver has before the next is tried, and a TCP connection for its next step.
const PATIENCE: Duration = Duration::from_millis(2500);
/// The longest datagram.
const MAX_DATAGRAM_BYTES: usize = 65_535;

const TOKEN_DATAGRAMS: u64 = 0;
const TOKEN_CONNECTIONS: u64 = 1;
const TOKEN_TIMER: u64 = 2;
const FIRST_TOKEN: u64 = 3;

/// Who knows the names of containers.
pub trait Names {
    /// Addresses of a name, which comes in lower case and without a dot at its end. None: not a name known here.
    fn addresses(&mut self, name: &str) -> Option<Vec<Ipv4Addr>>;
    /// The full name that belongs to an address.
    fn name_of(&mut self, address: Ipv4Addr) -> Option<String>;
}

/// The name server of one container.
#[derive(Debug)]
pub struct Server {
    epoll: OwnedFd,
    timer: OwnedFd,
    datagrams: OwnedFd,
    connections: OwnedFd,
    upstreams: Vec<SocketAddr>,
    pending: BTreeMap<u64, Pending>,
    streams: BTreeMap<u64, Stream>,
    next_token: u64,
    rotation: usize,
}

impl Server {
    /// Opens the sockets in `netns` and leads port 53 of [`ADDRESS`] there to them. Questions for other names go to
    /// `upstreams`, asked from the calling thread's namespace; with none, they are denied. A container that is only in
    /// internal networks must get none: questions would be a way out.
    ///
    /// # Errors
    /// A socket or a rule that cannot be made.
    pub fn open(netns: BorrowedFd<'_>, upstreams: &[IpAddr]) -> Result<Self> {
        let (datagrams, connections) = redirect::open(netns)?;
        let call = |call| {
            move |errno: Errno| Error::Call {
                call,
                source: errno.into(),
            }
        };
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(call("epoll_create1"))?;
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let timer = rustix::time::timerfd_create(TimerfdClockId::Monotonic, flags)
            .map_err(call("timerfd_create"))?;
        for (fd, token) in [
            (&datagrams, TOKEN_DATAGRAMS),
            (&connections, TOKEN_CONNECTIONS),
            (&timer, TOKEN_TIMER),
        ] {
            epoll::add(
                &epoll,
                fd,
                epoll::EventData::new_u64(token),
                epoll::EventFlags::IN,
            )
            .map_err(call("epoll_ctl"))?;
        }
        let mut server = Self {
            epoll,
            timer,
            datagrams,
            connections,
            upstreams: Vec::new(),
            pending: BTreeMap::new(),
            streams: BTreeMap::new(),
            next_token: FIRST_TOKEN,
            rotation: 0,
        };
        server.set_upstreams(upstreams);
        Ok(server)
    }

    /// Changes the resolvers; questions that wait go on with the old ones.
    pub fn set_upstreams(&mut self, upstreams: &[IpAddr]) {
        let usable = upstreams
            .iter()
            .filter(|address| **address != IpAddr::V4(ADDRESS));
        self.upstreams = usable
            .take(MAX_UPSTREAMS)
            .map(|address| SocketAddr::new(*address, 53))
            .collect();
    }

    /// Does what there is to do, and never waits. Call it when [`Server::as_fd`] is readable.
    ///
    /// # Errors
    /// Only those of the descriptors themselves: what the container or a resolver sends is never an error.
    pub fn handle(&mut self, names: &mut dyn Names) -> Result<()> {
        let mut events: Vec<epoll::Event> = Vec::with_capacity(32);
        let nothing = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        match epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&nothing)) {
            Err(Errno::INTR) => return Ok(()),
            other => other.map_err(|errno| Error::Call {
                call: "epoll_wait",
                source: errno.into(),
            })?,
        };
        for event in events {
            match event.data.u64() {
                TOKEN_DATAGRAMS => self.take_datagrams(names),
                TOKEN_CONNECTIONS => self.take_connections(),
                TOKEN_TIMER => self.expire(),
                token if self.pending.contains_key(&token) => self.take_answer(token),
                token => self.advance_stream(token, names),
            }
        }
        self.set_timer()
    }

    fn take_datagrams(&mut self, names: &mut dyn Names) {
        let mut buffer = [0; 4096];
        for _ in 0..MAX_DATAGRAMS {
            // Whatever the error: there is no datagram, and the next call will see.
            let Ok((length, _, Some(client))) =
                rustix::net::recvfrom(&self.datagrams, &mut buffer, RecvFlags::DONTWAIT)
            else {
                return;
            };
            let Ok(client) = SocketAddr::try_from(client) else {
                continue;
            };
            let query = &buffer[..length];
            match self.consider(query, names, message::MAX_UDP_BYTES) {
                Considered::Answer(answer) => self.reply(client, &answer),
                Considered::Ask(question) => self.ask(query, &question, client),
                Considered::Ignore => {}
            }
        }
    }

    /// What to do with a query.
    fn consider(&mut self, query: &[u8], names: &mut dyn Names, max_bytes: usize) -> Considered {
        let question = match Question::read(query) {
            Ok(question) => question,
            Err(Some(code)) => return Considered::Answer(message::refusal(query, code)),
            Err(None) => return Considered::Ignore,
        };
        self.rotation = self.rotation.wrapping_add(1);
        if let Some(answer) = message::answer(query, &question, names, self.rotation, max_bytes) {
            return Considered::Answer(answer);
        }
        if self.upstreams.is_empty() {
            // Nobody could know a dotted name; a single label can only have been a container's.
            let code = if question.is_single_label() {
                Code::NoSuchName
            } else {
                Code::ServerFailure
            };
            return Considered::Answer(message::refusal(query, code));
        }
        Considered::Ask(question)
    }

    /// Sends a question of a datagram to the first resolver.
    fn ask(&mut self, query: &[u8], question: &Question, client: SocketAddr) {
        if self.pending.len() >= MAX_PENDING {
            return self.reply(client, &message::refusal(query, Code::ServerFailure));
        }
        let mut pending = Pending::new(query, question, client, self.upstreams.clone());
        let token = self.token();
        if pending.ask_next(&self.epoll, token, Instant::now() + PATIENCE) {
            self.pending.insert(token, pending);
        } else {
            self.reply(client, &message::refusal(query, Code::ServerFailure));
        }
    }

    fn take_answer(&mut self, token: u64) {
        let Some(pending) = self.pending.get_mut(&token) else {
            return;
        };
        let mut buffer = vec![0; MAX_DATAGRAM_BYTES];
        match pending.receive(&mut buffer) {
            Progress::Nothing => {}
            Progress::Failed => self.try_next(token),
            Progress::Answer(length) => {
                let client = pending.client;
                self.pending.remove(&token);
                self.reply(client, &buffer[..length]);
            }
        }
    }

    fn try_next(&mut self, token: u64) {
        let Some(pending) = self.pending.get_mut(&token) else {
            return;
        };
        if !pending.ask_next(&self.epoll, token, Instant::now() + PATIENCE) {
            let (client, answer) = (pending.client, pending.refusal());
            self.pending.remove(&token);
            self.reply(client, &answer);
        }
    }

    fn take_connections(&mut self) {
        for _ in 0..MAX_STREAMS {
            let flags = rustix::net::SocketFlags::CLOEXEC | rustix::net::SocketFlags::NONBLOCK;
            let Ok(client) = rustix::net::accept_with(&self.connections, flags) else {
                return;
            };
            if self.streams.len() >= MAX_STREAMS {
                // The one that has waited longest makes room.
                let oldest = self
                    .streams
                    .iter()
                    .min_by_key(|(_, stream)| stream.deadline())
                    .map(|(token, _)| *token);
                oldest.map(|token| self.streams.remove(&token));
            }
            let token = self.token();
            if let Some(stream) = Stream::new(client, &self.epoll, token, Instant::now() + PATIENCE)
            {
                self.streams.insert(token, stream);
            }
        }
    }

    fn advance_stream(&mut self, token: u64, names: &mut dyn Names) {
        // Taken out while it is worked on, because answers need the rest of the server.
        let Some(mut stream) = self.streams.remove(&token) else {
            return;
        };
        let mut open = true;
        while open {
            open = stream.pump();
            let Some(query) = stream.next_query().filter(|_| open) else {
                break;
            };
            let deadline = Instant::now() + PATIENCE;
            match self.consider(&query, names, message::MAX_TCP_BYTES) {
                Considered::Answer(answer) => stream.answer(&answer, deadline),
                Considered::Ask(_) => {
                    stream.ask(query, &self.upstreams, &self.epoll, token, deadline)
                }
                Considered::Ignore => open = false,
            }
        }
        if open {
            self.streams.insert(token, stream);
        }
    }

    /// Gives up on whoever has had time enough.
    fn expire(&mut self) {
        let mut expirations = [0; 8];
        let _ = rustix::io::read(&self.timer, &mut expirations);
        let now = Instant::now();
        self.streams.retain(|_, stream| stream.deadline() > now);
        let late: Vec<u64> = self
            .pending
            .iter()
            .filter(|(_, pending)| pending.deadline <= now)
            .map(|(token, _)| *token)
            .collect();
        for token in late {
            self.try_next(token);
        }
    }

    /// Wakes us up for the earliest deadline.
    fn set_timer(&self) -> Result<()> {
        let streams = self.streams.values().map(Stream::deadline);
        let earliest = self
            .pending
            .values()
            .map(|pending| pending.deadline)
            .chain(streams)
            .min();
        // Zero would turn the timer off.
        let left = earliest.map(|at| {
            at.saturating_duration_since(Instant::now())
                .max(Duration::from_millis(1))
        });
        let left = left.unwrap_or_default();
        let value = Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: left.subsec_nanos().into(),
        };
        let spec = Itimerspec {
            it_interval: Timespec {
                tv_sec: 0,
                tv_nsec: 0,
            },
            it_value: value,
        };
        rustix::time::timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &spec)
            .map(drop)
            .map_err(|errno| Error::Call {
                call: "timerfd_settime",
                source: errno.into(),
            })
    }

    fn reply(&self, client: SocketAddr, answer: &[u8]) {
        // A client that has gone, or whose buffer is full, asks again or does not.
        let _ = rustix::net::sendto(&self.datagrams, answer, SendFlags::DONTWAIT, &client);
    }

    fn token(&mut self) -> u64 {
        self.next_token += 1;
        self.next_token
    }
}

impl AsFd for Server {
    /// Readable when there is something to do, a time-out included.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}

/// What becomes of a query.
enum Considered {
    /// We know.
    Answer(Vec<u8>),
    /// A resolver may know.
    Ask(Question),
    /// It is no query.
    Ignore,
}
