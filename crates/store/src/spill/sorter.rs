//! Sorting by runs: each is sorted in memory and written, and all are read in step at the end.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::sync::Arc;

use super::Backing;

/// Bytes of keys and values of one run.
const RUN_BYTES: usize = 2 << 20;
/// Bytes that are read of a run at once.
const READ_BYTES: usize = 16 << 10;
/// In front of each item of a run: lengths of key and value.
const HEAD_BYTES: usize = 4;

/// Collects pairs of a key and a value, each of at most 64 KiB.
#[derive(Debug)]
pub(crate) struct Sorter {
    backing: Arc<Backing>,
    /// Items of the run that is being collected, one after the other.
    bytes: Vec<u8>,
    /// Where each begins.
    items: Vec<u32>,
    /// Where finished runs are in the backing.
    runs: Vec<(u64, u64)>,
}

impl Sorter {
    pub fn new(backing: &Arc<Backing>) -> Self {
        Self {
            backing: backing.clone(),
            bytes: Vec::new(),
            items: Vec::new(),
            runs: Vec::new(),
        }
    }

    /// Adds a pair.
    ///
    /// # Errors
    /// The disk's.
    pub fn push(&mut self, key: &[u8], value: &[u8]) -> io::Result<()> {
        let item = HEAD_BYTES + key.len() + value.len();
        // Items cost their place too: many short ones fill a run as few long ones do.
        let full = self.bytes.len() + item + 4 * self.items.len() > RUN_BYTES;
        if full && !self.items.is_empty() {
            self.end_run()?;
        }
        let length = |bytes: &[u8]| {
            u16::try_from(bytes.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))
        };
        let head = [length(key)?.to_le_bytes(), length(value)?.to_le_bytes()];
        // Runs are far shorter than what 32 bits count.
        self.items.push(self.bytes.len() as u32);
        self.bytes.extend_from_slice(head.as_flattened());
        self.bytes.extend_from_slice(key);
        self.bytes.extend_from_slice(value);
        Ok(())
    }

    fn sort(&mut self) {
        let bytes = &self.bytes;
        self.items
            .sort_unstable_by(|a, b| pair(bytes, *a as usize).cmp(&pair(bytes, *b as usize)));
    }

    fn end_run(&mut self) -> io::Result<()> {
        self.sort();
        let start = self.backing.region(self.bytes.len() as u64);
        let mut out = Vec::with_capacity(2 * READ_BYTES);
        let mut at = start;
        for item in &self.items {
            out.extend_from_slice(whole(&self.bytes, *item as usize));
            if out.len() >= READ_BYTES {
                self.backing.write(at, &out)?;
                at += out.len() as u64;
                out.clear();
            }
        }
        self.backing.write(at, &out)?;
        self.runs.push((start, start + self.bytes.len() as u64));
        self.bytes.clear();
        self.items.clear();
        Ok(())
    }

    /// All pairs, by key and then by value.
    ///
    /// # Errors
    /// The disk's.
    pub fn finish(mut self) -> io::Result<Merge> {
        let backing = self.backing.clone();
        if self.runs.is_empty() {
            self.sort();
            return Ok(Merge::Memory {
                bytes: self.bytes,
                items: self.items,
                next: 0,
            });
        }
        if !self.items.is_empty() {
            self.end_run()?;
        }
        self.bytes = Vec::new();
        let mut front = BinaryHeap::new();
        let mut runs: Vec<Run> = self
            .runs
            .iter()
            .map(|(next, end)| Run {
                next: *next,
                end: *end,
                buffer: Vec::new(),
                at: 0,
            })
            .collect();
        for (number, run) in runs.iter_mut().enumerate() {
            front.extend(
                run.item(&backing)?
                    .map(|(key, value)| Reverse((key, value, number))),
            );
        }
        Ok(Merge::Runs {
            backing,
            runs,
            front,
        })
    }
}

/// An item's key and value.
fn pair(bytes: &[u8], at: usize) -> (&[u8], &[u8]) {
    let two = |at: usize| usize::from(u16::from_le_bytes([bytes[at], bytes[at + 1]]));
    let key = at + HEAD_BYTES;
    let value = key + two(at);
    (&bytes[key..value], &bytes[value..value + two(at + 2)])
}

fn whole(bytes: &[u8], at: usize) -> &[u8] {
    let (key, value) = pair(bytes, at);
    &bytes[at..at + HEAD_BYTES + key.len() + value.len()]
}

/// A run being read.
#[derive(Debug)]
pub(crate) struct Run {
    next: u64,
    end: u64,
    buffer: Vec<u8>,
    at: usize,
}

impl Run {
    /// The next item, if there is one.
    fn item(&mut self, backing: &Backing) -> io::Result<Option<(Vec<u8>, Vec<u8>)>> {
        if !self.have(backing, HEAD_BYTES)? {
            return Ok(None);
        }
        let head = &self.buffer[self.at..];
        let two = |at: usize| usize::from(u16::from_le_bytes([head[at], head[at + 1]]));
        let length = HEAD_BYTES + two(0) + two(2);
        if !self.have(backing, length)? {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let (key, value) = pair(&self.buffer, self.at);
        let item = (key.to_vec(), value.to_vec());
        self.at += length;
        Ok(Some(item))
    }

    /// Whether so many bytes are left; they are in the buffer then.
    fn have(&mut self, backing: &Backing, bytes: usize) -> io::Result<bool> {
        if self.buffer.len() - self.at >= bytes {
            return Ok(true);
        }
        self.buffer.drain(..self.at);
        self.at = 0;
        let have = self.buffer.len();
        let more = (self.end - self.next).min(bytes.max(READ_BYTES) as u64) as usize;
        self.buffer.resize(have + more, 0);
        backing.read(self.next, &mut self.buffer[have..])?;
        self.next += more as u64;
        Ok(self.buffer.len() >= bytes)
    }
}

/// The first item of a run, and which run.
type Front = (Vec<u8>, Vec<u8>, usize);

/// Sorted pairs.
#[derive(Debug)]
pub(crate) enum Merge {
    /// There was one run only.
    Memory {
        bytes: Vec<u8>,
        items: Vec<u32>,
        next: usize,
    },
    /// There were several.
    Runs {
        backing: Arc<Backing>,
        runs: Vec<Run>,
        /// The first item of each that has one.
        front: BinaryHeap<Reverse<Front>>,
    },
}

impl Merge {
    /// The next pair.
    ///
    /// # Errors
    /// The disk's.
    pub fn next(&mut self) -> io::Result<Option<(Vec<u8>, Vec<u8>)>> {
        match self {
            Self::Memory { bytes, items, next } => {
                let Some(at) = items.get(*next) else {
                    return Ok(None);
                };
                *next += 1;
                let (key, value) = pair(bytes, *at as usize);
                Ok(Some((key.to_vec(), value.to_vec())))
            }
            Self::Runs {
                backing,
                runs,
                front,
            } => {
                let Some(Reverse((key, value, number))) = front.pop() else {
                    return Ok(None);
                };
                let item = runs[number].item(backing)?;
                front.extend(item.map(|(key, value)| Reverse((key, value, number))));
                Ok(Some((key, value)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_come_back_in_order_from_one_run_and_from_many() {
        for (count, long) in [(1000u32, 3), (300_000, 40)] {
            let backing = Arc::new(Backing::behind(tempfile::tempfile().unwrap(), 4096));
            let mut sorter = Sorter::new(&backing);
            for number in 0..count {
                let key = number.wrapping_mul(2_654_435_761).to_be_bytes();
                let key = [&key[..], &vec![7; number as usize % long]].concat();
                sorter.push(&key, &number.to_le_bytes()).unwrap();
            }
            assert_eq!(sorter.runs.is_empty(), count == 1000);
            let mut merge = sorter.finish().unwrap();
            let (mut last, mut seen) = (Vec::new(), 0);
            while let Some((key, value)) = merge.next().unwrap() {
                assert!(key > last);
                let number = u32::from_le_bytes(value.try_into().unwrap());
                assert_eq!(key[..4], number.wrapping_mul(2_654_435_761).to_be_bytes());
                last = key;
                seen += 1;
            }
            assert_eq!(seen, count);
        }
    }
}
