//! Zstandard (RFC 8878) with a bound on memory: what a stream wants for its window is known before it begins.

use std::io::{self, BufRead, Read};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use zstd::stream::raw::{DParameter, Decoder as Raw, InBuffer, Operation, OutBuffer};

/// The largest window as a power of two: what the strongest levels of the usual compressors make, without their
/// options for long distances.
const MAX_WINDOW_BITS: u32 = 25;
/// Bytes of all windows at a time. A stream inside of another one (a layer in a compressed archive) has to fit beside it;
/// streams beside each other wait for their turn.
const WINDOWS_BYTES: u64 = 40 << 20;
/// The longest head of a frame: magic, descriptor, window, dictionary, length of the content.
const HEAD_BYTES: usize = 18;

/// Bytes that windows have now: of whole archives, and of layers.
static TAKEN: Mutex<[u64; 2]> = Mutex::new([0; 2]);
static FREED: Condvar = Condvar::new();

/// Whose stream it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Whose {
    /// An archive that may have layers in it.
    Archive = 0,
    /// A layer.
    Layer = 1,
}

/// The right to a window.
#[derive(Debug)]
struct Lease {
    whose: Whose,
    bytes: u64,
}

fn taken() -> MutexGuard<'static, [u64; 2]> {
    // Two numbers, which no panic leaves half-done.
    TAKEN.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Lease {
    /// Waits while others of its kind have too much; None if it would be too much without them.
    fn take(whose: Whose, bytes: u64) -> Option<Self> {
        let mut now = taken();
        loop {
            // An archive's stream does not wait for those of layers, which may be in it.
            let outer = if whose == Whose::Layer { now[0] } else { 0 };
            if outer + now[whose as usize] + bytes <= WINDOWS_BYTES {
                now[whose as usize] += bytes;
                return Some(Self { whose, bytes });
            }
            if now[whose as usize] == 0 {
                return None;
            }
            now = FREED.wait(now).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        taken()[self.whose as usize] -= self.bytes;
        FREED.notify_all();
    }
}

/// A stream of frames, taken off.
pub struct Frames<R> {
    source: R,
    raw: Raw<'static>,
    whose: Whose,
    /// The beginning of a frame, which has not been decoded yet.
    head: Vec<u8>,
    /// In the middle of a frame.
    inside: bool,
    lease: Option<Lease>,
}

impl<R: BufRead> Frames<R> {
    pub(crate) fn new(source: R, whose: Whose) -> io::Result<Self> {
        let mut raw = Raw::new()?;
        raw.set_parameter(DParameter::WindowLogMax(MAX_WINDOW_BITS))?;
        Ok(Self {
            source,
            raw,
            whose,
            head: Vec::new(),
            inside: false,
            lease: None,
        })
    }

    /// Looks at the next frame's head; false at the end of the stream.
    fn begin(&mut self) -> io::Result<bool> {
        while self.head.len() < HEAD_BYTES {
            let available = fill(&mut self.source)?;
            let count = available.len().min(HEAD_BYTES - self.head.len());
            if count == 0 {
                break;
            }
            self.head.extend_from_slice(&available[..count]);
            self.source.consume(count);
        }
        if self.head.is_empty() {
            return Ok(false);
        }
        self.lease = None;
        if let Some(bytes) = window(&self.head) {
            let lease = (bytes <= 1 << MAX_WINDOW_BITS)
                .then(|| Lease::take(self.whose, bytes))
                .flatten();
            self.lease = Some(lease.ok_or_else(|| too_large(bytes))?);
        }
        self.inside = true;
        Ok(true)
    }

    /// Decodes a piece: how much came, and whether the input was at its end.
    fn step(&mut self, buffer: &mut [u8]) -> io::Result<(usize, bool)> {
        let mut out = OutBuffer::around(buffer);
        let (hint, ended) = if self.head.is_empty() {
            let available = fill(&mut self.source)?;
            let ended = available.is_empty();
            let mut input = InBuffer::around(available);
            let hint = self.raw.run(&mut input, &mut out)?;
            let used = input.pos();
            self.source.consume(used);
            (hint, ended)
        } else {
            let mut input = InBuffer::around(&self.head);
            let hint = self.raw.run(&mut input, &mut out)?;
            let used = input.pos();
            self.head.drain(..used);
            (hint, false)
        };
        let count = out.pos();
        if hint == 0 {
            self.inside = false;
            self.raw.reinit()?;
        }
        Ok((count, ended))
    }
}

impl<R: BufRead> Read for Frames<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            if !self.inside && !self.begin()? {
                return Ok(0);
            }
            let (count, ended) = self.step(buffer)?;
            if count > 0 {
                return Ok(count);
            }
            if ended && self.inside {
                return Err(io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    "incomplete frame",
                ));
            }
        }
    }
}

fn fill<R: BufRead>(source: &mut R) -> io::Result<&[u8]> {
    loop {
        match source.fill_buf() {
            Ok(_) => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    // Asked again because the loop's borrow cannot leave it; it does no input.
    source.fill_buf()
}

fn too_large(bytes: u64) -> io::Error {
    let (have, most) = (bytes.div_ceil(1 << 20), (1u64 << MAX_WINDOW_BITS) >> 20);
    io::Error::new(
        io::ErrorKind::Unsupported,
        format!(
            "its window of {have} MiB is more than there is memory for, {most} MiB at most: compress it without --long or --ultra"
        ),
    )
}

/// The window that a frame asks for, in bytes (section 3.1.1.1); None for what is no frame, or has no window.
fn window(head: &[u8]) -> Option<u64> {
    let rest = head.strip_prefix(&[0x28, 0xb5, 0x2f, 0xfd])?;
    let (descriptor, rest) = rest.split_first()?;
    if descriptor & 0x20 == 0 {
        let byte = u64::from(*rest.first()?);
        let base = 1u64 << (10 + (byte >> 3));
        return Some(base + base / 8 * (byte & 7));
    }
    // One segment: the content is the window.
    let dictionary = [0, 1, 2, 4][usize::from(descriptor & 3)];
    let length = [1, 2, 4, 8][usize::from(descriptor >> 6)];
    let field = rest.get(dictionary..dictionary + length)?;
    let value = field
        .iter()
        .rev()
        .fold(0u64, |value, byte| value << 8 | u64::from(*byte));
    Some(if length == 2 { value + 256 } else { value })
}

#[cfg(test)]
mod tests {
    use std::io::BufReader;

    use super::*;

    fn decode(bytes: &[u8], piece: usize, whose: Whose) -> io::Result<Vec<u8>> {
        let mut plain = Vec::new();
        let mut frames = Frames::new(BufReader::with_capacity(piece, bytes), whose)?;
        frames.read_to_end(&mut plain).map(|_| plain)
    }

    #[test]
    fn frames_follow_each_other() {
        let one = zstd::encode_all(&b"hello "[..], 3).unwrap();
        let none = zstd::encode_all(&b""[..], 3).unwrap();
        let long = vec![b'x'; 3 << 20];
        let two = zstd::encode_all(&long[..], 1).unwrap();
        let skip = [&[0x53, 0x2a, 0x4d, 0x18, 5, 0, 0, 0][..], b"12345"].concat();
        let all = [&skip[..], &one, &none, &none, &two, &skip, &one].concat();
        let plain = [b"hello ", &long[..], b"hello "].concat();
        for piece in [1, 3, 17, 4096] {
            assert!(
                decode(&all, piece, Whose::Layer).unwrap() == plain,
                "{piece}"
            );
        }
        let cut = decode(&all[..all.len() - 1], 64, Whose::Layer).unwrap_err();
        assert_eq!(cut.kind(), io::ErrorKind::UnexpectedEof);
        assert!(decode(b"\x28\xb5\x2f\xfd", 64, Whose::Layer).is_err());
        assert!(decode(b"nothing of the kind", 64, Whose::Layer).is_err());
    }

    fn with_window(bits: u32) -> Vec<u8> {
        let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(bits).unwrap();
        io::Write::write_all(&mut encoder, &[7; 100]).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn windows_are_bounded() {
        assert_eq!(window(&with_window(25)), Some(32 << 20));
        assert_eq!(
            decode(&with_window(25), 64, Whose::Layer).unwrap(),
            [7; 100]
        );
        let error = decode(&with_window(27), 64, Whose::Layer).unwrap_err();
        assert!(error.to_string().contains("128 MiB"), "{error}");
        let one_segment = zstd::bulk::compress(&[7; 300], 1).unwrap();
        assert_eq!(window(&one_segment), Some(300));
        // A stream in a stream does not wait for it. In one test: the bound is the process's.
        let outer = Lease::take(Whose::Archive, 32 << 20).unwrap();
        assert!(Lease::take(Whose::Layer, 32 << 20).is_none());
        drop(outer);
        assert!(Lease::take(Whose::Layer, 32 << 20).is_some());
    }
}
