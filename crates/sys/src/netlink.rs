//! Netlink (netlink(7)): sockets, an encoder for messages with attributes, and a decoder that checks every bound.
//!
//! The kernel works on a request inside `send`, so that all answers to a request that changes something wait in the
//! socket when `send` has returned; answers to a dump follow as they are read.

use std::fmt;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{self, AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

/// `NLM_F_REQUEST`; every request has it.
const REQUEST: u16 = 0x1;
/// `NLM_F_ACK`: an answer even where nothing is wrong.
pub const ACK: u16 = 0x4;
/// `NLM_F_DUMP`: all objects, not one.
pub const DUMP: u16 = 0x300;
/// `NLM_F_CREATE`: make the object if it is not there.
pub const CREATE: u16 = 0x400;
/// `NLM_F_EXCL`: an object that is there already is an error.
pub const EXCLUSIVE: u16 = 0x200;
/// `NLM_F_APPEND`: after the others.
pub const APPEND: u16 = 0x800;

/// `NLMSG_ERROR`: an acknowledgement or an error.
const MESSAGE_ERROR: u16 = 2;
/// `NLMSG_DONE`: the end of a dump.
const MESSAGE_DONE: u16 = 3;
/// `NLM_F_ACK_TLVS`: attributes follow the error.
const FLAG_ACK_ATTRIBUTES: u16 = 0x200;
/// `NLM_F_CAPPED`: the error does not repeat the request.
const FLAG_CAPPED: u16 = 0x100;
/// `NLMSGERR_ATTR_MSG`: the kernel's explanation.
const ERROR_TEXT: u16 = 1;

/// Length of `struct nlmsghdr`.
const HEADER_BYTES: usize = 16;
/// Length of `struct nlattr`.
const ATTRIBUTE_BYTES: usize = 4;
/// `NLA_F_NESTED`.
const NESTED: u16 = 0x8000;
/// `NLA_TYPE_MASK`.
const KIND_MASK: u16 = 0x3fff;
/// More than the kernel puts into one datagram of an answer (32 KiB for dumps).
const RECEIVE_BYTES: usize = 64 << 10;

/// Which part of the kernel a socket talks to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// Links, addresses, routes: rtnetlink(7).
    Route,
    /// nf_tables and connection tracking.
    Netfilter,
}

/// A failed exchange.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// A system call on the socket failed.
    Socket {
        /// The call.
        call: &'static str,
        /// Why.
        errno: Errno,
    },
    /// The kernel refused a request.
    Refused {
        /// Why.
        errno: Errno,
        /// The kernel's own words, where it has some.
        text: Option<String>,
        /// Which message of the request it was, counted from 0.
        index: u32,
    },
    /// An answer is not well-formed.
    Malformed,
    /// A request is too long: an attribute holds at most 65,535 bytes.
    TooLong,
}

impl Error {
    /// What the kernel said, if it said something.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::Socket { errno, .. } | Self::Refused { errno, .. } => Some(*errno),
            Self::Malformed | Self::TooLong => None,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket { call, errno } => {
                write!(f, "netlink {call}: {}", std::io::Error::from(*errno))
            }
            Self::Refused {
                errno, text: None, ..
            } => write!(f, "{}", std::io::Error::from(*errno)),
            Self::Refused {
                errno,
                text: Some(text),
                ..
            } => write!(f, "{}: {text}", std::io::Error::from(*errno)),
            Self::Malformed => f.write_str("malformed netlink answer"),
            Self::TooLong => f.write_str("netlink request too long"),
        }
    }
}

impl std::error::Error for Error {}

/// A netlink socket, bound to the network namespace it was opened in for its whole life.
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
    sequence: u32,
}

impl Socket {
    /// Opens a socket in the calling thread's network namespace.
    ///
    /// # Errors
    /// The socket cannot be made.
    pub fn open(protocol: Protocol) -> Result<Self, Error> {
        let protocol = match protocol {
            // NETLINK_ROUTE is number 0, the default.
            Protocol::Route => None,
            Protocol::Netfilter => Some(net::netlink::NETFILTER),
        };
        let fd = net::socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            protocol,
        )
        .map_err(|errno| Error::Socket {
            call: "socket",
            errno,
        })?;
        for option in [libc::NETLINK_CAP_ACK, libc::NETLINK_EXT_ACK] {
            set_option(&fd, option)?;
        }
        Ok(Self { fd, sequence: 0 })
    }

    /// Sends messages that change something; all of them were made with [`ACK`], or are ones that are never answered.
    ///
    /// # Errors
    /// The first refusal. rtnetlink goes on with the messages after it; nf_tables undoes its whole batch.
    pub fn change(&mut self, request: Request) -> Result<(), Error> {
        self.change_tolerating(&[], request)
    }

    /// The same, where some refusals say that it is as wanted already.
    ///
    /// # Errors
    /// The first refusal that is not one of `fine`.
    pub fn change_tolerating(&mut self, fine: &[Errno], request: Request) -> Result<(), Error> {
        let (first, count) = self.send(request)?;
        let mut refusal = None;
        let mut buffer = vec![0; RECEIVE_BYTES];
        while let Some(received) = self.receive(&mut buffer, RecvFlags::DONTWAIT)? {
            for message in Messages::new(&buffer[..received]) {
                let message = message?;
                let index = message.sequence.wrapping_sub(first);
                if message.kind == MESSAGE_ERROR && index < count && refusal.is_none() {
                    let error = message.error(index)?;
                    refusal = error
                        .filter(|error| !error.errno().is_some_and(|errno| fine.contains(&errno)));
                }
            }
        }
        refusal.map_or(Ok(()), Err)
    }

    /// Sends one request and hands every message of the answer to `each`.
    ///
    /// # Errors
    /// The kernel's refusal, or the first error of `each`.
    pub fn ask(
        &mut self,
        request: Request,
        mut each: impl FnMut(Message<'_>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let dump = request.dump;
        let (first, _) = self.send(request)?;
        let mut buffer = vec![0; RECEIVE_BYTES];
        loop {
            // One object is answered inside `send`; a dump goes on while we read.
            let flags = if dump {
                RecvFlags::empty()
            } else {
                RecvFlags::DONTWAIT
            };
            let Some(received) = self.receive(&mut buffer, flags)? else {
                return Ok(());
            };
            for message in Messages::new(&buffer[..received]) {
                let message = message?;
                match message.kind {
                    _ if message.sequence != first => {}
                    MESSAGE_ERROR => return message.error(0)?.map_or(Ok(()), Err),
                    MESSAGE_DONE => return message.done().map_or(Ok(()), Err),
                    _ => each(message)?,
                }
            }
        }
    }

    /// Makes the socket hear of changes: `groups` is a mask of `RTMGRP_…`. Such a socket is for [`Socket::wait`] only.
    ///
    /// # Errors
    /// The socket cannot be bound.
    pub fn subscribe(&mut self, groups: u32) -> Result<(), Error> {
        net::bind(&self.fd, &net::netlink::SocketAddrNetlink::new(0, groups))
            .map_err(|errno| Error::Socket { call: "bind", errno })
    }

    /// Waits until something is heard, whatever it is, or the time is over.
    ///
    /// # Errors
    /// The socket cannot be read.
    pub fn wait(&mut self, timeout: Duration) -> Result<(), Error> {
        let timeout = Timespec::try_from(timeout).ok();
        match poll(&mut [PollFd::new(&self.fd, PollFlags::IN)], timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(Error::Socket { call: "poll", errno }),
        }
        let mut buffer = vec![0; RECEIVE_BYTES];
        loop {
            match self.receive(&mut buffer, RecvFlags::DONTWAIT) {
                Ok(Some(_)) => {}
                Ok(None) => return Ok(()),
                // More was said than fits: something was heard.
                Err(Error::Socket { errno: Errno::NOBUFS, .. }) => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn send(&mut self, mut request: Request) -> Result<(u32, u32), Error> {
        let first = self.sequence.wrapping_add(1);
        let count = request.finish(first)?;
        self.sequence = self.sequence.wrapping_add(count);
        let sent =
            rustix::io::retry_on_intr(|| net::send(&self.fd, &request.bytes, SendFlags::empty()))
                .map_err(|errno| Error::Socket {
                call: "send",
                errno,
            })?;
        if sent == request.bytes.len() {
            Ok((first, count))
        } else {
            Err(Error::TooLong)
        }
    }

    /// The length of the next datagram, or None where there is none.
    fn receive(&self, buffer: &mut [u8], flags: RecvFlags) -> Result<Option<usize>, Error> {
        let flags = flags | RecvFlags::TRUNC;
        match rustix::io::retry_on_intr(|| net::recv(&self.fd, &mut *buffer, flags)) {
            Ok((_, length)) if length > buffer.len() => Err(Error::Malformed),
            Ok((_, length)) => Ok(Some(length)),
            Err(Errno::AGAIN) => Ok(None),
            Err(errno) => Err(Error::Socket {
                call: "recv",
                errno,
            }),
        }
    }
}

/// Turns on a boolean option of level `SOL_NETLINK`.
fn set_option(fd: &OwnedFd, option: libc::c_int) -> Result<(), Error> {
    let on: libc::c_int = 1;
    let length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the descriptor is open, and the pointer and length describe `on`, which outlives the call.
    let result = unsafe {
        libc::setsockopt(
            fd.as_fd().as_raw_fd(),
            libc::SOL_NETLINK,
            option,
            (&raw const on).cast(),
            length,
        )
    };
    if result == 0 {
        return Ok(());
    }
    let errno = Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO);
    Err(Error::Socket {
        call: "setsockopt",
        errno,
    })
}

/// One datagram of messages to the kernel.
#[derive(Debug, Default)]
pub struct Request {
    bytes: Vec<u8>,
    too_long: bool,
    dump: bool,
}

impl Request {
    /// An empty request.
    pub fn new() -> Self {
        Self {
            bytes: Vec::with_capacity(1024),
            too_long: false,
            dump: false,
        }
    }

    /// Adds a message; `body` writes what follows its header.
    pub fn message(&mut self, kind: u16, flags: u16, body: impl FnOnce(&mut Self)) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; HEADER_BYTES]);
        body(self);
        self.dump |= flags & DUMP == DUMP;
        let length = u32::try_from(self.bytes.len() - start).unwrap_or(u32::MAX);
        self.bytes[start..start + 4].copy_from_slice(&length.to_ne_bytes());
        self.bytes[start + 4..start + 6].copy_from_slice(&kind.to_ne_bytes());
        self.bytes[start + 6..start + 8].copy_from_slice(&(flags | REQUEST).to_ne_bytes());
        self.pad();
    }

    /// A length to plan batches by: bytes so far.
    pub fn size_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Writes bytes as they are: the fixed part of a message.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        self.pad();
    }

    /// Writes an attribute.
    pub fn bytes(&mut self, kind: u16, value: &[u8]) {
        self.attribute(kind, |request| request.bytes.extend_from_slice(value));
    }

    /// Writes an attribute of text with its terminating zero.
    pub fn text(&mut self, kind: u16, value: &str) {
        self.attribute(kind, |request| {
            request.bytes.extend_from_slice(value.as_bytes());
            request.bytes.push(0);
        });
    }

    /// Writes an attribute of one byte.
    pub fn u8(&mut self, kind: u16, value: u8) {
        self.bytes(kind, &[value]);
    }

    /// Writes an attribute of four bytes in the machine's order, as rtnetlink has them.
    pub fn u32(&mut self, kind: u16, value: u32) {
        self.bytes(kind, &value.to_ne_bytes());
    }

    /// Writes an attribute of four bytes in network order, as netfilter has them.
    pub fn be32(&mut self, kind: u16, value: u32) {
        self.bytes(kind, &value.to_be_bytes());
    }

    /// Writes an attribute that holds what `body` writes.
    pub fn nest(&mut self, kind: u16, body: impl FnOnce(&mut Self)) {
        self.attribute(kind | NESTED, body);
    }

    fn attribute(&mut self, kind: u16, body: impl FnOnce(&mut Self)) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; ATTRIBUTE_BYTES]);
        body(self);
        match u16::try_from(self.bytes.len() - start) {
            Ok(length) => self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes()),
            Err(_) => self.too_long = true,
        }
        self.bytes[start + 2..start + 4].copy_from_slice(&kind.to_ne_bytes());
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    /// Numbers the messages from `first` on; returns how many they are.
    fn finish(&mut self, first: u32) -> Result<u32, Error> {
        if self.too_long {
            return Err(Error::TooLong);
        }
        let (mut at, mut count) = (0, 0_u32);
        while let Some(header) = self.bytes.get_mut(at..at + HEADER_BYTES) {
            let length = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]) as usize;
            header[8..12].copy_from_slice(&first.wrapping_add(count).to_ne_bytes());
            at += length.next_multiple_of(4).max(HEADER_BYTES);
            count += 1;
        }
        Ok(count)
    }
}

/// The messages of a datagram.
#[derive(Debug)]
pub struct Messages<'a> {
    rest: &'a [u8],
}

impl<'a> Messages<'a> {
    /// Decodes `datagram`.
    pub fn new(datagram: &'a [u8]) -> Self {
        Self { rest: datagram }
    }
}

impl<'a> Iterator for Messages<'a> {
    type Item = Result<Message<'a>, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let rest = std::mem::take(&mut self.rest);
        let Some(header) = rest.first_chunk::<HEADER_BYTES>() else {
            return Some(Err(Error::Malformed));
        };
        let length = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]) as usize;
        if length < HEADER_BYTES || length > rest.len() {
            return Some(Err(Error::Malformed));
        }
        self.rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Ok(Message {
            kind: u16::from_ne_bytes([header[4], header[5]]),
            flags: u16::from_ne_bytes([header[6], header[7]]),
            sequence: u32::from_ne_bytes([header[8], header[9], header[10], header[11]]),
            payload: &rest[HEADER_BYTES..length],
        }))
    }
}

/// A message of an answer.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    /// What it is.
    pub kind: u16,
    /// `NLM_F_…`.
    pub flags: u16,
    sequence: u32,
    /// What follows the header: a fixed part, then attributes.
    pub payload: &'a [u8],
}

impl<'a> Message<'a> {
    /// The attributes after a fixed part of `fixed_bytes`.
    pub fn attributes(&self, fixed_bytes: usize) -> Attributes<'a> {
        Attributes::new(
            self.payload
                .get(fixed_bytes.next_multiple_of(4)..)
                .unwrap_or_default(),
        )
    }

    /// The error that an answer of kind `NLMSG_ERROR` bears; None for an acknowledgement.
    fn error(&self, index: u32) -> Result<Option<Error>, Error> {
        let code = self.payload.first_chunk::<4>().ok_or(Error::Malformed)?;
        let code = i32::from_ne_bytes(*code);
        if code == 0 {
            return Ok(None);
        }
        let mut text = None;
        if self.flags & FLAG_ACK_ATTRIBUTES != 0 {
            // The error is followed by the header of the request, and by its body unless that is left out.
            let length = self
                .payload
                .get(4..8)
                .and_then(|b| b.try_into().ok())
                .map_or(0, u32::from_ne_bytes);
            let repeated = if self.flags & FLAG_CAPPED != 0 {
                HEADER_BYTES
            } else {
                length as usize
            };
            text = self
                .attributes(4 + repeated)
                .find(|a| a.kind == ERROR_TEXT)
                .and_then(|a| a.text().map(str::to_owned));
        }
        Ok(Some(Error::Refused {
            errno: Errno::from_raw_os_error(-code),
            text,
            index,
        }))
    }

    /// The error at the end of a dump, if there is one.
    fn done(&self) -> Option<Error> {
        let code = self
            .payload
            .first_chunk::<4>()
            .map_or(0, |b| i32::from_ne_bytes(*b));
        (code < 0).then(|| Error::Refused {
            errno: Errno::from_raw_os_error(-code),
            text: None,
            index: 0,
        })
    }
}

/// A run of attributes; it ends at the first that is not well-formed.
#[derive(Debug, Clone, Copy)]
pub struct Attributes<'a> {
    rest: &'a [u8],
}

impl<'a> Attributes<'a> {
    /// Decodes `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// The first attribute of a kind.
    pub fn get(mut self, kind: u16) -> Option<Attribute<'a>> {
        self.find(|attribute| attribute.kind == kind)
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = Attribute<'a>;

    fn next(&mut self) -> Option<Attribute<'a>> {
        let rest = std::mem::take(&mut self.rest);
        let header = rest.first_chunk::<ATTRIBUTE_BYTES>()?;
        let length = usize::from(u16::from_ne_bytes([header[0], header[1]]));
        let value = rest.get(ATTRIBUTE_BYTES..length)?;
        self.rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Attribute {
            kind: u16::from_ne_bytes([header[2], header[3]]) & KIND_MASK,
            value,
        })
    }
}

/// One attribute.
#[derive(Debug, Clone, Copy)]
pub struct Attribute<'a> {
    /// What it is, without the flags.
    pub kind: u16,
    /// Its value.
    pub value: &'a [u8],
}

impl<'a> Attribute<'a> {
    /// The attributes within.
    pub fn nested(&self) -> Attributes<'a> {
        Attributes::new(self.value)
    }

    /// Text up to its terminating zero; None where it is not UTF-8.
    pub fn text(&self) -> Option<&'a str> {
        let end = self
            .value
            .iter()
            .position(|b| *b == 0)
            .unwrap_or(self.value.len());
        std::str::from_utf8(&self.value[..end]).ok()
    }

    /// Four bytes in the machine's order.
    pub fn u32(&self) -> Option<u32> {
        self.value.first_chunk().map(|b| u32::from_ne_bytes(*b))
    }

    /// Four bytes in network order.
    pub fn be32(&self) -> Option<u32> {
        self.value.first_chunk().map(|b| u32::from_be_bytes(*b))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_laid_out_as_the_kernel_wants_it() {
        let mut request = Request::new();
        request.message(16, ACK, |m| {
            m.raw(&[7; 6]);
            m.text(3, "lo");
            m.nest(18, |m| m.u32(1, 0x0102_0304));
        });
        assert_eq!(request.finish(9).unwrap(), 1);
        let decoded = Messages::new(&request.bytes).next().unwrap().unwrap();
        assert_eq!(
            (decoded.kind, decoded.flags, decoded.sequence),
            (16, ACK | REQUEST, 9)
        );
        let attributes = decoded.attributes(6);
        assert_eq!(attributes.get(3).unwrap().text(), Some("lo"));
        assert_eq!(
            attributes.get(18).unwrap().nested().get(1).unwrap().u32(),
            Some(0x0102_0304)
        );
        assert_eq!(request.bytes.len() % 4, 0);
    }

    #[test]
    fn attributes_beyond_sixteen_bits_are_refused() {
        let mut request = Request::new();
        request.message(16, 0, |m| m.bytes(1, &vec![0; 70_000]));
        assert_eq!(request.finish(1), Err(Error::TooLong));
    }

    #[test]
    fn every_truncation_is_an_error_or_an_end_and_never_a_panic() {
        let mut request = Request::new();
        request.message(2, 0, |m| {
            m.raw(&(-17_i32).to_ne_bytes());
            m.nest(1, |m| m.nest(2, |m| m.u32(3, 4)));
        });
        request.finish(1).unwrap();
        for end in 0..request.bytes.len() {
            for message in Messages::new(&request.bytes[..end]) {
                assert_eq!(message.err(), Some(Error::Malformed), "cut at {end}");
            }
            let mut inner = Attributes::new(&request.bytes[end..]);
            while let Some(attribute) = inner.next() {
                attribute.nested().for_each(drop);
            }
        }
    }

    #[test]
    fn lengths_below_the_header_end_the_decoding() {
        assert_eq!(
            Messages::new(&[3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]).count(),
            1
        );
        assert_eq!(Attributes::new(&[0, 0, 1, 0, 0, 0, 0, 0]).count(), 0);
        assert_eq!(Attributes::new(&[4, 0, 1, 0, 3, 0, 1, 0]).count(), 1);
    }

    #[test]
    fn the_kernel_answers_with_the_loopback_link() {
        let mut socket = Socket::open(Protocol::Route).unwrap();
        let mut request = Request::new();
        // RTM_GETLINK of interface 1.
        request.message(18, 0, |m| {
            m.raw(&[0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])
        });
        let mut name = None;
        socket
            .ask(request, |message| {
                name = message
                    .attributes(16)
                    .get(3)
                    .and_then(|a| a.text().map(str::to_owned));
                Ok(())
            })
            .unwrap();
        assert_eq!(name.as_deref(), Some("lo"));
    }

    #[test]
    fn a_refusal_names_the_message() {
        let mut socket = Socket::open(Protocol::Route).unwrap();
        let mut request = Request::new();
        // RTM_GETLINK of the loopback link, and of one that is not there.
        for index in [1_i32, 0x7fff_fff0] {
            let mut body = [0; 16];
            body[4..8].copy_from_slice(&index.to_ne_bytes());
            request.message(18, ACK, |m| m.raw(&body));
        }
        let error = socket.change(request).unwrap_err();
        assert!(
            matches!(
                error,
                Error::Refused {
                    errno: Errno::NODEV,
                    index: 1,
                    ..
                }
            ),
            "{error:?}"
        );
    }
}
