//! Netlink (netlink(7)): sockets, an encoder for messages with attributes, and a decoder that checks every bound.
//!
//! The kernel works on a request inside `send`, so that all answers to a request that changes something wait in the
//! socket when `send` has returned; answers to a dump follow as they are read.

mod answer;
mod request;

use std::fmt;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{self, AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

pub use answer::{Attribute, Attributes, Message, Messages};
pub use request::Request;

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

/// Length of `struct nlattr`.
const ATTRIBUTE_BYTES: usize = 4;
/// Length of `struct nlmsghdr`.
const HEADER_BYTES: usize = 16;
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
        net::bind(&self.fd, &net::netlink::SocketAddrNetlink::new(0, groups)).map_err(|errno| {
            Error::Socket {
                call: "bind",
                errno,
            }
        })
    }

    /// Waits until something is heard, whatever it is, or the time is over.
    ///
    /// # Errors
    /// The socket cannot be read.
    pub fn wait(&mut self, timeout: Duration) -> Result<(), Error> {
        let timeout = Timespec::try_from(timeout).ok();
        match poll(
            &mut [PollFd::new(&self.fd, PollFlags::IN)],
            timeout.as_ref(),
        ) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => {
                return Err(Error::Socket {
                    call: "poll",
                    errno,
                });
            }
        }
        let mut buffer = vec![0; RECEIVE_BYTES];
        loop {
            match self.receive(&mut buffer, RecvFlags::DONTWAIT) {
                Ok(Some(_)) => {}
                Ok(None) => return Ok(()),
                // More was said than fits: something was heard.
                Err(Error::Socket {
                    errno: Errno::NOBUFS,
                    ..
                }) => {}
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

#[cfg(test)]
mod tests;
