//! A connection to a message bus, or to systemd itself: one call at a time, each with a deadline.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use super::SystemdError;
use super::wire::{FIXED, Kind, MOST, Message, Value};
use crate::namespaces::uid_outside;

/// Where the bus itself is.
const BUS: (&str, &str, &str) = (
    "org.freedesktop.DBus",
    "/org/freedesktop/DBus",
    "org.freedesktop.DBus",
);
/// Signals that are kept while an answer is waited for; older ones are forgotten.
const SIGNALS_KEPT: usize = 256;
/// Bytes that systemd's first read does not take at once.
const LONG: usize = 4096;
/// Most bytes of a line while authenticating.
const LINE_MOST: usize = 512;

/// Who is called: name on the bus, path of the object, interface.
pub(super) type Object<'a> = (&'a str, &'a str, &'a str);

/// A connection.
#[derive(Debug)]
pub(super) struct Connection {
    stream: UnixStream,
    until: Instant,
    serial: u32,
    signals: VecDeque<Message>,
}

impl Connection {
    /// Connects and says who we are. A bus gives its callers names; systemd's own socket does not.
    pub fn open(path: &Path, is_bus: bool, limit: Duration) -> Result<Self, SystemdError> {
        let stream = UnixStream::connect(path).map_err(|source| SystemdError::Connect {
            path: path.to_owned(),
            source,
        })?;
        let mut connection = Self {
            stream,
            until: Instant::now() + limit,
            serial: 0,
            signals: VecDeque::new(),
        };
        connection.authenticate()?;
        if is_bus {
            connection.call(BUS, "Hello", Vec::new())?;
        } else {
            // systemd reads at most 256 bytes with the end of the authentication, and waits for more when what follows
            // has come with them and is whole. So the first message is longer.
            let path = format!("/{}", "long".repeat(LONG / 4));
            connection.call(("", &path, "org.freedesktop.DBus.Peer"), "Ping", Vec::new())?;
        }
        Ok(connection)
    }

    /// Asks the bus for signals.
    pub fn listen(&mut self, rule: &str) -> Result<(), SystemdError> {
        self.call(BUS, "AddMatch", vec![Value::text(rule)])
            .map(drop)
    }

    /// SASL with EXTERNAL: the kernel tells the other side who we are, and we say the same.
    fn authenticate(&mut self) -> Result<(), SystemdError> {
        let uid = uid_outside().to_string();
        let hex: String = uid.bytes().map(|byte| format!("{byte:02x}")).collect();
        self.write(format!("\0AUTH EXTERNAL {hex}\r\n").as_bytes())?;
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            // Byte by byte: what follows the line belongs to the messages.
            let mut byte = [0];
            self.read(&mut byte)?;
            line.push(byte[0]);
            if line.len() > LINE_MOST {
                return Err(SystemdError::Protocol("a line that is too long"));
            }
        }
        if !line.starts_with(b"OK ") {
            let said = String::from_utf8_lossy(&line).trim().to_owned();
            return Err(SystemdError::Refused { said });
        }
        self.write(b"BEGIN\r\n")
    }

    /// Calls a method and returns what it returns.
    pub fn call(
        &mut self,
        (destination, path, interface): Object<'_>,
        member: &str,
        body: Vec<Value>,
    ) -> Result<Vec<Value>, SystemdError> {
        self.serial += 1;
        let call = Message {
            serial: self.serial,
            path: Some(path.to_owned()),
            interface: Some(interface.to_owned()),
            member: Some(member.to_owned()),
            destination: Some(destination.to_owned()).filter(|name| !name.is_empty()),
            body,
            ..Message::new(Kind::Call)
        };
        self.write(&call.encode())?;
        loop {
            let message = self.next()?;
            match message.kind {
                Kind::Return if message.reply_to == Some(self.serial) => return Ok(message.body),
                Kind::Error if message.reply_to == Some(self.serial) => {
                    let text = message.body.first().and_then(Value::as_text);
                    return Err(SystemdError::Call {
                        method: member.to_owned(),
                        name: message.error.unwrap_or_default(),
                        message: text.unwrap_or_default().to_owned(),
                    });
                }
                Kind::Signal => self.keep(message),
                // Answers to nobody, and calls, which we do not take.
                _ => {}
            }
        }
    }

    fn keep(&mut self, signal: Message) {
        if self.signals.len() == SIGNALS_KEPT {
            self.signals.pop_front();
        }
        self.signals.push_back(signal);
    }

    /// The next signal of that name, those that came meanwhile first.
    pub fn signal(&mut self, member: &str) -> Result<Message, SystemdError> {
        let is_it = |message: &Message| message.member.as_deref() == Some(member);
        if let Some(at) = self.signals.iter().position(is_it)
            && let Some(signal) = self.signals.remove(at)
        {
            return Ok(signal);
        }
        loop {
            let message = self.next()?;
            if message.kind == Kind::Signal && is_it(&message) {
                return Ok(message);
            }
        }
    }

    fn next(&mut self) -> Result<Message, SystemdError> {
        loop {
            let mut fixed = [0; FIXED];
            self.read(&mut fixed)?;
            let length = Message::length(&fixed)?;
            if length > MOST {
                return Err(SystemdError::Protocol("a message that is too long"));
            }
            let mut bytes = fixed.to_vec();
            bytes.resize(length, 0);
            self.read(&mut bytes[FIXED..])?;
            if let Some(message) = Message::decode(&bytes)? {
                return Ok(message);
            }
        }
    }

    fn left(&self) -> Result<Duration, SystemdError> {
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(SystemdError::Timeout);
        }
        Ok(left)
    }

    fn read(&mut self, mut bytes: &mut [u8]) -> Result<(), SystemdError> {
        while !bytes.is_empty() {
            let limit = self.stream.set_read_timeout(Some(self.left()?));
            match limit.and_then(|()| self.stream.read(bytes)) {
                Ok(0) => return Err(SystemdError::Protocol("the end of the connection")),
                Ok(count) => bytes = &mut bytes[count..],
                Err(error) => Self::check("read", error)?,
            }
        }
        Ok(())
    }

    fn write(&mut self, mut bytes: &[u8]) -> Result<(), SystemdError> {
        while !bytes.is_empty() {
            let limit = self.stream.set_write_timeout(Some(self.left()?));
            match limit.and_then(|()| self.stream.write(bytes)) {
                Ok(count) => bytes = &bytes[count..],
                Err(error) => Self::check("write", error)?,
            }
        }
        Ok(())
    }

    fn check(call: &'static str, source: std::io::Error) -> Result<(), SystemdError> {
        match source.kind() {
            ErrorKind::Interrupted => Ok(()),
            ErrorKind::WouldBlock | ErrorKind::TimedOut => Err(SystemdError::Timeout),
            _ => Err(SystemdError::Io { call, source }),
        }
    }
}
