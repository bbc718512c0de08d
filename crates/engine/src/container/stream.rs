//! Frames of an attached connection: one byte kind, four bytes big-endian length, payload of at most
//! [`MAX_FRAME_BYTES`].

use std::io::{self, Read, Write};

use super::state::ExitRecord;

/// The longest payload.
pub const MAX_FRAME_BYTES: usize = 1 << 16;

/// What a frame carries.
#[derive(Debug, Clone, PartialEq)]
pub enum Frame {
    /// Client to monitor: bytes for standard input.
    Stdin(Vec<u8>),
    /// Client to monitor: standard input has ended.
    StdinEnd,
    /// Client to monitor: terminal size.
    Resize {
        /// Rows.
        rows: u16,
        /// Columns.
        columns: u16,
    },
    /// Client to monitor: a signal for this process (exec sessions and init alike).
    Signal(i32),
    /// Monitor to client.
    Stdout(Vec<u8>),
    /// Monitor to client.
    Stderr(Vec<u8>),
    /// Monitor to client, the last frame: how the process ended.
    Exit(ExitRecord),
}

/// Kind of [`Frame::Stdout`].
pub const STDOUT: u8 = 1;
/// Kind of [`Frame::Stderr`].
pub const STDERR: u8 = 2;

/// The header of a frame, for writers that send a payload without copying it; `length` is at most
/// [`MAX_FRAME_BYTES`].
pub fn header(kind: u8, length: usize) -> [u8; 5] {
    let [a, b, c, d] = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
    [kind, a, b, c, d]
}

/// Writes one frame.
///
/// # Errors
/// The writer's; `InvalidInput` for a payload above [`MAX_FRAME_BYTES`].
pub fn write_frame(writer: &mut impl Write, frame: &Frame) -> io::Result<()> {
    let (kind, payload) = encode(frame);
    if payload.len() > MAX_FRAME_BYTES {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "frame too long",
        ));
    }
    let mut bytes = Vec::with_capacity(5 + payload.len());
    bytes.extend_from_slice(&header(kind, payload.len()));
    bytes.extend_from_slice(&payload);
    writer.write_all(&bytes)
}

/// Reads one frame; None at a clean end of the stream.
///
/// # Errors
/// The reader's; `InvalidData` for a frame that is not one; `UnexpectedEof` for half a frame.
pub fn read_frame(reader: &mut impl Read) -> io::Result<Option<Frame>> {
    let mut header = [0u8; 5];
    let mut have = 0;
    while have < header.len() {
        match reader.read(&mut header[have..]) {
            Ok(0) if have == 0 => return Ok(None),
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => have += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    let length = u32::from_be_bytes([header[1], header[2], header[3], header[4]]) as usize;
    if length > MAX_FRAME_BYTES {
        return Err(invalid());
    }
    let mut payload = vec![0; length];
    reader.read_exact(&mut payload)?;
    decode(header[0], payload).map(Some)
}

/// Takes one whole frame from the front of `buffer`, for readers that poll; None if more bytes are needed.
///
/// # Errors
/// `InvalidData` for a frame that is not one.
pub fn take_frame(buffer: &mut Vec<u8>) -> io::Result<Option<Frame>> {
    let Some(header) = buffer.first_chunk::<5>() else {
        return Ok(None);
    };
    let length = u32::from_be_bytes([header[1], header[2], header[3], header[4]]) as usize;
    if length > MAX_FRAME_BYTES {
        return Err(invalid());
    }
    if buffer.len() < 5 + length {
        return Ok(None);
    }
    let kind = header[0];
    let payload = buffer[5..5 + length].to_vec();
    buffer.drain(..5 + length);
    decode(kind, payload).map(Some)
}

/// Kind and payload of a frame.
pub fn encode(frame: &Frame) -> (u8, Vec<u8>) {
    match frame {
        Frame::Stdin(bytes) => (0, bytes.clone()),
        Frame::Stdout(bytes) => (STDOUT, bytes.clone()),
        Frame::Stderr(bytes) => (STDERR, bytes.clone()),
        Frame::StdinEnd => (3, Vec::new()),
        Frame::Resize { rows, columns } => {
            (4, [rows.to_be_bytes(), columns.to_be_bytes()].concat())
        }
        Frame::Signal(signal) => (5, signal.to_be_bytes().to_vec()),
        Frame::Exit(record) => (6, serde_json::to_vec(record).unwrap_or_default()),
    }
}

fn decode(kind: u8, payload: Vec<u8>) -> io::Result<Frame> {
    Ok(match kind {
        0 => Frame::Stdin(payload),
        STDOUT => Frame::Stdout(payload),
        STDERR => Frame::Stderr(payload),
        3 => Frame::StdinEnd,
        4 => {
            let [a, b, c, d] = payload.try_into().map_err(|_| invalid())?;
            Frame::Resize {
                rows: u16::from_be_bytes([a, b]),
                columns: u16::from_be_bytes([c, d]),
            }
        }
        5 => Frame::Signal(i32::from_be_bytes(
            payload.try_into().map_err(|_| invalid())?,
        )),
        6 => Frame::Exit(serde_json::from_slice(&payload)?),
        _ => return Err(invalid()),
    })
}

fn invalid() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        "not a frame of an attached connection",
    )
}
