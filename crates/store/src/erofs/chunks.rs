//! Where a file's chunks are: in the tar, in the image itself, nowhere.
//!
//! A file's data in an archive begins at a block, so an ordinary file is one chunk, however long. Sparse files are made
//! of pieces that need not begin or end at blocks: what does not fit is copied into the image, in chunks of the size
//! that costs least, indexes and copies together.

use super::format::{BLOCK_BITS, BLOCK_BYTES, CHUNK_INDEX_BYTES, MAX_CHUNK_BITS};

/// What a piece may cost in indexes beside its own bytes: few bytes of an archive must not become many of a disk.
const BYTES_A_PIECE: u64 = 8 << 10;

/// A stored piece of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// Where in the file, in bytes.
    pub offset: u64,
    /// How long, in bytes; not 0.
    pub length: u64,
    /// Where in the tar, in bytes.
    pub tar: u64,
}

impl Piece {
    fn end(&self) -> u64 {
        self.offset + self.length
    }

    fn is_aligned(&self) -> bool {
        self.offset % BLOCK_BYTES == self.tar % BLOCK_BYTES
    }
}

/// A file's data.
#[derive(Debug, Clone)]
pub struct Map<'a> {
    /// Length of the file, not 0.
    pub size: u64,
    /// In order, not overlapping, within the file.
    pub pieces: &'a [Piece],
    /// The last block of the last piece is filled up with zeros in the tar.
    pub filled: bool,
}

/// Where a chunk is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chunk {
    /// Zeros.
    Hole,
    /// In the tar, at this byte.
    Tar(u64),
    /// Made of these pieces, or of parts of them.
    Mixed {
        /// The first.
        first: usize,
        /// Behind the last.
        end: usize,
    },
}

/// What a chunk size costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cost {
    indexes: u64,
    copied: u64,
    /// Chunks that are copied.
    mixed: u64,
}

impl Map<'_> {
    /// The best chunk size as a power of two, and the bytes of the image that copied chunks take, if at most
    /// `max_bytes` will do, and what is written is in proportion to what the archive has.
    pub fn chunk_bits(&self, max_bytes: u64) -> Option<(u8, u64)> {
        let mut best: Option<(u64, u8, u64)> = None;
        let stored = self.pieces.iter().map(|piece| piece.length).sum::<u64>();
        let bound = stored + (self.pieces.len() as u64 + 8) * BYTES_A_PIECE;
        for bits in (BLOCK_BITS..=MAX_CHUNK_BITS).rev() {
            let cost = self.cost(bits);
            let Some(room) = cost
                .mixed
                .checked_mul(1 << bits)
                .filter(|room| *room <= max_bytes)
            else {
                continue;
            };
            let bytes = cost
                .indexes
                .saturating_mul(CHUNK_INDEX_BYTES)
                .saturating_add(cost.copied);
            if bytes > bound {
                continue;
            }
            // The smallest of the sizes that are as good: for an ordinary file the one that just holds it.
            if best.is_none_or(|(least, ..)| bytes <= least) {
                best = Some((bytes, bits, room));
            }
        }
        best.map(|(_, bits, room)| (bits, room))
    }

    fn cost(&self, bits: u8) -> Cost {
        let chunk = 1u64 << bits;
        let mut cost = Cost {
            indexes: self.size.div_ceil(chunk),
            copied: 0,
            mixed: 0,
        };
        let mut last: Option<u64> = None;
        let mut mix = |first: u64, end: u64, bytes: u64, cost: &mut Cost| {
            cost.copied = cost.copied.saturating_add(bytes);
            cost.mixed += end - first - u64::from(last == Some(first));
            last = Some(end - 1);
        };
        for piece in self.pieces {
            let (first, end) = (piece.offset >> bits, ((piece.end() - 1) >> bits) + 1);
            let head = piece.offset % chunk;
            let tail = if self.ends_well(piece) {
                0
            } else {
                piece.end() % chunk
            };
            if !piece.is_aligned() || (end - first == 1 && (head != 0 || tail != 0)) {
                mix(first, end, piece.length, &mut cost);
                continue;
            }
            if head != 0 {
                mix(first, first + 1, chunk - head, &mut cost);
            }
            if tail != 0 {
                mix(end - 1, end, tail, &mut cost);
            }
        }
        cost
    }

    /// Whether a chunk may end with this piece although it is longer: behind the file's end are only zeros.
    fn ends_well(&self, piece: &Piece) -> bool {
        piece.end() == self.size && (self.filled || self.size.is_multiple_of(BLOCK_BYTES))
    }

    /// All chunks, in order.
    pub fn chunks(&self, bits: u8) -> impl Iterator<Item = Chunk> + '_ {
        let mut next = 0;
        (0..self.size.div_ceil(1 << bits)).map(move |number| {
            let start = number << bits;
            let end = start.saturating_add(1 << bits).min(self.size);
            while self
                .pieces
                .get(next)
                .is_some_and(|piece| piece.end() <= start)
            {
                next += 1;
            }
            let touched = self.pieces[next..]
                .iter()
                .take_while(|piece| piece.offset < end)
                .count();
            match self.pieces.get(next) {
                Some(_) if touched == 0 => Chunk::Hole,
                None => Chunk::Hole,
                Some(piece) => {
                    let whole = piece.offset <= start
                        && (piece.end() >= start.saturating_add(1 << bits)
                            || (piece.end() >= end && self.ends_well(piece)));
                    if whole && piece.is_aligned() {
                        Chunk::Tar(piece.tar + (start - piece.offset))
                    } else {
                        Chunk::Mixed {
                            first: next,
                            end: next + touched,
                        }
                    }
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(offset: u64, length: u64, tar: u64) -> Piece {
        Piece {
            offset,
            length,
            tar,
        }
    }

    #[test]
    fn an_ordinary_file_is_one_chunk() {
        for size in [1, 511, 512, 513, 100_000, 5 << 30] {
            let pieces = [piece(0, size, 1024)];
            let map = Map {
                size,
                pieces: &pieces,
                filled: true,
            };
            let (bits, room) = map.chunk_bits(0).unwrap();
            assert!(1 << bits >= size && room == 0, "{size}: {bits}");
            assert_eq!(map.chunks(bits).collect::<Vec<_>>(), [Chunk::Tar(1024)]);
        }
    }

    #[test]
    fn a_tail_with_rubbish_behind_it_is_copied() {
        let pieces = [piece(0, 100_001, 1024)];
        let map = Map {
            size: 100_001,
            pieces: &pieces,
            filled: false,
        };
        let (bits, room) = map.chunk_bits(1 << 20).unwrap();
        assert_eq!(room, 1 << bits);
        let chunks: Vec<_> = map.chunks(bits).collect();
        assert!(matches!(
            chunks.last(),
            Some(Chunk::Mixed { first: 0, end: 1 })
        ));
        assert!(map.chunk_bits(100).is_none());
    }

    #[test]
    fn holes_cost_nothing_and_odd_pieces_are_copied() {
        let pieces = [
            piece(4096, 4096, 512),
            piece(1 << 20, 700, 4608),
            piece((1 << 20) + 2048, 512, 5308),
        ];
        let map = Map {
            size: 1 << 30,
            pieces: &pieces,
            filled: true,
        };
        for bits in 9..=16 {
            let cost = map.cost(bits);
            let mixed = map
                .chunks(bits)
                .filter(|chunk| matches!(chunk, Chunk::Mixed { .. }))
                .count();
            assert_eq!(cost.mixed, mixed as u64, "{bits}");
            assert_eq!(cost.indexes, map.chunks(bits).count() as u64);
        }
        assert!(map.chunk_bits(1 << 40).is_some());
    }
}
