//! Compressed streams, and whole layers as the store takes them in.

use std::io::{BufReader, Read};

use ketch_store::{Decoder, Forms, Roots, Store};

use crate::archives::scratch;

/// What is taken of a stream at most, in bytes: enough for every state of a decoder.
const OUTPUT_BYTES: u64 = 4 << 20;

/// A stream of whatever compression its first bytes say, read in pieces of two lengths, which must come to the same.
pub(crate) fn compressed(bytes: &[u8]) {
    let read = |piece: usize| -> Result<Vec<u8>, String> {
        let source = BufReader::with_capacity(piece, bytes);
        let decoder = Decoder::detect(source).map_err(|error| error.to_string())?;
        let mut plain = Vec::new();
        let mut decoder = BufReader::with_capacity(piece, decoder).take(OUTPUT_BYTES);
        decoder
            .read_to_end(&mut plain)
            .map(|_| plain)
            .map_err(|error| error.to_string())
    };
    let (whole, pieces) = (read(64 << 10), read(64));
    assert_eq!(
        whole.is_ok(),
        pieces.is_ok(),
        "{:?} {:?}",
        whole.err(),
        pieces.err()
    );
    if let (Ok(whole), Ok(pieces)) = (whole, pieces) {
        assert_eq!(whole, pieces);
    }
}

/// A layer blob, compressed or not, through the threads of the store's pipeline, into files.
pub(crate) fn layer(bytes: &[u8]) {
    let scratch = scratch();
    let store = match Store::open(scratch.path(), Forms::Directory) {
        Ok(store) => store,
        Err(error) => panic!("{error}"),
    };
    match store.import_layer(bytes) {
        Ok(imported) => {
            assert_eq!(imported.descriptor.digest, ketch_spec::Digest::of(bytes));
            assert!(store.has(&imported.descriptor.digest));
            if let Ok(record) = imported.layer {
                assert!(store.has_layer(&record.diff_id));
                if let Err(error) = store.open_lower(&record.diff_id) {
                    panic!("a layer that cannot be opened: {error}");
                }
            }
        }
        Err(error) => panic!("the blob is bytes all the same: {error}"),
    }
    let collected = store
        .lock_exclusive()
        .and_then(|lock| store.collect(&Roots::default(), lock));
    if let Err(error) = collected {
        panic!("what came cannot be removed: {error}");
    }
    let left = std::fs::read_dir(scratch.path().join("ingest/work")).map_or(0, Iterator::count);
    assert_eq!(left, 0, "something is left in ingest/work");
}
