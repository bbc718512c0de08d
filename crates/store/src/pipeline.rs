//! One pass from a blob's bytes to a layer: the caller feeds bytes, a second thread takes the compression off, a third
//! hashes, a fourth makes files, or writes the archive and its image. Between them are short queues, so memory is bounded
//! whatever the layer.

use std::fs::File;
use std::io::{self, BufRead, Read, Write};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, MutexGuard, OnceLock};
use std::thread::{Scope, ScopedJoinHandle};

use ketch_spec::Digest;
use ketch_sys::fs as sysfs;
use sha2::{Digest as _, Sha256};

use crate::decode::MAGIC_BYTES;
use crate::erofs::Unsealed;
use crate::tar::{Reader, TarError};
use crate::target::{Making, Target};
use crate::tree::Totals;
use crate::{Compression, Decoder, Error, LayerForm, Result, Store};

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
    /// Digest of the uncompressed archive; None if the blob is that archive, and so has its digest.
    pub diff_id: Option<Digest>,
    /// What the archive had; only its length if the files were not wanted.
    pub totals: Totals,
    /// Compression that was found.
    pub compression: Compression,
    /// The image of a layer that is kept as one.
    pub image: Option<Unsealed>,
    /// The layer's directory being made; None if the files were not wanted.
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
///
/// `form` is the form of layer to make, if one is wanted. `blob` has the bytes in a file by the time they are handed on:
/// an archive that is not compressed need not be written twice.
pub(crate) fn run<T>(
    store: &Store,
    form: Option<LayerForm>,
    blob: &File,
    feed: impl FnOnce(&mut Feeder<'_, '_>) -> Result<T>,
) -> Result<(T, Result<Unpacked>)> {
    let work = match form {
        Some(_) => Some(Work(store.work_directory("layer")?)),
        None => None,
    };
    let target = match (&work, form) {
        (Some(work), Some(form)) => Some(Target::new(form, work, blob)?),
        _ => None,
    };
    let fault = OnceLock::new();
    std::thread::scope(|scope| {
        let mut feeder = Feeder {
            scope,
            fault: &fault,
            target,
            state: State::Begin(Vec::new()),
        };
        let fed = feed(&mut feeder)?;
        let unpacked = feeder.finish().map(|finished| Unpacked {
            diff_id: finished.diff_id,
            totals: finished.totals,
            compression: finished.compression,
            image: finished.image,
            work,
        });
        Ok((fed, unpacked))
    })
}

/// Takes a blob's bytes in order.
pub(crate) struct Feeder<'scope, 'env> {
    scope: &'scope Scope<'scope, 'env>,
    /// Set by a thread that stops because of the bytes themselves.
    fault: &'scope OnceLock<()>,
    target: Option<Target>,
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
    decoder: ScopedJoinHandle<'scope, Result<()>>,
    hasher: ScopedJoinHandle<'scope, Hashed>,
    maker: Option<ScopedJoinHandle<'scope, Result<Made>>>,
}

/// What the last thread made: of an archive, and its image if it is to have one.
type Made = (Totals, Option<Unsealed>);

/// What the hashing thread found: the archive's digest, if it was to be found out, and length.
type Hashed = (Option<Digest>, u64);

/// What all threads found.
struct Finished {
    diff_id: Option<Digest>,
    totals: Totals,
    compression: Compression,
    image: Option<Unsealed>,
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
        let (hashed_sender, hashed) = sync_channel::<Vec<u8>>(QUEUE);
        let (used_sender, used) = sync_channel::<Vec<u8>>(2 * QUEUE);
        let fault = self.fault;
        let maker = match self.target.take() {
            Some(target) => {
                let (making, copy) = target.begin(compression)?;
                Some(self.scope.spawn(move || {
                    let chunks = Chunks {
                        turn: making.makes_files().then_some(&TURN),
                        copy,
                        used: Some(used_sender),
                        ..Chunks::new(hashed)
                    };
                    let result = make(making, chunks);
                    if result.as_ref().is_err_and(
                        |error| matches!(error, Error::Tar(error) if error.is_of_content()),
                    ) {
                        let _ = fault.set(());
                    }
                    result
                }))
            }
            None => None,
        };
        let wanted = maker.is_some().then_some(hashed_sender);
        // What is not compressed is hashed as a blob already.
        let hash = (compression != Compression::None).then(Sha256::new);
        let hasher = self.scope.spawn(move || hash_all(hash, plain, wanted));
        let decoder = self.scope.spawn(move || {
            let result = decode(compression, compressed, &plain_sender, &used);
            if result.is_err() {
                let _ = fault.set(());
            }
            result
        });
        self.state = State::Running(Running {
            compression,
            chunks: Some(chunks),
            decoder,
            hasher,
            maker,
        });
        Ok(())
    }

    /// No more bytes: waits for the threads. The decoder's error is told before the maker's, which may only follow from
    /// it.
    fn finish(mut self) -> Result<Finished> {
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
        let (diff_id, archive_bytes) = running.hasher.join().map_err(|_| Error::Panicked)?;
        let made = running
            .maker
            .map(|thread| thread.join().map_err(|_| Error::Panicked))
            .transpose()?;
        decoded?;
        let (totals, image) = made.transpose()?.unwrap_or_default();
        Ok(Finished {
            diff_id,
            totals: Totals {
                archive_bytes,
                ..totals
            },
            compression: running.compression,
            image,
        })
    }
}

/// Takes the compression off and hands on. Stops when nobody listens any more: whoever stopped says why.
fn decode(
    compression: Compression,
    chunks: Receiver<Vec<u8>>,
    plain: &SyncSender<Vec<u8>>,
    used: &Receiver<Vec<u8>>,
) -> Result<()> {
    let mut total = 0u64;
    let mut hand_on = |chunk: Vec<u8>| {
        total += chunk.len() as u64;
        if total > MAX_ARCHIVE_BYTES {
            return Err(Error::TooLarge {
                what: "the layer's archive".into(),
                limit_bytes: MAX_ARCHIVE_BYTES,
            });
        }
        Ok(plain.send(chunk).is_ok())
    };
    if compression == Compression::None {
        for chunk in chunks {
            if !hand_on(chunk)? {
                break;
            }
        }
        return Ok(());
    }
    let mut source = Decoder::new(compression, Chunks::new(chunks))?;
    loop {
        // Memory that has been here before costs no page faults.
        let mut chunk = used.try_recv().unwrap_or_default();
        chunk.resize(CHUNK_BYTES, 0);
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
        chunk.truncate(have);
        if have == 0 || !hand_on(chunk)? {
            return Ok(());
        }
    }
}

/// Counts and hashes, hands on. Stops when the maker does, which says why.
fn hash_all(
    mut hash: Option<Sha256>,
    chunks: Receiver<Vec<u8>>,
    wanted: Option<SyncSender<Vec<u8>>>,
) -> Hashed {
    let mut total = 0u64;
    for chunk in chunks {
        if let Some(hash) = &mut hash {
            hash.update(&chunk);
        }
        total += chunk.len() as u64;
        if let Some(wanted) = &wanted
            && wanted.send(chunk).is_err()
        {
            break;
        }
    }
    let digest = hash.map(|hash| Digest::from_sha256(hash.finalize().into()));
    (digest, total)
}

/// Makes the layer, then reads on to the end: what comes behind the archive's end counts for the digest.
fn make(making: Making, chunks: Chunks) -> Result<Made> {
    let mut reader = Reader::new(chunks);
    let made = making.run(&mut reader)?;
    let mut rest = reader.into_inner();
    loop {
        let count = rest
            .fill_buf()
            .map_err(|source| TarError::Read { source })?
            .len();
        if count == 0 {
            return Ok(made);
        }
        rest.consume(count);
    }
}

/// A queue of chunks as a stream.
struct Chunks {
    chunks: Receiver<Vec<u8>>,
    current: Vec<u8>,
    at: usize,
    /// Held while there are bytes.
    turn: Option<&'static Mutex<()>>,
    taken: Option<MutexGuard<'static, ()>>,
    /// Where each chunk is written before it is read.
    copy: Option<File>,
    /// Where chunks go when they have been read, for others to use their memory.
    used: Option<SyncSender<Vec<u8>>>,
}

impl Chunks {
    fn new(chunks: Receiver<Vec<u8>>) -> Self {
        Self {
            chunks,
            current: Vec::new(),
            at: 0,
            turn: None,
            taken: None,
            copy: None,
            used: None,
        }
    }
}

impl BufRead for Chunks {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.at == self.current.len() {
            self.taken = None;
            if let Some(used) = &self.used {
                // If it is not wanted, it is freed.
                let _ = used.try_send(std::mem::take(&mut self.current));
            }
            // The other end is gone: the end of the stream, or a failure that it tells itself.
            self.current = self.chunks.recv().unwrap_or_default();
            self.at = 0;
            if let Some(copy) = &mut self.copy {
                copy.write_all(&self.current)?;
            }
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
