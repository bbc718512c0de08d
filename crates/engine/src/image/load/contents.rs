//! Reading the archive.

use std::collections::BTreeMap;
use std::io::{BufReader, Read};

use ketch_spec::Digest;
use ketch_store::tar::{Kind, Reader, TarError};
use ketch_store::{Imported, MAX_DOCUMENT_BYTES};

use super::invalid;
use crate::image::{ImageError, PullEvent, PullObserver};
use crate::{Engine, Error, ErrorKind, Result};

/// How many files an archive may have.
const MAX_FILES: usize = 100_000;
/// Bytes of all JSON documents that are not blobs, kept in memory.
const MAX_DOCUMENTS_BYTES: usize = 64 << 20;

/// What an archive held.
#[derive(Default)]
pub(super) struct Contents {
    /// JSON documents outside of `blobs/`, by path.
    pub documents: BTreeMap<String, Vec<u8>>,
    /// Layers of the older forms, by path.
    pub layers: BTreeMap<String, Imported>,
    /// Layers in `blobs/`, by digest.
    pub blobs: BTreeMap<Digest, Imported>,
    /// Links, by path.
    pub links: BTreeMap<String, String>,
}

pub(super) fn read(
    engine: &Engine,
    source: impl Read,
    observer: &dyn PullObserver,
) -> Result<Contents> {
    let mut reader = Reader::new(BufReader::with_capacity(1 << 18, source));
    let mut contents = Contents::default();
    let mut files = 0;
    let mut kept = 0;
    while let Some(entry) = reader.next_entry().map_err(store_error)? {
        files += 1;
        if files > MAX_FILES {
            return Err(invalid(format!(
                "the archive has more than {MAX_FILES} entries"
            )));
        }
        let path = clean(&entry.path);
        match entry.kind {
            Kind::File => {}
            Kind::Symlink => {
                contents.links.insert(
                    path.clone(),
                    join(parent(&path), &String::from_utf8_lossy(&entry.link)),
                );
                continue;
            }
            Kind::HardLink => {
                contents.links.insert(path, clean(&entry.link));
                continue;
            }
            _ => continue,
        }
        if let Some(hex) = path.strip_prefix("blobs/sha256/") {
            let digest: Digest = format!("sha256:{hex}")
                .parse()
                .map_err(|_| invalid(format!("archive entry {path:?} is not named by a digest")))?;
            take_blob(engine, &digest, reader.data(), observer, &mut contents)?;
        } else if path.ends_with("layer.tar") || path.ends_with(".tar") {
            let imported = engine
                .store()
                .import_layer(reader.data())
                .map_err(ImageError::from)?;
            observer.event(PullEvent::Done {
                digest: imported.descriptor.digest.clone(),
            });
            contents.layers.insert(path, imported);
        } else if path.ends_with(".json") || path == "oci-layout" {
            let bytes = read_document(&path, reader.data())?;
            kept += bytes.len();
            if kept > MAX_DOCUMENTS_BYTES {
                return Err(invalid(format!(
                    "the archive's documents are larger than {MAX_DOCUMENTS_BYTES} bytes"
                )));
            }
            contents.documents.insert(path, bytes);
        }
        // Anything else (VERSION, repositories, json of each layer) says nothing that the above does not.
    }
    Ok(contents)
}

/// A file in `blobs/`. If it is in the store, that one is used and this one not even read.
fn take_blob(
    engine: &Engine,
    digest: &Digest,
    mut data: impl Read,
    observer: &dyn PullObserver,
    contents: &mut Contents,
) -> Result<()> {
    if engine.store().has(digest) {
        observer.event(PullEvent::Exists {
            digest: digest.clone(),
        });
        return Ok(());
    }
    let mut first = [0u8; 1];
    let count = data.read(&mut first).map_err(|source| ImageError::Stream {
        verb: "read",
        source,
    })?;
    let rest = (&first[..count]).chain(data);
    if first[..count] == *b"{" {
        let bytes = read_document(digest.as_str(), rest)?;
        let actual = Digest::of(&bytes);
        if actual != *digest {
            return Err(mismatch(digest, &actual, bytes.len() as u64));
        }
        engine.store().put("", &bytes).map_err(ImageError::from)?;
        return Ok(());
    }
    let imported = engine
        .store()
        .import_layer(rest)
        .map_err(ImageError::from)?;
    if imported.descriptor.digest != *digest {
        return Err(mismatch(
            digest,
            &imported.descriptor.digest,
            imported.descriptor.size,
        ));
    }
    observer.event(PullEvent::Done {
        digest: digest.clone(),
    });
    contents.blobs.insert(digest.clone(), imported);
    Ok(())
}

fn mismatch(expected: &Digest, actual: &Digest, bytes: u64) -> Error {
    let error = ketch_store::Error::DigestMismatch {
        expected: expected.clone(),
        expected_bytes: bytes,
        actual: actual.clone(),
        actual_bytes: bytes,
    };
    Error::caused(
        ErrorKind::Invalid,
        format!(
            "archive entry \"blobs/sha256/{}\" is damaged",
            expected.hex()
        ),
        &error,
    )
}

fn read_document(what: &str, data: impl Read) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut limited = data.take(MAX_DOCUMENT_BYTES + 1);
    limited
        .read_to_end(&mut bytes)
        .map_err(|source| ImageError::Stream {
            verb: "read",
            source,
        })?;
    if bytes.len() as u64 > MAX_DOCUMENT_BYTES {
        return Err(invalid(format!(
            "archive entry {what:?} is larger than {MAX_DOCUMENT_BYTES} bytes"
        )));
    }
    Ok(bytes)
}

fn store_error(error: TarError) -> Error {
    ImageError::Store(error.into()).into()
}

/// Names in archives are compared, never used as paths of ours.
pub(super) fn clean(path: &[u8]) -> String {
    join("", &String::from_utf8_lossy(path))
}

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}

fn join(directory: &str, path: &str) -> String {
    let mut parts: Vec<&str> = directory
        .split('/')
        .filter(|part| !part.is_empty())
        .collect();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}
