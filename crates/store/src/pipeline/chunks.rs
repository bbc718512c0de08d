//! Bytes on their way between threads.

use std::fs::File;
use std::io::{self, BufRead, Read, Write};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::outflow::Outflow;

/// Bytes that travel together.
pub(super) const CHUNK_BYTES: usize = 128 << 10;
/// Chunks that are kept for later, at most: what a few passes have between their threads.
const KEPT: usize = 64;

type Kept = Mutex<Vec<Vec<u8>>>;

/// The pool of the passes that go on now: each layer's threads have an allocator's corner of their own, and a pool a pass
/// would leave its chunks in all of them.
static SHARED: Mutex<Weak<Kept>> = Mutex::new(Weak::new());

/// Chunks that have been read, for others to use their memory: what has been here before costs no page faults. Goes
/// with the last pass.
#[derive(Debug, Clone)]
pub(super) struct Pool(Arc<Kept>);

impl Pool {
    /// The pool that all passes of this process have.
    pub fn shared() -> Self {
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(kept) = shared.upgrade() {
            return Self(kept);
        }
        let kept = Arc::default();
        *shared = Arc::downgrade(&kept);
        Self(kept)
    }

    /// A chunk of [`CHUNK_BYTES`], of whatever content.
    pub fn take(&self) -> Vec<u8> {
        let mut chunk = self.kept().pop().unwrap_or_default();
        chunk.resize(CHUNK_BYTES, 0);
        chunk
    }

    /// Gives a chunk back.
    pub fn give(&self, chunk: Vec<u8>) {
        let mut kept = self.kept();
        if chunk.capacity() >= CHUNK_BYTES && kept.len() < KEPT {
            kept.push(chunk);
        }
    }

    /// Nothing is behind the lock that a panic could have left half-done.
    fn kept(&self) -> MutexGuard<'_, Vec<Vec<u8>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A queue of chunks as a stream.
pub(super) struct Chunks {
    chunks: Receiver<Vec<u8>>,
    current: Vec<u8>,
    at: usize,
    pool: Pool,
    /// Held while there are bytes.
    turn: Option<&'static Mutex<()>>,
    taken: Option<MutexGuard<'static, ()>>,
    /// Where each chunk is written before it is read.
    copy: Option<(File, Outflow)>,
}

impl Chunks {
    pub fn new(chunks: Receiver<Vec<u8>>, pool: Pool) -> Self {
        Self {
            chunks,
            current: Vec::new(),
            at: 0,
            pool,
            turn: None,
            taken: None,
            copy: None,
        }
    }

    /// Has bytes only while it holds `turn`.
    pub fn in_turns(mut self, turn: Option<&'static Mutex<()>>) -> Self {
        self.turn = turn;
        self
    }

    /// Writes all bytes to an empty file before they are read.
    pub fn copied_to(mut self, file: Option<File>) -> Self {
        self.copy = file.map(|file| (file, Outflow::default()));
        self
    }

    fn next(&mut self) -> io::Result<()> {
        self.taken = None;
        self.pool.give(std::mem::take(&mut self.current));
        self.at = 0;
        // The other end is gone: the end of the stream, or a failure that it tells itself.
        self.current = self.chunks.recv().unwrap_or_default();
        if let Some((file, outflow)) = &mut self.copy {
            file.write_all(&self.current)?;
            let written = outflow.grew(file, self.current.len() as u64);
            written.map_err(|error| io::Error::from(error.errno))?;
        }
        if let Some(turn) = self.turn.filter(|_| !self.current.is_empty()) {
            // Nothing is behind the lock that a panic could have left half-done.
            self.taken = Some(turn.lock().unwrap_or_else(PoisonError::into_inner));
        }
        Ok(())
    }
}

impl BufRead for Chunks {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.at == self.current.len() {
            self.next()?;
        }
        Ok(&self.current[self.at..])
    }

    fn consume(&mut self, count: usize) {
        self.at = (self.at + count).min(self.current.len());
    }
}

impl Read for Chunks {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let count = available.len().min(buffer.len());
        buffer[..count].copy_from_slice(&available[..count]);
        self.consume(count);
        Ok(count)
    }
}
