//! One 512-byte header, taken apart and put together.

use super::{BLOCK_BYTES, Problem};

/// One block.
pub type Block = [u8; BLOCK_BYTES];

/// Where the fields are (tar.h).
mod field {
    use std::ops::Range;
    pub const NAME: Range<usize> = 0..100;
    pub const MODE: Range<usize> = 100..108;
    pub const UID: Range<usize> = 108..116;
    pub const GID: Range<usize> = 116..124;
    pub const SIZE: Range<usize> = 124..136;
    pub const MTIME: Range<usize> = 136..148;
    pub const CHECKSUM: Range<usize> = 148..156;
    pub const TYPE: usize = 156;
    pub const LINK: Range<usize> = 157..257;
    pub const MAGIC: Range<usize> = 257..265;
    pub const MAJOR: Range<usize> = 329..337;
    pub const MINOR: Range<usize> = 337..345;
    pub const PREFIX: Range<usize> = 345..500;
    /// Jörg Schilling's tar has times behind a shorter prefix, and says so at the end.
    pub const STAR_PREFIX: Range<usize> = 345..476;
    pub const STAR_TRAILER: Range<usize> = 508..512;
    /// Old GNU sparse files: four pieces, more to follow, length with holes.
    pub const GNU_SPARSE: Range<usize> = 386..482;
    pub const GNU_EXTENDED: usize = 482;
    pub const GNU_REAL_SIZE: Range<usize> = 483..495;
}

/// The fields of a header as they are; extended headers may overrule them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    pub path: Vec<u8>,
    pub mode: u32,
    pub uid: u64,
    pub gid: u64,
    pub size: u64,
    pub mtime: i64,
    pub kind: u8,
    pub link: Vec<u8>,
    pub major: u32,
    pub minor: u32,
}

/// The end of an archive is marked by blocks of zeros.
pub fn is_zero(block: &Block) -> bool {
    block.iter().all(|byte| *byte == 0)
}

/// Takes a header apart, its checksum checked.
pub fn parse(block: &Block) -> Result<Header, Problem> {
    check(block)?;
    let magic = &block[field::MAGIC];
    let posix = magic.starts_with(b"ustar\0");
    let gnu = magic == b"ustar  \0";
    let mut path = text(&block[field::NAME]).to_vec();
    if posix {
        let star = &block[field::STAR_TRAILER] == b"tar\0";
        let prefix = text(
            &block[if star {
                field::STAR_PREFIX
            } else {
                field::PREFIX
            }],
        );
        if !prefix.is_empty() {
            path = [prefix, b"/", &path].concat();
        }
    }
    let kind = block[field::TYPE];
    let device = |range: std::ops::Range<usize>, name| {
        // Before ustar these bytes mean nothing.
        if (posix || gnu) && matches!(kind, b'3' | b'4') {
            small(&block[range], name)
        } else {
            Ok(0)
        }
    };
    Ok(Header {
        path,
        mode: small(&block[field::MODE], "mode")?,
        uid: unsigned(&block[field::UID], "owner")?,
        gid: unsigned(&block[field::GID], "group")?,
        size: unsigned(&block[field::SIZE], "size")?,
        mtime: number(&block[field::MTIME], "time")?,
        kind,
        link: text(&block[field::LINK]).to_vec(),
        major: device(field::MAJOR, "device number")?,
        minor: device(field::MINOR, "device number")?,
    })
}

/// The old GNU sparse fields: pieces as raw bytes, whether more blocks of them follow, length with holes.
pub fn gnu_sparse(block: &Block) -> Result<(&[u8], bool, u64), Problem> {
    let real_size = unsigned(&block[field::GNU_REAL_SIZE], "size")?;
    Ok((
        &block[field::GNU_SPARSE],
        block[field::GNU_EXTENDED] != 0,
        real_size,
    ))
}

/// Sum of all bytes, those of the checksum field taken as spaces; historic programs summed signed bytes.
fn check(block: &Block) -> Result<(), Problem> {
    let said = number(&block[field::CHECKSUM], "checksum")?;
    let mut unsigned_sum = 0i64;
    let mut signed_sum = 0i64;
    for (at, byte) in block.iter().enumerate() {
        let byte = if field::CHECKSUM.contains(&at) {
            b' '
        } else {
            *byte
        };
        unsigned_sum += i64::from(byte);
        signed_sum += i64::from(byte.cast_signed());
    }
    if said == unsigned_sum || said == signed_sum {
        Ok(())
    } else {
        Err(Problem::Checksum)
    }
}

/// A text field: up to its first NUL.
fn text(bytes: &[u8]) -> &[u8] {
    let end = bytes
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(bytes.len());
    &bytes[..end]
}

/// A number field: octal digits among spaces and NULs, or, with the highest bit set, big-endian binary (GNU).
pub fn number(bytes: &[u8], field: &'static str) -> Result<i64, Problem> {
    match bytes.first() {
        Some(first) if first & 0x80 != 0 => binary(bytes, field),
        _ => octal(bytes, field),
    }
}

fn octal(bytes: &[u8], field: &'static str) -> Result<i64, Problem> {
    let is_filler = |byte: &u8| *byte == b' ' || *byte == 0;
    let start = bytes
        .iter()
        .position(|byte| !is_filler(byte))
        .unwrap_or(bytes.len());
    let rest = &bytes[start..];
    let end = rest.iter().position(is_filler).unwrap_or(rest.len());
    let mut value = 0i64;
    for digit in &rest[..end] {
        if !(b'0'..=b'7').contains(digit) {
            return Err(Problem::Number { field });
        }
        value = value
            .checked_mul(8)
            .and_then(|v| v.checked_add(i64::from(digit - b'0')))
            .ok_or(Problem::Range { field })?;
    }
    Ok(value)
}

/// Two's complement; the highest bit of all is only the mark, the one below it the sign.
fn binary(bytes: &[u8], field: &'static str) -> Result<i64, Problem> {
    let negative = bytes[0] & 0x40 != 0;
    let mut value: i128 = if negative { -1 } else { 0 };
    for (at, byte) in bytes.iter().enumerate() {
        let byte = match at {
            0 if negative => byte | 0x80,
            0 => byte & 0x7f,
            _ => *byte,
        };
        // Twelve bytes at most: fits.
        value = (value << 8) | i128::from(byte);
    }
    i64::try_from(value).map_err(|_| Problem::Range { field })
}

pub fn unsigned(bytes: &[u8], field: &'static str) -> Result<u64, Problem> {
    u64::try_from(number(bytes, field)?).map_err(|_| Problem::Range { field })
}

fn small(bytes: &[u8], field: &'static str) -> Result<u32, Problem> {
    u32::try_from(number(bytes, field)?).map_err(|_| Problem::Range { field })
}

/// The largest numbers that fit as octal digits with a NUL behind them.
pub const MAX_ID: u64 = 0o7_777_777;
/// As [`MAX_ID`], of the twelve-byte fields.
pub const MAX_LONG: u64 = 0o77_777_777_777;

/// Where a path longer than the name field can be cut so that both parts fit, if it can: at a slash.
pub fn split_at(path: &[u8]) -> Option<usize> {
    let last = path.len().min(field::PREFIX.len());
    (1..=last).rev().find(|at| {
        path.get(*at) == Some(&b'/') && (1..=field::NAME.len()).contains(&(path.len() - at - 1))
    })
}

/// Puts a ustar header together. Fields that do not fit are cut: the caller has written an extended header for them.
pub fn build(header: &Header) -> Block {
    let mut block = [0u8; BLOCK_BYTES];
    let (prefix, name) = match header.path.len() > field::NAME.len() {
        true => match split_at(&header.path) {
            Some(at) => (&header.path[..at], &header.path[at + 1..]),
            None => (&[][..], &header.path[..field::NAME.len()]),
        },
        false => (&[][..], &header.path[..]),
    };
    block[..name.len()].copy_from_slice(name);
    block[field::PREFIX.start..field::PREFIX.start + prefix.len()].copy_from_slice(prefix);
    let link = &header.link[..header.link.len().min(field::LINK.len())];
    block[field::LINK.start..field::LINK.start + link.len()].copy_from_slice(link);
    let mut put = |range: std::ops::Range<usize>, value: u64, largest: u64| {
        let digits = format!("{:0width$o}\0", value.min(largest), width = range.len() - 1);
        block[range].copy_from_slice(digits.as_bytes());
    };
    put(field::MODE, u64::from(header.mode), MAX_ID);
    put(field::UID, header.uid, MAX_ID);
    put(field::GID, header.gid, MAX_ID);
    put(field::SIZE, header.size, MAX_LONG);
    put(
        field::MTIME,
        u64::try_from(header.mtime).unwrap_or(0),
        MAX_LONG,
    );
    put(field::MAJOR, u64::from(header.major), MAX_ID);
    put(field::MINOR, u64::from(header.minor), MAX_ID);
    block[field::TYPE] = header.kind;
    block[field::MAGIC].copy_from_slice(b"ustar\x0000");
    block[field::CHECKSUM].fill(b' ');
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[field::CHECKSUM].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}
