//! One pass from a blob's bytes to a layer: the caller feeds bytes, a second thread hashes them, a third takes the
//! compression off, a fourth hashes what comes out, a fifth makes files, or writes the archive and its image. What is not
//! compressed needs no third and fourth. Between them are short queues, so memory is bounded whatever the layer.

mod chunks;
mod stages;

use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{Scope, ScopedJoinHandle};

use ketch_spec::Digest;
use ketch_sys::fs as sysfs;

use self::chunks::{Chunks, Pool};
use self::stages::{Hashed, MAX_ARCHIVE_BYTES, Made, too_large};
use crate::decode::MAGIC_BYTES;
use crate::erofs::Unsealed;
use crate::target::Target;
use crate::tree::Totals;
use crate::{Compression, Error, LayerForm, Result, Store};

/// Chunks that may wait between two threads.
const QUEUE: usize = 3;

/// Layers come in parallel, but making files in parallel makes the kernel slower than one after the other (several
/// times, on ext4): whoever has bytes at hand takes a turn, and gives it back to wait for more.
static TURN: Mutex<()> = Mutex::new(());

/// What came of a pass.
#[derive(Debug)]
pub(crate) struct Passed<T> {
    /// What the feeding function returned.
    pub fed: T,
    /// Digest of all bytes that were fed, whatever became of them.
    pub digest: Digest,
    /// The layer, or why there is none.
    pub unpacked: Result<Unpacked>,
}

/// A layer that is made, and not yet in its place.
#[derive(Debug)]
pub(crate) struct Unpacked {
    /// Digest of the uncompressed archive.
    pub diff_id: Digest,
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
) -> Result<Passed<T>> {
    let work = match form {
        Some(_) => Some(Work(store.work_directory("layer")?)),
        None => None,
    };
    let target = match (&work, form) {
        (Some(work), Some(form)) => Some(Target::new(form, work, blob)?),
        _ => None,
    };
    let signals = Signals::default();
    std::thread::scope(|scope| {
        let mut feeder = Feeder {
            scope,
            signals: &signals,
            pool: Pool::shared(),
            target,
            state: State::Begin(Vec::new()),
        };
        let fed = feed(&mut feeder)?;
        let (digest, finished) = feeder.finish()?;
        let unpacked = finished.map(|finished| Unpacked {
            diff_id: finished.diff_id,
            totals: finished.totals,
            compression: finished.compression,
            image: finished.image,
            work,
        });
        Ok(Passed {
            fed,
            digest,
            unpacked,
        })
    })
}

/// What threads tell those in front of them.
#[derive(Debug, Default)]
struct Signals {
    /// Nobody makes anything of the bytes any more.
    deaf: AtomicBool,
    /// A thread has stopped because of the bytes themselves.
    fault: AtomicBool,
}

/// Takes a blob's bytes in order.
pub(crate) struct Feeder<'scope, 'env> {
    scope: &'scope Scope<'scope, 'env>,
    signals: &'scope Signals,
    pool: Pool,
    target: Option<Target>,
    state: State<'scope>,
}

enum State<'scope> {
    /// Too few bytes to tell the compression.
    Begin(Vec<u8>),
    Running(Running<'scope>),
}

struct Running<'scope> {
    compression: Compression,
    chunks: SyncSender<Vec<u8>>,
    digester: ScopedJoinHandle<'scope, Hashed>,
    /// What compressed bytes need: the decoder, and the hash of what comes out.
    decoder: Option<Decoding<'scope>>,
    maker: Option<ScopedJoinHandle<'scope, Result<Made>>>,
}

type Decoding<'scope> = (
    ScopedJoinHandle<'scope, Result<()>>,
    ScopedJoinHandle<'scope, Hashed>,
);

/// What all threads found.
struct Finished {
    diff_id: Digest,
    totals: Totals,
    compression: Compression,
    image: Option<Unsealed>,
}

/// Why feeding has ended.
#[derive(Debug)]
pub(crate) enum End {
    /// The source is at its end.
    Source,
    /// The source failed.
    Failed(io::Error),
    /// Nobody wants more, because of a failure that is not in the bytes (a full disk). After one that is, feeding goes
    /// on, so that the digest tells whether these are the right bytes at all.
    Unwanted,
}

impl<'scope> Feeder<'scope, '_> {
    /// Reads `source` and hands on what it reads. `each` sees the bytes of every read before anybody else.
    ///
    /// # Errors
    /// Those of `each`; the compression is not supported.
    pub fn feed(
        &mut self,
        source: &mut impl Read,
        mut each: impl FnMut(&[u8]) -> Result<()>,
    ) -> Result<End> {
        loop {
            let mut chunk = self.pool.take();
            let mut have = 0;
            let mut end = None;
            while have < chunk.len() && end.is_none() {
                match source.read(&mut chunk[have..]) {
                    Ok(0) => end = Some(End::Source),
                    Ok(count) => {
                        each(&chunk[have..have + count])?;
                        have += count;
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => end = Some(End::Failed(error)),
                }
            }
            chunk.truncate(have);
            let wanted = self.push(chunk)?;
            match end {
                Some(end) => return Ok(end),
                None if !wanted => return Ok(End::Unwanted),
                None => {}
            }
        }
    }

    /// Hands on a chunk; whether anybody wants more.
    fn push(&mut self, mut chunk: Vec<u8>) -> Result<bool> {
        if let State::Begin(first) = &mut self.state {
            if !first.is_empty() {
                first.extend_from_slice(&chunk);
                chunk = std::mem::take(first);
            }
            if chunk.len() < MAGIC_BYTES {
                self.state = State::Begin(chunk);
                return Ok(true);
            }
            self.start(&chunk)?;
        }
        if let State::Running(running) = &self.state
            && !chunk.is_empty()
        {
            // The digester listens to the end, unless it panicked, which is told at the end.
            let _ = running.chunks.send(chunk);
        }
        let Signals { deaf, fault } = self.signals;
        Ok(!deaf.load(Ordering::Relaxed) || fault.load(Ordering::Relaxed))
    }

    /// Begins the threads, now that the first bytes are known.
    fn start(&mut self, first: &[u8]) -> Result<()> {
        let compression = Compression::detect(&first[..first.len().min(MAGIC_BYTES)])?;
        let (chunks, blob) = sync_channel(QUEUE);
        let (archive_sender, archive) = sync_channel(QUEUE);
        let maker = match self.target.take() {
            Some(target) => Some(self.make(target, compression, archive)?),
            None => None,
        };
        let wanted = maker.is_some().then_some(archive_sender);
        let deaf = Some(&self.signals.deaf);
        let (digester, decoder) = if compression == Compression::None {
            (self.hash(blob, wanted, deaf), None)
        } else {
            let (compressed_sender, compressed) = sync_channel(QUEUE);
            let (plain_sender, plain) = sync_channel(QUEUE);
            let (pool, fault) = (self.pool.clone(), &self.signals.fault);
            let decoder = self.scope.spawn(move || {
                stages::decode(compression, compressed, &plain_sender, &pool, fault)
            });
            let hasher = self.hash(plain, wanted, None);
            (
                self.hash(blob, Some(compressed_sender), deaf),
                Some((decoder, hasher)),
            )
        };
        self.state = State::Running(Running {
            compression,
            chunks,
            digester,
            decoder,
            maker,
        });
        Ok(())
    }

    fn hash(
        &self,
        chunks: Receiver<Vec<u8>>,
        wanted: Option<SyncSender<Vec<u8>>>,
        deaf: Option<&'scope AtomicBool>,
    ) -> ScopedJoinHandle<'scope, Hashed> {
        let pool = self.pool.clone();
        self.scope
            .spawn(move || stages::hash(chunks, wanted, &pool, deaf))
    }

    fn make(
        &self,
        target: Target,
        compression: Compression,
        archive: Receiver<Vec<u8>>,
    ) -> Result<ScopedJoinHandle<'scope, Result<Made>>> {
        let (making, copy) = target.begin(compression)?;
        let (pool, fault) = (self.pool.clone(), &self.signals.fault);
        Ok(self.scope.spawn(move || {
            let chunks = Chunks::new(archive, pool)
                .in_turns(making.makes_files().then_some(&TURN))
                .copied_to(copy);
            stages::make(making, chunks, fault)
        }))
    }

    /// No more bytes: waits for the threads. The decoder's error is told before the maker's, which may only follow from
    /// it.
    fn finish(mut self) -> Result<(Digest, Result<Finished>)> {
        if let State::Begin(first) = &mut self.state {
            let first = std::mem::take(first);
            self.start(&first)?;
            self.push(first)?;
        }
        let State::Running(running) = self.state else {
            return Err(Error::Panicked);
        };
        drop(running.chunks);
        let (digest, blob_bytes) = join(running.digester)?;
        let (decoded, (diff_id, archive_bytes)) = match running.decoder {
            Some((decoder, hasher)) => (join(decoder)?, join(hasher)?),
            None => (Ok(()), (digest.clone(), blob_bytes)),
        };
        let made = running.maker.map(join).transpose()?;
        let finished = || {
            decoded?;
            let (totals, image) = made.transpose()?.unwrap_or_default();
            if archive_bytes > MAX_ARCHIVE_BYTES {
                return Err(too_large());
            }
            Ok(Finished {
                diff_id,
                totals: Totals {
                    archive_bytes,
                    ..totals
                },
                compression: running.compression,
                image,
            })
        };
        Ok((digest, finished()))
    }
}

fn join<T>(thread: ScopedJoinHandle<'_, T>) -> Result<T> {
    thread.join().map_err(|_| Error::Panicked)
}
