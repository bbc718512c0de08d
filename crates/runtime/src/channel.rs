//! The socket between parent and child: one datagram a message, descriptors along with it.
//!
//! Each side has its end only. The child takes the end of the stream for the parent's death, the parent takes it for
//! execve (both ends are close-on-exec) or for the child's death, which [`Message::Executing`] tells apart.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::path::Path;

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind,
    connect, listen, recvmsg, sendmsg, socket_with, socketpair,
};

use crate::error::{Called, Report};

/// Longest message: a report's text is cut to fit.
const MAX_BYTES: usize = 16 * 1024;
/// Connections that wait: one starts, others ask whether it can still be started.
const BACKLOG: i32 = 16;

/// What goes over the socket.
#[derive(Debug)]
pub(crate) enum Message {
    /// To the child: its user namespace has its mappings.
    Mapped,
    /// To the child: it has been moved into its cgroup.
    Placed,
    /// To the child: execute.
    Go,
    /// To the child: the caller goes; who connects to the start socket says `Go`.
    Detach,
    /// To the child: the hooks it asked for have run.
    HooksDone,
    /// From the child: the mounts are there, the root is not entered; it waits for `HooksDone`.
    WantsHooks,
    /// From the child: it waits for `Go` or `Detach`.
    Prepared,
    /// From the child: the master of its terminal.
    Console(OwnedFd),
    /// From the child: the number that its filter's listener has there; it waits for `Told`.
    Listener(RawFd),
    /// To the child: the agent has the listener.
    Told,
    /// From the child: the next thing it does is execve.
    Executing,
    /// From the child: it gives up.
    Failed(Report),
}

/// One end of the socket.
#[derive(Debug)]
pub(crate) struct Channel(OwnedFd);

impl Channel {
    /// Both ends.
    pub fn pair() -> ketch_sys::Result<(Self, Self)> {
        let (a, b) = socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )
        .called("socketpair")?;
        Ok((Self(a), Self(b)))
    }

    /// A socket in the file system that whoever connects to speaks over like the parent.
    pub fn listen(path: &Path) -> ketch_sys::Result<OwnedFd> {
        let socket = socket()?;
        let address = SocketAddrUnix::new(path).called_on("bind", path)?;
        bind(&socket, &address).called_on("bind", path)?;
        listen(&socket, BACKLOG).called_on("listen", path)?;
        Ok(socket)
    }

    /// Connects to such a socket: `ECONNREFUSED` if nobody listens any more.
    pub fn connect(path: &Path) -> ketch_sys::Result<Self> {
        let socket = socket()?;
        let address = SocketAddrUnix::new(path).called_on("connect", path)?;
        connect(&socket, &address).called_on("connect", path)?;
        Ok(Self(socket))
    }

    /// Waits for somebody to connect to a listening socket.
    pub fn accept(listener: &OwnedFd) -> ketch_sys::Result<Self> {
        loop {
            match accept_with(listener, SocketFlags::CLOEXEC) {
                Err(Errno::INTR | Errno::CONNABORTED) => {}
                other => return other.map(Self).called("accept4"),
            }
        }
    }

    /// Sends a message. The other side's death is `EPIPE`.
    pub fn send(&self, message: &Message) -> ketch_sys::Result<()> {
        let (tag, text, descriptor) = match message {
            Message::Mapped => (b'm', String::new(), None),
            Message::Placed => (b'P', String::new(), None),
            Message::Go => (b'g', String::new(), None),
            Message::Detach => (b'd', String::new(), None),
            Message::HooksDone => (b'h', String::new(), None),
            Message::WantsHooks => (b'w', String::new(), None),
            Message::Prepared => (b'p', String::new(), None),
            Message::Console(master) => (b'c', String::new(), Some(master.as_fd())),
            Message::Listener(number) => (b'l', number.to_string(), None),
            Message::Told => (b't', String::new(), None),
            Message::Executing => (b'x', String::new(), None),
            Message::Failed(report) => (b'f', encode(report), None),
        };
        self.send_raw(tag, text.as_bytes(), descriptor)
            .called("sendmsg")
    }

    /// Sends [`Message::Listener`] and waits for [`Message::Told`], with write(2) and read(2) only: the filter is loaded
    /// already, and of write alone it is known that it does not wait for an agent which has not been told yet.
    pub fn hand_over(&self, listener: RawFd) -> ketch_sys::Result<()> {
        let mut bytes = *b"l          ";
        let mut rest = listener;
        // Without memory of the heap, which may cost a system call.
        for digit in bytes[1..].iter_mut().rev() {
            *digit = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
        rustix::io::write(&self.0, &bytes).called("write")?;
        let mut answer = [0];
        match rustix::io::read(&self.0, &mut answer).called("read")? {
            1 if answer == *b"t" => Ok(()),
            _ => Err(ketch_sys::Error::new("read", Errno::BADMSG)),
        }
    }

    fn send_raw(
        &self,
        tag: u8,
        text: &[u8],
        descriptor: Option<BorrowedFd<'_>>,
    ) -> Result<(), Errno> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let descriptors = descriptor.map(|fd| [fd]);
        if let Some(descriptors) = &descriptors {
            control.push(SendAncillaryMessage::ScmRights(descriptors));
        }
        let parts = [IoSlice::new(std::slice::from_ref(&tag)), IoSlice::new(text)];
        loop {
            match sendmsg(&self.0, &parts, &mut control, SendFlags::NOSIGNAL) {
                Err(Errno::INTR) => {}
                // Last words of a child whose filter does not let it send them: it may be able to write.
                Err(errno) if tag == b'f' && errno != Errno::PIPE => {
                    let whole = [std::slice::from_ref(&tag), text].concat();
                    return rustix::io::write(&self.0, &whole).map(drop);
                }
                other => return other.map(drop),
            }
        }
    }

    /// Waits for a message; None: the other side is gone.
    pub fn receive(&self) -> ketch_sys::Result<Option<Message>> {
        self.receive_with(RecvFlags::CMSG_CLOEXEC)
    }

    /// Whether the other side is gone, without waiting.
    pub fn is_closed(&self) -> bool {
        let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT | RecvFlags::PEEK;
        matches!(self.receive_with(flags), Ok(None))
    }

    fn receive_with(&self, flags: RecvFlags) -> ketch_sys::Result<Option<Message>> {
        let mut bytes = vec![0; MAX_BYTES];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let received = loop {
            let mut parts = [IoSliceMut::new(&mut bytes)];
            match recvmsg(&self.0, &mut parts, &mut control, flags) {
                // CONNRESET: the other side ended without reading all. That is told once; what it said comes after.
                Err(Errno::INTR | Errno::CONNRESET) => {}
                other => break other.called("recvmsg")?,
            }
        };
        let descriptor = control.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
            _ => None,
        });
        let Some((tag, text)) = bytes[..received.bytes].split_first() else {
            return Ok(None);
        };
        decode(*tag, text, descriptor).map(Some)
    }
}

fn socket() -> ketch_sys::Result<OwnedFd> {
    socket_with(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )
    .called("socket")
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn encode(report: &Report) -> String {
    let mut report = report.clone();
    let mut end = report.message.len().min(MAX_BYTES / 4);
    while !report.message.is_char_boundary(end) {
        end -= 1;
    }
    report.message.truncate(end);
    // A structure of numbers and strings: serde_json does not fail on it.
    serde_json::to_string(&report).unwrap_or_default()
}

fn decode(tag: u8, text: &[u8], descriptor: Option<OwnedFd>) -> ketch_sys::Result<Message> {
    let garbled = || ketch_sys::Error::new("recvmsg", Errno::BADMSG);
    Ok(match tag {
        b'm' => Message::Mapped,
        b'P' => Message::Placed,
        b'g' => Message::Go,
        b'd' => Message::Detach,
        b'h' => Message::HooksDone,
        b'w' => Message::WantsHooks,
        b'p' => Message::Prepared,
        b'c' => Message::Console(descriptor.ok_or_else(garbled)?),
        b'l' => {
            let number = std::str::from_utf8(text)
                .ok()
                .and_then(|text| text.parse().ok());
            Message::Listener(number.ok_or_else(garbled)?)
        }
        b't' => Message::Told,
        b'x' => Message::Executing,
        b'f' => Message::Failed(serde_json::from_slice(text).map_err(|_| garbled())?),
        _ => return Err(garbled()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn a_report_of_any_length_arrives() {
        let (parent, child) = Channel::pair().unwrap();
        let message = "é\"".repeat(10_000);
        let report = Report {
            kind: ErrorKind::System,
            message: message.clone(),
            errno: Some(1),
        };
        child.send(&Message::Failed(report)).unwrap();
        let Some(Message::Failed(report)) = parent.receive().unwrap() else {
            panic!()
        };
        assert!(message.starts_with(&report.message) && report.message.len() > 4000);
    }

    #[test]
    fn a_descriptor_arrives() {
        let (parent, child) = Channel::pair().unwrap();
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        child.send(&Message::Console(writer)).unwrap();
        let Some(Message::Console(writer)) = parent.receive().unwrap() else {
            panic!()
        };
        rustix::io::write(&writer, b"x").unwrap();
        let mut byte = [0];
        assert_eq!(rustix::io::read(&reader, &mut byte).unwrap(), 1);
    }

    #[test]
    fn whoever_connects_speaks_like_the_parent() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("s");
        let listener = Channel::listen(&path).unwrap();
        let starter = Channel::connect(&path).unwrap();
        starter.send(&Message::Go).unwrap();
        let child = Channel::accept(&listener).unwrap();
        assert!(matches!(child.receive().unwrap(), Some(Message::Go)));
        drop((listener, child));
        assert!(starter.receive().unwrap().is_none());
        let refused = Channel::connect(&path).unwrap_err();
        assert_eq!(refused.errno, Errno::CONNREFUSED);
    }

    #[test]
    fn a_listener_is_handed_over_and_waited_for() {
        let (parent, child) = Channel::pair().unwrap();
        parent.send(&Message::Told).unwrap();
        child.hand_over(1234).unwrap();
        assert!(matches!(
            parent.receive().unwrap(),
            Some(Message::Listener(1234))
        ));
        drop(parent);
        assert!(child.hand_over(3).is_err());
    }

    #[test]
    fn the_end_is_told_from_silence() {
        let (parent, child) = Channel::pair().unwrap();
        assert!(!child.is_closed());
        parent.send(&Message::Go).unwrap();
        assert!(!child.is_closed());
        drop(parent);
        assert!(matches!(child.receive().unwrap(), Some(Message::Go)));
        assert!(child.is_closed());
        assert!(child.receive().unwrap().is_none());
    }

    #[test]
    fn last_words_arrive_from_a_side_that_did_not_listen() {
        let (parent, child) = Channel::pair().unwrap();
        parent.send(&Message::Go).unwrap();
        child.send(&Message::Executing).unwrap();
        drop(child);
        assert!(matches!(
            parent.receive().unwrap(),
            Some(Message::Executing)
        ));
        assert!(parent.receive().unwrap().is_none());
    }
}
