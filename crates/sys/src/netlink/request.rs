//! The encoder: messages and attributes to the kernel.

use super::{ATTRIBUTE_BYTES, DUMP, Error, HEADER_BYTES};

/// `NLM_F_REQUEST`; every request has it.
pub(super) const REQUEST: u16 = 0x1;
/// `NLA_F_NESTED`.
const NESTED: u16 = 0x8000;

/// One datagram of messages to the kernel.
#[derive(Debug, Default)]
pub struct Request {
    pub(super) bytes: Vec<u8>,
    too_long: bool,
    pub(super) dump: bool,
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
    pub(super) fn finish(&mut self, first: u32) -> Result<u32, Error> {
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
