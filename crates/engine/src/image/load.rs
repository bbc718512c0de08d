//! `load`: images from an archive that `docker save`, podman, skopeo, buildkit or we made.
//!
//! The archive is read once, from a stream, and nothing of it is written to disk twice: what looks like a layer is hashed,
//! stored and unpacked as it comes, before anything says which image it belongs to; a layer is found by what it is.

use std::collections::BTreeMap;
use std::io::{BufReader, Read};

use ketch_spec::image::{Descriptor, ImageConfig, Index, Manifest, media_type};
use ketch_spec::{Digest, Platform, Reference};
use ketch_store::tar::{Kind, Reader};
use ketch_store::{Decoder, Imported, MAX_DOCUMENT_BYTES};
use serde::Deserialize;

use super::resolve::list_manifests;
use super::{ImageError, PullEvent, PullObserver, collect, collect_if_pending, commit::to_json};
use crate::{Engine, Error, ErrorKind, Result, event};

/// One image that an archive held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// Its id.
    pub id: Digest,
    /// The names it got; none means `Loaded image ID: …`.
    pub references: Vec<Reference>,
}

/// How many files an archive may have.
const MAX_FILES: usize = 100_000;
/// Bytes of all JSON documents that are not blobs, kept in memory.
const MAX_DOCUMENTS_BYTES: usize = 64 << 20;
/// How far links between files of an old archive are followed.
const MAX_LINKS: usize = 16;

const NAME: &str = "io.containerd.image.name";
const REF_NAME: &str = "org.opencontainers.image.ref.name";

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
    let contents = read_archive(engine, decoder, observer)?;
    if contents.documents.contains_key("index.json") {
        return load_layout(engine, &contents);
    }
    if contents.documents.contains_key("manifest.json") {
        return load_docker(engine, &contents);
    }
    Err(
        invalid("unrecognized image format: the archive has neither manifest.json nor index.json")
            .hint("for the archive of a root file system (docker export), use import"),
    )
}

/// What an archive held.
#[derive(Default)]
struct Contents {
    /// JSON documents outside of `blobs/`, by path.
    documents: BTreeMap<String, Vec<u8>>,
    /// Layers of the older forms, by path.
    layers: BTreeMap<String, Imported>,
    /// Layers in `blobs/`, by digest.
    blobs: BTreeMap<Digest, Imported>,
    /// Links, by path.
    links: BTreeMap<String, String>,
}

fn read_archive(
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

/// An entry of `manifest.json`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerEntry {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Option<Vec<String>>,
}

/// By `index.json`: manifests keep their digests.
fn load_layout(engine: &Engine, contents: &Contents) -> Result<Vec<Loaded>> {
    let index: Index = parse("index.json", &contents.documents["index.json"])?;
    let names = docker_names(contents)?;
    let mut loaded: Vec<Loaded> = Vec::new();
    for descriptor in &index.manifests {
        let target = Descriptor {
            annotations: BTreeMap::new(),
            ..descriptor.clone()
        };
        let mut manifests = Vec::new();
        list_manifests(engine, &target, &mut manifests, 0)?;
        if manifests.is_empty() {
            return Err(invalid(format!(
                "image {} is not in the archive",
                target.digest
            )));
        }
        for (manifest, _) in &manifests {
            require_layers(engine, manifest, contents)?;
        }
        let platforms: Vec<Platform> = manifests
            .iter()
            .map(|(_, platform)| platform.clone())
            .collect();
        let shown = Platform::host().choose(&platforms).unwrap_or(0);
        let document: Manifest = engine
            .store()
            .document(&manifests[shown].0.digest)
            .map_err(ImageError::from)?;
        let mut references: Vec<Reference> = name_of(descriptor).into_iter().collect();
        if references.is_empty() {
            references = names
                .get(&document.config.digest)
                .cloned()
                .unwrap_or_default();
        }
        record(
            engine,
            document.config.digest,
            &target,
            references,
            &mut loaded,
        )?;
    }
    Ok(loaded)
}

/// Makes sure that every layer of a manifest is here and is what its config says.
fn require_layers(engine: &Engine, manifest: &Descriptor, contents: &Contents) -> Result<()> {
    let store = engine.store();
    let document: Manifest = store.document(&manifest.digest).map_err(ImageError::from)?;
    let config: ImageConfig = store
        .document(&document.config.digest)
        .map_err(ImageError::from)?;
    let diff_ids = &config.rootfs.diff_ids;
    if diff_ids.len() != document.layers.len() {
        let (blobs, diff_ids) = (document.layers.len(), diff_ids.len());
        let manifest = manifest.digest.clone();
        return Err(ImageError::LayerCount {
            manifest,
            blobs,
            config: document.config.digest,
            diff_ids,
        }
        .into());
    }
    for (blob, diff_id) in document.layers.iter().zip(diff_ids) {
        match contents.blobs.get(&blob.digest) {
            Some(imported) => check_layer(imported, diff_id, &blob.digest.to_string())?,
            None if store.has(&blob.digest) => {
                // Unpacks it if only the blob is here.
                store.begin_layer(blob, diff_id).map_err(ImageError::from)?;
            }
            None => {
                return Err(invalid(format!(
                    "layer {} is not in the archive",
                    blob.digest
                )));
            }
        }
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

/// `RepoTags` by image id, for layouts whose `index.json` has no names.
fn docker_names(contents: &Contents) -> Result<BTreeMap<Digest, Vec<Reference>>> {
    let Some(bytes) = contents.documents.get("manifest.json") else {
        return Ok(BTreeMap::new());
    };
    let entries: Vec<DockerEntry> = parse("manifest.json", bytes)?;
    let mut names = BTreeMap::new();
    for entry in entries {
        let hex = entry.config.rsplit('/').next().unwrap_or_default();
        if let Ok(id) = format!("sha256:{hex}").parse::<Digest>() {
            names.insert(id, references(&entry)?);
        }
    }
    Ok(names)
}

/// A name in an index: the full one, or the short one if it is more than a tag.
fn name_of(descriptor: &Descriptor) -> Option<Reference> {
    let full = descriptor.annotations.get(NAME);
    let short = descriptor
        .annotations
        .get(REF_NAME)
        .filter(|text| text.contains(['/', ':']));
    full.or(short)?
        .parse::<Reference>()
        .ok()
        .filter(|name| name.digest.is_none())
}

/// By `manifest.json`, for archives that have no manifests: one is made.
fn load_docker(engine: &Engine, contents: &Contents) -> Result<Vec<Loaded>> {
    let entries: Vec<DockerEntry> = parse("manifest.json", &contents.documents["manifest.json"])?;
    let mut loaded = Vec::new();
    for entry in &entries {
        let path = follow(contents, &entry.config, |path| {
            contents.documents.contains_key(path)
        })?;
        let bytes = &contents.documents[&path];
        let config: ImageConfig = parse(&path, bytes)?;
        let wanted = entry.layers.as_deref().unwrap_or_default();
        let diff_ids = &config.rootfs.diff_ids;
        if diff_ids.len() != wanted.len() {
            return Err(invalid(format!(
                "manifest.json names {} layers for {path}, which has {}",
                wanted.len(),
                diff_ids.len()
            )));
        }
        let mut layers = Vec::with_capacity(wanted.len());
        for (name, diff_id) in wanted.iter().zip(diff_ids) {
            let path = follow(contents, name, |path| contents.layers.contains_key(path))?;
            let imported = &contents.layers[&path];
            check_layer(imported, diff_id, &path)?;
            layers.push(imported.descriptor.clone());
        }
        let config = engine
            .store()
            .put(media_type::CONFIG, bytes)
            .map_err(ImageError::from)?;
        let manifest = Manifest {
            schema_version: 2,
            media_type: Some(media_type::MANIFEST.to_owned()),
            config: config.clone(),
            layers,
            other: Default::default(),
        };
        let bytes = to_json("a manifest", &manifest)?;
        let target = engine
            .store()
            .put(media_type::MANIFEST, &bytes)
            .map_err(ImageError::from)?;
        record(
            engine,
            config.digest,
            &target,
            references(entry)?,
            &mut loaded,
        )?;
    }
    Ok(loaded)
}

/// The path of a file, links followed.
fn follow(contents: &Contents, name: &str, exists: impl Fn(&str) -> bool) -> Result<String> {
    let mut path = clean(name.as_bytes());
    for _ in 0..MAX_LINKS {
        if exists(&path) {
            return Ok(path);
        }
        match contents.links.get(&path) {
            Some(target) => path = target.clone(),
            None => break,
        }
    }
    Err(invalid(format!(
        "manifest.json names {name:?}, which is not in the archive"
    )))
}

fn references(entry: &DockerEntry) -> Result<Vec<Reference>> {
    let texts = entry.repo_tags.iter().flatten();
    texts
        .map(|text| {
            text.parse()
                .map_err(|e| Error::caused(ErrorKind::Invalid, format!("bad name {text:?}"), &e))
        })
        .collect()
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
    event::publish(engine, &event::Event::now("image", "load", id.to_string()))?;
    match loaded.iter_mut().find(|other| other.id == id) {
        Some(same) => same.references.extend(references),
        None => loaded.push(Loaded { id, references }),
    }
    Ok(())
}

fn parse<T: serde::de::DeserializeOwned>(what: &str, bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes)
        .map_err(|error| Error::caused(ErrorKind::Invalid, format!("bad {what}"), &error))
}

fn store_error(error: ketch_store::tar::TarError) -> Error {
    ImageError::Store(error.into()).into()
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Invalid, message)
}

/// Names in archives are compared, never used as paths of ours.
fn clean(path: &[u8]) -> String {
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
