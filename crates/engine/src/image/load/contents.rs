//! Reading the archive.

use std::collections::BTreeMap;
use std::io::{BufReader, Read};

use ketch_spec::Digest;
use ketch_store::tar::{Kind, Reader, TarError};
use ketch_store::{Imported, MAX_DOCUMENT_BYTES};

use super::invalid;
use crate::image::observer::Metered;
use crate::image::{ArchiveObserver, ArchiveStep, ImageError};
use crate::layer::{ARCHIVE_HEAD_BYTES, looks_like_archive};
use crate::{Engine, Error, ErrorKind, Result};

/// How many files an archive may have.
const MAX_FILES: usize = 100_000;
/// Bytes of all JSON documents that are kept in memory: those outside of `blobs/`, and manifests and indexes.
const MAX_DOCUMENTS_BYTES: usize = 16 << 20;
/// Bytes of one file in an archive, and of all of them together, as they come out of whatever compresses the archive.
const MAX_FILES_BYTES: u64 = 1 << 40;

/// What an archive held.
#[derive(Default)]
pub(super) struct Contents {
    /// JSON documents outside of `blobs/`, by path.
    pub documents: BTreeMap<String, Vec<u8>>,
    /// Manifests and indexes in `blobs/`. They are not in the store yet: an index is taken to have what the store has of
    /// it, and which of it that is to be is known only at the end.
    pub manifests: BTreeMap<Digest, Vec<u8>>,
    /// Layers of the older forms, by path.
    pub layers: BTreeMap<String, Imported>,
    /// Layers in `blobs/`, by digest.
    pub blobs: BTreeMap<Digest, Imported>,
    /// Links, by path.
    pub links: BTreeMap<String, String>,
    kept_bytes: usize,
}

impl Contents {
    /// Keeps a document that is not a blob.
    pub fn keep(&mut self, path: String, bytes: Vec<u8>) -> Result<()> {
        self.count(bytes.len())?;
        self.documents.insert(path, bytes);
        Ok(())
    }

    /// Keeps a manifest or an index.
    pub fn keep_manifest(&mut self, digest: Digest, bytes: Vec<u8>) -> Result<()> {
        self.count(bytes.len())?;
        self.manifests.insert(digest, bytes);
        Ok(())
    }

    fn count(&mut self, bytes: usize) -> Result<()> {
        self.kept_bytes += bytes;
        if self.kept_bytes > MAX_DOCUMENTS_BYTES {
            return Err(invalid(format!(
                "the archive's documents, names and links are larger than {MAX_DOCUMENTS_BYTES} bytes"
            )));
        }
        Ok(())
    }
}

pub(super) fn read(
    engine: &Engine,
    source: impl Read,
    observer: &dyn ArchiveObserver,
) -> Result<Contents> {
    let mut reader = Reader::new(BufReader::with_capacity(1 << 18, source));
    let mut contents = Contents::default();
    let mut files = 0;
    let mut total_bytes = 0u64;
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
                let target = join(parent(&path), &String::from_utf8_lossy(&entry.link));
                contents.count(path.len() + target.len())?;
                contents.links.insert(path, target);
                continue;
            }
            Kind::HardLink => {
                let target = clean(&entry.link);
                contents.count(path.len() + target.len())?;
                contents.links.insert(path, target);
                continue;
            }
            _ => continue,
        }
        total_bytes = total_bytes.saturating_add(entry.size);
        if total_bytes > MAX_FILES_BYTES {
            return Err(invalid(format!(
                "archive entry {path:?}: the archive's files are larger than {MAX_FILES_BYTES} bytes"
            )));
        }
        take(
            engine,
            path,
            entry.size,
            reader.data(),
            observer,
            &mut contents,
        )?;
    }
    Ok(contents)
}

/// Takes one file, by what it is called and how it begins.
fn take(
    engine: &Engine,
    path: String,
    size: u64,
    mut data: impl Read,
    observer: &dyn ArchiveObserver,
    contents: &mut Contents,
) -> Result<()> {
    if let Some(hex) = path.strip_prefix("blobs/sha256/") {
        let digest: Digest = format!("sha256:{hex}")
            .parse()
            .map_err(|_| invalid(format!("archive entry {path:?} is not named by a digest")))?;
        return take_blob(engine, &digest, size, data, observer, contents);
    }
    let mut head = Vec::new();
    (&mut data)
        .take(ARCHIVE_HEAD_BYTES)
        .read_to_end(&mut head)
        .map_err(broken)?;
    // An empty archive is zeros and tells itself by its name only; other tools call layers what they like.
    if path.ends_with(".tar") || looks_like_archive(&head) {
        let source = Metered::new(head.as_slice().chain(data), &path, size, observer);
        contents.count(path.len())?;
        let imported = engine
            .store()
            .import_layer(source)
            .map_err(|error| in_entry(&path, error))?;
        observer.step(ArchiveStep::Done {
            name: &path,
            total_bytes: size,
        });
        contents.layers.insert(path, imported);
    } else if matches!(head.first(), Some(b'{' | b'[')) {
        let bytes = read_document(&path, head.as_slice().chain(data))?;
        contents.keep(path, bytes)?;
    }
    // Anything else (VERSION, say) tells nothing that these do not.
    Ok(())
}

/// A file in `blobs/`. If it is in the store, that one is used and this one not even read.
pub(super) fn take_blob(
    engine: &Engine,
    digest: &Digest,
    size: u64,
    mut data: impl Read,
    observer: &dyn ArchiveObserver,
    contents: &mut Contents,
) -> Result<()> {
    let name = digest.as_str();
    let mut head = [0u8; 1];
    let count = data.read(&mut head).map_err(broken)?;
    let is_document = head[..count] == *b"{";
    if engine.store().has(digest) {
        if !is_document {
            observer.step(ArchiveStep::Exists { name });
        }
        return Ok(());
    }
    let rest = (&head[..count]).chain(data);
    // What is larger than any image document is something that we only carry, whatever it begins with.
    if is_document && size <= MAX_DOCUMENT_BYTES {
        let path = format!("blobs/sha256/{}", digest.hex());
        let bytes = read_document(&path, rest)?;
        let actual = Digest::of(&bytes);
        if actual != *digest {
            return Err(mismatch(digest, &actual, bytes.len() as u64));
        }
        return keep_document(engine, digest, bytes, contents);
    }
    let imported = engine
        .store()
        .import_layer(Metered::new(rest, name, size, observer))
        .map_err(|error| in_entry(&format!("blobs/sha256/{}", digest.hex()), error))?;
    if imported.descriptor.digest != *digest {
        let bytes = imported.descriptor.size;
        return Err(mismatch(digest, &imported.descriptor.digest, bytes));
    }
    observer.step(ArchiveStep::Done {
        name,
        total_bytes: size,
    });
    contents.blobs.insert(digest.clone(), imported);
    Ok(())
}

/// Manifests and indexes are kept aside, other documents go to the store.
fn keep_document(
    engine: &Engine,
    digest: &Digest,
    bytes: Vec<u8>,
    contents: &mut Contents,
) -> Result<()> {
    let has = |key: &str| {
        let needle = format!("\"{key}\"");
        bytes
            .windows(needle.len())
            .any(|window| window == needle.as_bytes())
    };
    if has("schemaVersion") && (has("layers") || has("manifests")) {
        return contents.keep_manifest(digest.clone(), bytes);
    }
    engine.store().put("", &bytes).map_err(ImageError::from)?;
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

/// A failure of the stream while a file of it was read; others are the store's own.
fn in_entry(path: &str, error: ketch_store::Error) -> Error {
    match error {
        ketch_store::Error::Source { source, .. } => Error::caused(
            ErrorKind::Invalid,
            format!("cannot read archive entry {path:?}"),
            &source,
        ),
        other => ImageError::from(other).into(),
    }
}

pub(super) fn read_document(path: &str, data: impl Read) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    data.take(MAX_DOCUMENT_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| {
            let what = format!("cannot read archive entry {path:?}");
            Error::caused(ErrorKind::Invalid, what, &error)
        })?;
    if bytes.len() as u64 > MAX_DOCUMENT_BYTES {
        return Err(invalid(format!(
            "archive entry {path:?} is larger than {MAX_DOCUMENT_BYTES} bytes"
        )));
    }
    Ok(bytes)
}

fn broken(source: std::io::Error) -> Error {
    ImageError::Stream {
        verb: "read",
        source,
    }
    .into()
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
