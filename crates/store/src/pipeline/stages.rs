//! What the threads of a pass do.

use std::io::{self, BufRead, Read};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender};

use ketch_spec::Digest;
use sha2::{Digest as _, Sha256};

use super::chunks::{Chunks, Pool};
use crate::erofs::Unsealed;
use crate::tar::{Reader, TarError};
use crate::target::Making;
use crate::tree::Totals;
use crate::{Compression, Decoder, Error, Result};

/// The longest archive that is unpacked: far above any image, far below what a bomb promises.
pub(super) const MAX_ARCHIVE_BYTES: u64 = 1 << 40;

/// What the last thread made: of an archive, and its image if it is to have one.
pub(super) type Made = (Totals, Option<Unsealed>);

/// What a stream is: its digest, and its length in bytes.
pub(super) type Hashed = (Digest, u64);

/// Hashes and counts, and hands on. When nobody listens any more it stops; or, with `deaf`, says so there and goes on.
pub(super) fn hash(
    chunks: Receiver<Vec<u8>>,
    mut wanted: Option<SyncSender<Vec<u8>>>,
    pool: &Pool,
    deaf: Option<&AtomicBool>,
) -> Hashed {
    let mut hash = Sha256::new();
    let mut total = 0u64;
    for chunk in chunks {
        hash.update(&chunk);
        total += chunk.len() as u64;
        let Some(listener) = &wanted else {
            pool.give(chunk);
            continue;
        };
        if listener.send(chunk).is_err() {
            wanted = None;
            match deaf {
                Some(deaf) => deaf.store(true, Ordering::Relaxed),
                None => break,
            }
        }
    }
    (Digest::from_sha256(hash.finalize().into()), total)
}

/// Takes the compression off and hands on. Stops when nobody listens any more: whoever stopped says why. `fault` is set
/// before the threads in front can notice that this one has stopped.
pub(super) fn decode(
    compression: Compression,
    chunks: Receiver<Vec<u8>>,
    plain: &SyncSender<Vec<u8>>,
    pool: &Pool,
    fault: &AtomicBool,
) -> Result<()> {
    let mut source = Decoder::new(compression, Chunks::new(chunks, pool.clone()))?;
    let mut total = 0u64;
    let result = loop {
        let chunk = match fill(pool.take(), &mut source, compression) {
            Ok(chunk) => chunk,
            Err(error) => break Err(error),
        };
        total += chunk.len() as u64;
        if total > MAX_ARCHIVE_BYTES {
            break Err(too_large());
        }
        if chunk.is_empty() || plain.send(chunk).is_err() {
            break Ok(());
        }
    };
    if result.is_err() {
        fault.store(true, Ordering::Relaxed);
    }
    result
}

/// A full chunk, so that the queue's length means something; less at the end.
fn fill(mut chunk: Vec<u8>, source: &mut impl Read, compression: Compression) -> Result<Vec<u8>> {
    let mut have = 0;
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
    Ok(chunk)
}

/// An archive that is longer than [`MAX_ARCHIVE_BYTES`].
pub(super) fn too_large() -> Error {
    Error::TooLarge {
        what: "the layer's archive".into(),
        limit_bytes: MAX_ARCHIVE_BYTES,
    }
}

/// Makes the layer, then reads on to the end: what comes behind the archive's end counts for the digest. `fault` as in
/// [`decode`].
pub(super) fn make(making: Making, chunks: Chunks, fault: &AtomicBool) -> Result<Made> {
    let mut reader = Reader::new(chunks);
    let made = making.run(&mut reader);
    if made.as_ref().is_err_and(TarError::is_of_content) {
        fault.store(true, Ordering::Relaxed);
    }
    let made = made?;
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
