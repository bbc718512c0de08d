//! The decoder: every length is checked, and what does not fit ends it.

use rustix::io::Errno;

use super::{ATTRIBUTE_BYTES, Error, HEADER_BYTES};

/// `NLM_F_ACK_TLVS`: attributes follow the error.
const FLAG_ACK_ATTRIBUTES: u16 = 0x200;
/// `NLM_F_CAPPED`: the error does not repeat the request.
const FLAG_CAPPED: u16 = 0x100;
/// `NLMSGERR_ATTR_MSG`: the kernel's explanation.
const ERROR_TEXT: u16 = 1;
/// `NLA_TYPE_MASK`.
const KIND_MASK: u16 = 0x3fff;

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
    pub(super) sequence: u32,
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
    pub(super) fn error(&self, index: u32) -> Result<Option<Error>, Error> {
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
    pub(super) fn done(&self) -> Option<Error> {
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
