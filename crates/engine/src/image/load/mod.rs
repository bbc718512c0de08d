//! `load`: images from an archive that `docker save`, podman, skopeo, buildkit or we made.
//!
//! The archive is read once, from a stream, and nothing of it is written to disk twice: what looks like a layer is hashed,
//! stored and unpacked as it comes, before anything says which image it belongs to; a layer is found by what it is.

mod contents;
mod docker;
mod layout;

use std::io::{BufReader, Read};

use ketch_spec::image::Descriptor;
use ketch_spec::{Digest, Reference};
use ketch_store::{Decoder, Imported};

use super::{ImageError, PullObserver, collect, collect_if_pending, tell};
use crate::{Engine, Error, ErrorKind, Result, event};

/// One image that an archive held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// Its id.
    pub id: Digest,
    /// The names it got; none means `Loaded image ID: …`.
    pub references: Vec<Reference>,
}

/// Loads the images of an archive, plain or compressed with gzip or zstd: what `docker save` writes (today's form and the
/// older ones with `layer.tar`), or an OCI image layout. Their digests are kept. Names in it are taken from the images
/// that have them.
///
/// # Errors
/// `Invalid` for what is no such archive or is damaged, naming the entry; `Unsupported` for other compressions.
pub fn load(
    engine: &Engine,
    reader: impl Read,
    observer: &dyn PullObserver,
) -> Result<Vec<Loaded>> {
    let lock = engine.store().lock_shared().map_err(ImageError::from)?;
    let loaded = load_locked(engine, reader, observer);
    drop(lock);
    match &loaded {
        Ok(_) => collect_if_pending(engine)?,
        // What came before the failure belongs to no image. The failure is what matters to tell.
        Err(_) => drop(collect(engine)),
    }
    loaded
}

fn load_locked(
    engine: &Engine,
    reader: impl Read,
    observer: &dyn PullObserver,
) -> Result<Vec<Loaded>> {
    let source = BufReader::with_capacity(1 << 17, reader);
    let decoder = Decoder::detect(source).map_err(ImageError::from)?;
    let contents = contents::read(engine, decoder, observer)?;
    if contents.documents.contains_key("index.json") {
        return layout::load(engine, &contents);
    }
    if contents.documents.contains_key("manifest.json") {
        return docker::load(engine, &contents);
    }
    Err(
        invalid("unrecognized image format: the archive has neither manifest.json nor index.json")
            .hint("for the archive of a root file system (docker export), use import"),
    )
}

/// Commit point of each image: its record.
fn record(
    engine: &Engine,
    id: Digest,
    target: &Descriptor,
    references: Vec<Reference>,
    loaded: &mut Vec<Loaded>,
) -> Result<()> {
    let store = engine.store();
    if references.is_empty() {
        store.keep_untagged(target).map_err(ImageError::from)?;
    }
    for reference in &references {
        store
            .set_tag(reference, target, false)
            .map_err(ImageError::from)?;
    }
    tell(engine, event::Event::now("image", "load", id.to_string()));
    match loaded.iter_mut().find(|other| other.id == id) {
        Some(same) => same.references.extend(references),
        None => loaded.push(Loaded { id, references }),
    }
    Ok(())
}

fn check_layer(imported: &Imported, diff_id: &Digest, name: &str) -> Result<()> {
    match &imported.layer {
        Ok(record) if record.diff_id == *diff_id => Ok(()),
        Ok(record) => {
            let error = ketch_store::Error::DiffMismatch {
                expected: diff_id.clone(),
                actual: record.diff_id.clone(),
            };
            Err(Error::caused(
                ErrorKind::Invalid,
                format!("layer {name} is damaged"),
                &error,
            ))
        }
        Err(error) => Err(Error::caused(
            super::store_kind(error),
            format!("cannot unpack layer {name}"),
            error,
        )),
    }
}

fn parse<T: serde::de::DeserializeOwned>(what: &str, bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes)
        .map_err(|error| Error::caused(ErrorKind::Invalid, format!("bad {what}"), &error))
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Invalid, message)
}
