//! One pass from a blob's bytes to a layer's files: the caller feeds bytes, a second thread takes the compression off and
//! hashes, a third makes files. Between them are short queues, so memory is bounded whatever the layer.

use std::io::{self, BufRead, Read};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, MutexGuard, OnceLock};
use std::thread::{Scope, ScopedJoinHandle};

use ketch_spec::Digest;
use ketch_sys::fs as sysfs;
use sha2::{Digest as _, Sha256};

use crate::decode::MAGIC_BYTES;
use crate::tar::{Reader, TarError};
use crate::tree::{Extractor, Totals};
use crate::{Compression, Decoder, Error, Result, Store};

/// Bytes that travel together.
const CHUNK_BYTES: usize = 256 << 10;
/// Chunks that may wait between two threads.
const QUEUE: usize = 4;
/// The longest archive that is unpacked: far above any image, far below what a bomb promises.
const MAX_ARCHIVE_BYTES: u64 = 1 << 40;

/// Layers come in parallel, but making files in parallel makes the kernel slower than one after the other (several
/// times, on ext4): whoever has bytes at hand takes a turn, and gives it back to wait for more.
static TURN: Mutex<()> = Mutex::new(());

/// What came out.
#[derive(Debug)]
pub(crate) struct Unpacked {
    /// Digest of the uncompressed archive.
    pub diff_id: Digest,
    /// What the archive had; only its length if the files were not wanted.
    pub totals: Totals,
    /// Compression that was found.
    pub compression: Compression,
    /// The layer's directory being made, with `tree` in it; None if the files were not wanted.
    pub work: Option<Work>,
}

/// A directory in `ingest/work` that disappears unless it is renamed.
#[derive(Debug)]
pub(crate) struct Work(pub PathBuf);

impl Drop for Work {
    fn drop(&mut self) {
        // What cannot be removed now, the next collection removes.
        let _ = sysfs::remove_tree(&self.0);
    }
}

/// Runs `feed`, which hands a blob's bytes to the [`Feeder`], and returns what it returns and what came of the bytes.
/// An error of `feed` is the first to be told: what follows from it in the other threads is of no interest.
pub(crate) fn run<T>(
    store: &Store,
    want_files: bool,
    feed: impl FnOnce(&mut Feeder<'_, '_>) -> Result<T>,
) -> Result<(T, Result<Unpacked>)> {
    let work = match want_files {
        true => Some(Work(store.work_directory("layer")?)),
        false => None,
    };
    let tree = match &work {
        Some(work) => Some(make_tree(work)?),
        None => None,
    };
    let fault = OnceLock::new();
    std::thread::scope(|scope| {
        let mut feeder = Feeder {
            scope,
            fault: &fault,
            tree,
            state: State::Begin(Vec::new()),
        };
        let fed = feed(&mut feeder)?;
        let unpacked = feeder
            .finish()
            .map(|(diff_id, totals, compression)| Unpacked {
                diff_id,
                totals,
                compression,
                work,
            });
        Ok((fed, unpacked))
    })
}

fn make_tree(work: &Work) -> Result<OwnedFd> {
    let path = work.0.join("tree");
    std::fs::create_dir(&path).map_err(Error::io("mkdir", &path))?;
    let permissions = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&path, permissions).map_err(Error::io("chmod", &path))?;
    Ok(sysfs::open_directory(&path)?)
}

/// What the decoding thread found: diff id and length; None if the extractor stopped listening.
type Decoded = Result<Option<(Digest, u64)>>;

/// Takes a blob's bytes in order.
pub(crate) struct Feeder<'scope, 'env> {
    scope: &'scope Scope<'scope, 'env>,
    /// Set by a thread that stops because of the bytes themselves.
    fault: &'scope OnceLock<()>,
    tree: Option<OwnedFd>,
    state: State<'scope>,
}

enum State<'scope> {
    /// Too few bytes to tell the compression.
    Begin(Vec<u8>),
    Running(Running<'scope>),
    /// A thread has stopped; its error is told at the end.
    Stopped(Running<'scope>),
}

struct Running<'scope> {
    compression: Compression,
    chunks: Option<SyncSender<Vec<u8>>>,
    decoder: ScopedJoinHandle<'scope, Decoded>,
    extractor: Option<ScopedJoinHandle<'scope, Result<Totals>>>,
}

impl<'scope> Feeder<'scope, '_> {
    /// Hands on some bytes. `Ok(false)` says that nobody wants more, because of a failure that is not in the bytes (a full
    /// disk); after a failure that is, the caller should go on to see whether these are the right bytes at all.
    pub fn push(&mut self, bytes: &[u8]) -> Result<bool> {
        if let State::Begin(first) = &mut self.state {
            first.extend_from_slice(bytes);
            if first.len() < MAGIC_BYTES {
                return Ok(true);
            }
            let first = std::mem::take(first);
            self.start(&first)?;
            return self.send(&first);
        }
        self.send(bytes)
    }

    fn send(&mut self, bytes: &[u8]) -> Result<bool> {
        for chunk in bytes.chunks(CHUNK_BYTES) {
            let State::Running(running) = &self.state else {
                break;
            };
            let sent = running
                .chunks
                .as_ref()
                .is_some_and(|chunks| chunks.send(chunk.to_vec()).is_ok());
            if !sent {
                self.state = match std::mem::replace(&mut self.state, State::Begin(Vec::new())) {
                    State::Running(running) => State::Stopped(running),
                    other => other,
                };
            }
        }
        Ok(matches!(self.state, State::Running(_)) || self.fault.get().is_some())
    }

    /// Begins the threads, now that the first bytes are known.
    fn start(&mut self, first: &[u8]) -> Result<()> {
        let compression = Compression::detect(&first[..first.len().min(MAGIC_BYTES)])?;
        let (chunks, compressed) = sync_channel::<Vec<u8>>(QUEUE);
        let (plain_sender, plain) = sync_channel::<Vec<u8>>(QUEUE);
        let fault = self.fault;
        let extractor = self.tree.take().map(|tree| {
            self.scope.spawn(move || {
                let result = extract(tree, plain);
                if result
                    .as_ref()
                    .is_err_and(|error| matches!(error, Error::Tar(error) if error.is_of_content()))
                {
                    let _ = fault.set(());
                }
                result
            })
        });
        let wanted = extractor.is_some().then_some(plain_sender);
        let decoder = self.scope.spawn(move || {
            let result = decode(compression, compressed, wanted);
            if result.is_err() {
                let _ = fault.set(());
            }
            result
        });
        self.state = State::Running(Running {
            compression,
            chunks: Some(chunks),
            decoder,
            extractor,
        });
        Ok(())
    }

    /// No more bytes: waits for the threads. The decoder's error is told before the extractor's, which may only follow
    /// from it.
    fn finish(mut self) -> Result<(Digest, Totals, Compression)> {
        if let State::Begin(first) = &self.state {
            let first = first.clone();
            self.start(&first)?;
            self.send(&first)?;
        }
        let (State::Running(mut running) | State::Stopped(mut running)) = self.state else {
            return Err(Error::Panicked);
        };
        running.chunks = None;
        let decoded = running.decoder.join().map_err(|_| Error::Panicked)?;
        let extracted = running
            .extractor
            .map(|thread| thread.join().map_err(|_| Error::Panicked))
            .transpose()?;
        match (decoded, extracted) {
            (Err(error), _) | (_, Some(Err(error))) => Err(error),
            (Ok(Some((diff_id, archive_bytes))), totals) => {
                let totals = totals.transpose()?.unwrap_or_default();
                Ok((
                    diff_id,
                    Totals {
                        archive_bytes,
                        ..totals
                    },
                    running.compression,
                ))
            }
            // The extractor stops listening only with an error.
            (Ok(None), _) => Err(Error::Panicked),
        }
    }
}

/// Takes the compression off, hashes, hands on.
fn decode(
    compression: Compression,
    chunks: Receiver<Vec<u8>>,
    plain: Option<SyncSender<Vec<u8>>>,
) -> Decoded {
    let mut source = Decoder::new(compression, Chunks::new(chunks, None))?;
    let mut hash = Sha256::new();
    let mut total = 0u64;
    loop {
        let mut chunk = vec![0u8; CHUNK_BYTES];
        let mut have = 0;
        // Full chunks, so that the queue's length means something.
        while have < chunk.len() {
            match source.read(&mut chunk[have..]) {
                Ok(0) => break,
                Ok(count) => have += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => {
                    return Err(Error::Decompress {
                        compression: compression.name(),
                        source,
                    });
                }
            }
        }
        if have == 0 {
            return Ok(Some((Digest::from_sha256(hash.finalize().into()), total)));
        }
        chunk.truncate(have);
        hash.update(&chunk);
        total += have as u64;
        if total > MAX_ARCHIVE_BYTES {
            return Err(Error::TooLarge {
                what: "the layer's archive".into(),
                limit_bytes: MAX_ARCHIVE_BYTES,
            });
        }
        if let Some(plain) = &plain
            && plain.send(chunk).is_err()
        {
            return Ok(None);
        }
    }
}

/// Makes the files, then reads on to the end: what comes behind the archive's end counts for the digest.
fn extract(tree: OwnedFd, plain: Receiver<Vec<u8>>) -> Result<Totals> {
    let mut reader = Reader::new(Chunks::new(plain, Some(&TURN)));
    let totals = Extractor::new(tree).run(&mut reader)?;
    let mut rest = reader.into_inner();
    loop {
        let count = rest
            .fill_buf()
            .map_err(|source| TarError::Read { source })?
            .len();
        if count == 0 {
            return Ok(totals);
        }
        rest.consume(count);
    }
}

/// A queue of chunks as a stream. With a turn, that is held while there are bytes.
struct Chunks {
    chunks: Receiver<Vec<u8>>,
    current: Vec<u8>,
    at: usize,
    turn: Option<&'static Mutex<()>>,
    taken: Option<MutexGuard<'static, ()>>,
}

impl Chunks {
    fn new(chunks: Receiver<Vec<u8>>, turn: Option<&'static Mutex<()>>) -> Self {
        Self {
            chunks,
            current: Vec::new(),
            at: 0,
            turn,
            taken: None,
        }
    }
}

impl BufRead for Chunks {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.at == self.current.len() {
            self.taken = None;
            // The other end is gone: the end of the stream, or a failure that it tells itself.
            self.current = self.chunks.recv().unwrap_or_default();
            self.at = 0;
            if let Some(turn) = self.turn.filter(|_| !self.current.is_empty()) {
                // Nothing is behind the lock that a panic could have left half-done.
                self.taken = Some(
                    turn.lock()
                        .unwrap_or_else(std::sync::PoisonError::into_inner),
                );
            }
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
