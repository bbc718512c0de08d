//! How output is written to clients: bare, or in frames of `[stream, 0, 0, 0, length as 32 bits big-endian]`.

use crate::reply::{MULTIPLEXED_STREAM, RAW_STREAM};
use crate::version::Version;

/// Number of standard output in frames.
pub const STDOUT: u8 = 1;
/// Number of standard error in frames.
pub const STDERR: u8 = 2;
/// Number of what the engine itself has to say.
pub const ERROR: u8 = 3;

/// The version from which on framed streams say so.
const TYPED_SINCE: Version = Version(1, 42);

/// How output is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// As it is: a terminal has one stream.
    Raw,
    /// In frames that tell the stream.
    Multiplexed,
}

impl Framing {
    /// That of a process with or without a terminal.
    pub fn of(tty: bool) -> Self {
        if tty { Self::Raw } else { Self::Multiplexed }
    }

    /// The content type that a client of that version expects.
    pub fn content_type(self, version: Version) -> &'static str {
        match self {
            Self::Multiplexed if version >= TYPED_SINCE => MULTIPLEXED_STREAM,
            _ => RAW_STREAM,
        }
    }

    /// `payload` of the stream `kind` as it is written.
    pub fn wrap(self, kind: u8, payload: &[u8]) -> Vec<u8> {
        if self == Self::Raw {
            return payload.to_vec();
        }
        let length = u32::try_from(payload.len())
            .unwrap_or(u32::MAX)
            .to_be_bytes();
        let mut frame = Vec::with_capacity(8 + payload.len());
        frame.extend_from_slice(&[kind, 0, 0, 0]);
        frame.extend_from_slice(&length);
        frame.extend_from_slice(payload);
        frame
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_tell_stream_and_length() {
        assert_eq!(
            Framing::Multiplexed.wrap(STDERR, b"hi"),
            b"\x02\0\0\0\0\0\0\x02hi"
        );
        let long = Framing::Multiplexed.wrap(STDOUT, &[b'x'; 0x1_0203]);
        assert_eq!(long[..8], [1, 0, 0, 0, 0, 1, 2, 3]);
        assert_eq!(Framing::Raw.wrap(STDERR, b"hi"), b"hi");
    }

    #[test]
    fn old_clients_get_the_old_type() {
        let content_type = |minor| Framing::Multiplexed.content_type(Version(1, minor));
        assert_eq!(content_type(41), RAW_STREAM);
        assert_eq!(content_type(42), MULTIPLEXED_STREAM);
        assert_eq!(Framing::of(true).content_type(Version(1, 51)), RAW_STREAM);
    }
}
