//! Sparse files: GNU's old header form and its three PAX forms (GNU tar manual, "Sparse Formats").

use super::header::{self, Block};
use super::{Problem, Segment, limit};

/// What extended headers say about a sparse file, collected record by record.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PaxSparse {
    /// Form 1.0: the map is at the beginning of the data.
    pub map_in_data: bool,
    /// Length with holes.
    pub real_size: Option<u64>,
    /// The file's own name; the header's is made up.
    pub name: Option<Vec<u8>>,
    /// Form 0.0 and 0.1: the map.
    pub segments: Vec<Segment>,
    /// Form 0.0: an offset whose length has not come yet.
    offset: Option<u64>,
    /// Whether any of this came.
    pub present: bool,
}

impl PaxSparse {
    /// Takes one record with a key that begins with `GNU.sparse.`.
    pub fn take(&mut self, key: &[u8], value: &[u8]) -> Result<(), Problem> {
        let number = || super::pax::decimal(value).ok_or(Problem::Sparse);
        self.present = true;
        match key {
            b"GNU.sparse.major" => match number()? {
                0 => {}
                1 => self.map_in_data = true,
                _ => return Err(Problem::Sparse),
            },
            b"GNU.sparse.minor" | b"GNU.sparse.numblocks" => {
                number()?;
            }
            b"GNU.sparse.size" | b"GNU.sparse.realsize" => self.real_size = Some(number()?),
            b"GNU.sparse.name" => self.name = Some(value.to_vec()),
            b"GNU.sparse.offset" => {
                if self.offset.replace(number()?).is_some() {
                    return Err(Problem::Sparse);
                }
            }
            b"GNU.sparse.numbytes" => {
                let offset = self.offset.take().ok_or(Problem::Sparse)?;
                self.push(offset, number()?)?;
            }
            b"GNU.sparse.map" => {
                self.segments.clear();
                let mut numbers = value
                    .split(|byte| *byte == b',')
                    .filter(|text| !text.is_empty());
                while let Some(offset) = numbers.next() {
                    let length = numbers.next().ok_or(Problem::Sparse)?;
                    let decimal = |text| super::pax::decimal(text).ok_or(Problem::Sparse);
                    self.push(decimal(offset)?, decimal(length)?)?;
                }
            }
            _ => return Err(Problem::Sparse),
        }
        Ok(())
    }

    fn push(&mut self, offset: u64, length: u64) -> Result<(), Problem> {
        push(&mut self.segments, offset, length)
    }
}

pub fn push(segments: &mut Vec<Segment>, offset: u64, length: u64) -> Result<(), Problem> {
    if segments.len() >= limit::SEGMENTS {
        return Err(Problem::Many {
            what: "sparse pieces",
            limit: limit::SEGMENTS as u64,
        });
    }
    segments.push(Segment { offset, length });
    Ok(())
}

/// Pairs of twelve-byte numbers; an empty field ends them.
pub fn gnu_pieces(bytes: &[u8], segments: &mut Vec<Segment>) -> Result<(), Problem> {
    for pair in bytes.chunks_exact(24) {
        if pair[12] == 0 {
            break;
        }
        let offset = header::unsigned(&pair[..12], "sparse map")?;
        let length = header::unsigned(&pair[12..], "sparse map")?;
        push(segments, offset, length)?;
    }
    Ok(())
}

/// A block of more pieces: 21 of them, then whether yet another block follows.
pub fn gnu_extension(block: &Block, segments: &mut Vec<Segment>) -> Result<bool, Problem> {
    gnu_pieces(&block[..504], segments)?;
    Ok(block[504] != 0)
}

/// Checks that pieces are in order, do not overlap, are within the file and are what is stored; drops empty ones.
pub fn check(
    mut segments: Vec<Segment>,
    real_size: u64,
    stored: u64,
) -> Result<Vec<Segment>, Problem> {
    let mut end = 0u64;
    let mut sum = 0u64;
    for segment in &segments {
        if segment.offset < end {
            return Err(Problem::Sparse);
        }
        end = segment
            .offset
            .checked_add(segment.length)
            .ok_or(Problem::Sparse)?;
        sum += segment.length;
    }
    if end > real_size || sum != stored || i64::try_from(real_size).is_err() {
        return Err(Problem::Sparse);
    }
    segments.retain(|segment| segment.length > 0);
    Ok(segments)
}
