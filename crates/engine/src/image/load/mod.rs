//! `load`: images from an archive that `docker save`, podman, skopeo, buildkit or we made, or from a directory.
//!
//! An archive is read once, from a stream, and nothing of it is written to disk twice: what looks like a layer is hashed,
//! stored and unpacked as it comes, before anything says which image it belongs to; a layer is found by what it is.

mod contents;
mod directory;
mod docker;
mod layout;

use std::io::{BufReader, Read};
use std::path::Path;

use ketch_spec::image::Descriptor;
use ketch_spec::{Digest, Platform, Reference};
use ketch_store::{Decoder, Imported};

use self::contents::Contents;
use super::{ArchiveObserver, ImageError, collect, collect_if_pending, tell};
use crate::{Engine, Error, ErrorKind, Result, event};

/// One image that an archive held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// Its id.
    pub id: Digest,
    /// The names it got; none means `Loaded image ID: …`.
    pub references: Vec<Reference>,
    /// Names that meant another image until now, with its id.
    pub taken: Vec<(Reference, Digest)>,
}

/// Loads the images of an archive, plain or compressed with gzip or zstd: what `docker save` writes (today's form and the
/// older ones with `layer.tar`), or an OCI image layout. Their digests are kept. Names in it are taken from the images
/// that have them. With `platforms`, only those of each image are loaded.
///
/// # Errors
/// `Invalid` for what is no such archive or is damaged, naming the entry; `Unsupported` for other compressions;
/// `NotFound` for a platform that an image in it does not have. Nothing is loaded then.
pub fn load(
    engine: &Engine,
    reader: impl Read,
    platforms: &[Platform],
    observer: &dyn ArchiveObserver,
) -> Result<Vec<Loaded>> {
    locked(engine, platforms, || {
        let source = BufReader::with_capacity(1 << 17, reader);
        let decoder = Decoder::detect(source).map_err(ImageError::from)?;
        let contents = contents::read(engine, decoder, observer)?;
        load_contents(engine, &contents, platforms)
    })
}

/// Loads the images of an OCI image layout that is a directory. Only what its `index.json` reaches is read.
///
/// # Errors
/// As [`load`].
pub fn load_directory(
    engine: &Engine,
    directory: &Path,
    platforms: &[Platform],
    observer: &dyn ArchiveObserver,
) -> Result<Vec<Loaded>> {
    locked(engine, platforms, || {
        let contents = directory::read(engine, directory, platforms, observer)?;
        load_contents(engine, &contents, platforms)
    })
}

fn locked(
    engine: &Engine,
    platforms: &[Platform],
    work: impl FnOnce() -> Result<Vec<Loaded>>,
) -> Result<Vec<Loaded>> {
    let lock = engine.store().lock_shared().map_err(ImageError::from)?;
    let loaded = work();
    drop(lock);
    match &loaded {
        // Other platforms' layers came with the stream.
        Ok(_) if !platforms.is_empty() => drop(collect(engine)?),
        Ok(_) => collect_if_pending(engine)?,
        // What came before the failure belongs to no image. The failure is what matters to tell.
        Err(_) => drop(collect(engine)),
    }
    loaded
}

fn load_contents(
    engine: &Engine,
    contents: &Contents,
    platforms: &[Platform],
) -> Result<Vec<Loaded>> {
    if contents.documents.contains_key("index.json") {
        return layout::load(engine, contents, platforms);
    }
    if contents.documents.contains_key("manifest.json") {
        return docker::load(engine, contents, platforms);
    }
    let error =
        invalid("unrecognized image format: the archive has neither manifest.json nor index.json");
    if contents.documents.contains_key("repositories") {
        return Err(error.hint("archives of Docker before 1.10 are not supported"));
    }
    Err(error.hint("for the archive of a root file system (docker export), use import"))
}

/// An image of an archive that is ready to be named.
struct Ready {
    id: Digest,
    target: Descriptor,
    references: Vec<Reference>,
}

/// Names all images of an archive: none before all of them are whole.
fn record_all(engine: &Engine, ready: Vec<Ready>) -> Result<Vec<Loaded>> {
    for name in ready.iter().flat_map(|one| &one.references) {
        super::tag::refuse_ambiguous(name)?;
    }
    let mut loaded = Vec::new();
    for one in ready {
        record(engine, one, &mut loaded)?;
    }
    Ok(loaded)
}

/// Commit point of each image: its record.
fn record(engine: &Engine, ready: Ready, loaded: &mut Vec<Loaded>) -> Result<()> {
    let store = engine.store();
    let Ready {
        id,
        target,
        references,
    } = ready;
    if references.is_empty() {
        store.keep_untagged(&target).map_err(ImageError::from)?;
    }
    let mut taken = Vec::new();
    for reference in &references {
        if let Ok(old) = super::resolve(engine, &reference.to_string())
            && old.id != id
        {
            taken.push((reference.clone(), old.id));
        }
        store
            .set_tag(reference, &target, false)
            .map_err(ImageError::from)?;
    }
    tell(engine, event::Event::now("image", "load", id.to_string()));
    match loaded.iter_mut().find(|other| other.id == id) {
        Some(same) => {
            same.references.extend(references);
            same.taken.extend(taken);
        }
        None => loaded.push(Loaded {
            id,
            references,
            taken,
        }),
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
    ketch_spec::document::parse(bytes)
        .map_err(|error| Error::caused(ErrorKind::Invalid, format!("bad {what}"), &error))
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Invalid, message)
}
