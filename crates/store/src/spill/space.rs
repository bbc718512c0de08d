//! A growing array of bytes in blocks, the first of them in memory.

use std::cell::OnceCell;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{Backing, POOL_BYTES};

/// Bytes of a block.
pub(crate) const BLOCK_BYTES: usize = 64 << 10;

/// Bytes that blocks in memory have now, all together.
static TAKEN: AtomicUsize = AtomicUsize::new(0);

/// A block's worth of the pool.
#[derive(Debug)]
struct Share;

impl Share {
    fn take() -> Option<Self> {
        let more = |taken| (taken + BLOCK_BYTES <= POOL_BYTES).then_some(taken + BLOCK_BYTES);
        TAKEN
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more)
            .ok()
            .map(|_| Self)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        TAKEN.fetch_sub(BLOCK_BYTES, Ordering::Relaxed);
    }
}

#[derive(Debug)]
enum Block {
    Memory(Box<[u8]>, #[allow(dead_code)] Share),
    /// In the backing, from here on.
    Disk(u64),
}

/// Bytes by their place. Nothing that is read or written in one call may be in two blocks. A failure of the disk is
/// kept, and told by [`Space::failure`]: until then what cannot be read is zeros.
#[derive(Debug)]
pub(crate) struct Space {
    backing: Arc<Backing>,
    blocks: Vec<Block>,
    failed: OnceCell<io::Error>,
}

impl Space {
    pub fn new(backing: &Arc<Backing>) -> Self {
        Self {
            backing: backing.clone(),
            blocks: Vec::new(),
            failed: OnceCell::new(),
        }
    }

    /// Makes it at least this long; what is new is zeros.
    pub fn grow(&mut self, bytes: usize) {
        while self.blocks.len() * BLOCK_BYTES < bytes {
            self.blocks.push(match Share::take() {
                Some(share) => Block::Memory(vec![0; BLOCK_BYTES].into(), share),
                None => Block::Disk(self.backing.region(BLOCK_BYTES as u64)),
            });
        }
    }

    /// Makes it empty.
    pub fn clear(&mut self) {
        self.blocks = Vec::new();
    }

    /// The first place from `at` on where so many bytes are in one block.
    pub fn fit(at: usize, bytes: usize) -> usize {
        match at % BLOCK_BYTES + bytes > BLOCK_BYTES {
            true => at.next_multiple_of(BLOCK_BYTES),
            false => at,
        }
    }

    /// Reads, into `buffer` if need be.
    pub fn get<'a>(&'a self, at: usize, bytes: usize, buffer: &'a mut [u8; 256]) -> &'a [u8] {
        let within = at % BLOCK_BYTES;
        match &self.blocks[at / BLOCK_BYTES] {
            Block::Memory(block, _) => &block[within..within + bytes],
            Block::Disk(start) => {
                let read = self
                    .backing
                    .read(start + within as u64, &mut buffer[..bytes]);
                self.note(read);
                &buffer[..bytes]
            }
        }
    }

    /// Reads a record of fixed length.
    pub fn record<const N: usize>(&self, at: usize) -> [u8; N] {
        let mut record = [0; N];
        let within = at % BLOCK_BYTES;
        match &self.blocks[at / BLOCK_BYTES] {
            Block::Memory(block, _) => record.copy_from_slice(&block[within..within + N]),
            Block::Disk(start) => {
                let read = self.backing.read(start + within as u64, &mut record);
                self.note(read);
            }
        }
        record
    }

    /// Writes, where it has grown to.
    pub fn put(&mut self, at: usize, bytes: &[u8]) {
        let within = at % BLOCK_BYTES;
        match &mut self.blocks[at / BLOCK_BYTES] {
            Block::Memory(block, _) => block[within..within + bytes.len()].copy_from_slice(bytes),
            Block::Disk(start) => {
                let written = self.backing.write(*start + within as u64, bytes);
                self.note(written);
            }
        }
    }

    fn note(&self, result: io::Result<()>) {
        if let Err(error) = result {
            // The first failure explains what follows.
            let _ = self.failed.set(error);
        }
    }

    /// What went wrong so far.
    pub fn failure(&self) -> io::Result<()> {
        match self.failed.get() {
            Some(error) => Err(match error.raw_os_error() {
                Some(number) => io::Error::from_raw_os_error(number),
                None => error.kind().into(),
            }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_into_memory_is_on_disk() {
        let backing = Arc::new(Backing::behind(tempfile::tempfile().unwrap(), 1 << 30));
        let mut space = Space::new(&backing);
        let blocks = POOL_BYTES / BLOCK_BYTES + 3;
        space.grow(blocks * BLOCK_BYTES);
        assert!(matches!(space.blocks[blocks - 1], Block::Disk(_)));
        for block in 0..blocks {
            assert_eq!(space.record::<4>(block * BLOCK_BYTES), [0; 4]);
            space.put(block * BLOCK_BYTES + 8, &(block as u32).to_le_bytes());
        }
        let mut buffer = [0; 256];
        for block in 0..blocks {
            let at = block * BLOCK_BYTES + 8;
            assert_eq!(space.record(at), (block as u32).to_le_bytes());
            assert_eq!(space.get(at, 4, &mut buffer), (block as u32).to_le_bytes());
        }
        space.failure().unwrap();
        assert_eq!(Space::fit(BLOCK_BYTES - 3, 4), BLOCK_BYTES);
        assert_eq!(Space::fit(BLOCK_BYTES - 4, 4), BLOCK_BYTES - 4);
    }
}
