//! `push`: our image to a registry, byte for byte. Blobs that are there are not sent, blobs that another of our
//! repositories has there are mounted.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::sync::atomic::{AtomicBool, Ordering};

use ketch_registry::Client;
use ketch_spec::image::{Descriptor, Index, Manifest, media_type};
use ketch_spec::{Digest, Platform, Reference};
use ketch_store::ImageRecord;

use super::remote::{in_parallel, push_error};
use super::repository::Repository;
use super::resolve::choose_manifest;
use super::{Image, ImageError, PullEvent, PullObserver, artifact};
use crate::{Engine, Error, ErrorKind, Result, event};

/// How deep indexes may nest.
const MAX_INDEX_DEPTH: usize = 4;

/// What a push did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pushed {
    /// What was pushed, with its defaults.
    pub reference: Reference,
    /// Digest of the manifest or index that the registry has under it now.
    pub digest: Digest,
    /// Size of that document in bytes.
    pub size_bytes: u64,
}

/// Sends the image that a reference means to the reference's registry. An index goes whole if all its images are here;
/// otherwise the image of the platform does.
///
/// # Errors
/// `NotFound` if no image has this name, `Unauthorised` or `Forbidden` if the registry does not let us, `Unavailable`
/// if it cannot be reached.
pub fn push(
    engine: &Engine,
    reference: &Reference,
    platform: Option<&Platform>,
    observer: &dyn PullObserver,
) -> Result<Pushed> {
    Repository::open(engine, reference)?.push(reference, platform, observer)
}

/// As [`push`], with a client that may have been used for others of the repository.
pub(super) fn push_with(
    engine: &Engine,
    client: Client,
    reference: &Reference,
    platform: Option<&Platform>,
    observer: &dyn PullObserver,
) -> Result<Pushed> {
    let reference = reference.clone().with_default_tag();
    if reference.digest.is_some() {
        return Err(Error::new(
            ErrorKind::Invalid,
            "cannot push a digest reference",
        ));
    }
    let _lock = engine.store().lock_shared().map_err(ImageError::from)?;
    let records = engine.store().images().map_err(ImageError::from)?;
    let Some(record) = records
        .iter()
        .find(|r| r.reference.as_ref() == Some(&reference))
    else {
        return Err(not_here(&reference, &records));
    };
    let push = Push {
        engine,
        client,
        reference,
        observer,
    };
    let parts = push.parts(&record.target, platform)?;
    push.blobs(&parts.blobs, &push.elsewhere(&records))?;
    // Children before the index that names them: a registry has no index with holes.
    let Some((top, children)) = parts.documents.split_last() else {
        return Err(Error::new(
            ErrorKind::Internal,
            "an image without a manifest",
        ));
    };
    for child in children {
        let by_digest = push.reference.with_digest(child.digest.clone());
        push.document(&by_digest, child)?;
    }
    let subjects: Vec<&Digest> = parts.documents.iter().map(|one| &one.digest).collect();
    let referrers = artifact::referrers(engine, &subjects)?;
    // Commit point of a push: the tag at the registry.
    push.document(&push.reference, top)?;
    // What is here about the image goes with it: it means nothing without.
    for about in &referrers {
        push.about(about, &records)?;
    }
    if top.digest == record.target.digest && !record.remote {
        engine
            .store()
            .set_tag(&push.reference, top, true)
            .map_err(ImageError::from)?;
    }
    let Push { reference, .. } = push;
    announce(engine, &reference);
    observer.event(PullEvent::Finished {
        reference: reference.clone(),
        digest: top.digest.clone(),
        newer: true,
    });
    Ok(Pushed {
        reference,
        digest: top.digest.clone(),
        size_bytes: top.size,
    })
}

/// There is no such name, in Docker's words.
fn not_here(wanted: &Reference, records: &[ImageRecord]) -> Error {
    let in_repository = |other: &Reference| other.name() == wanted.name();
    let has_others = records
        .iter()
        .any(|record| record.reference.as_ref().is_some_and(in_repository));
    let message = if has_others {
        format!("tag does not exist: {}", wanted.familiar())
    } else {
        let name = wanted.familiar_name();
        format!("An image does not exist locally with the tag: {name}")
    };
    Error::new(ErrorKind::NotFound, message)
        .hint("`ketch images` lists the names, `ketch tag` makes one")
}

/// The image is there, whatever becomes of the event log.
fn announce(engine: &Engine, reference: &Reference) {
    let pushed = event::Event::now("image", "push", reference.familiar())
        .with("name", reference.familiar_name());
    let _ = event::publish(engine, &pushed);
}

struct Push<'a> {
    engine: &'a Engine,
    client: Client,
    reference: Reference,
    observer: &'a dyn PullObserver,
}

/// All that makes up what is pushed.
#[derive(Default)]
struct Parts {
    /// Manifests and indexes, each after those that it names.
    documents: Vec<Descriptor>,
    /// Layers, lowest first, and configs.
    blobs: Vec<Descriptor>,
}

impl Push<'_> {
    /// Something about the image: a signature, an attestation.
    fn about(&self, about: &Image, records: &[ImageRecord]) -> Result<()> {
        let mut parts = Parts::default();
        // One that is not whole is no reason to fail: the image is there.
        if self.collect(&about.target, &mut parts, 0)? {
            self.blobs(&parts.blobs, &self.elsewhere(records))?;
            let by_digest = self.reference.with_digest(about.id.clone());
            self.document(&by_digest, &about.target)?;
        }
        Ok(())
    }

    /// The whole target, or the manifest of one platform where others are not here or not wanted.
    fn parts(&self, target: &Descriptor, platform: Option<&Platform>) -> Result<Parts> {
        let mut parts = Parts::default();
        if platform.is_none() && self.collect(target, &mut parts, 0)? {
            return Ok(parts);
        }
        let Some(manifest) = choose_manifest(self.engine, target, platform)? else {
            let wanted = platform.cloned().unwrap_or_else(Platform::host);
            let message = format!(
                "image with reference {} was found but does not provide the specified platform ({wanted})",
                self.reference.familiar()
            );
            return Err(Error::new(ErrorKind::NotFound, message));
        };
        let mut parts = Parts::default();
        if !self.collect(&manifest, &mut parts, 0)? {
            let message = format!("image {} is not complete", self.reference.familiar());
            return Err(Error::new(ErrorKind::Conflict, message).hint("pull or load it again"));
        }
        Ok(parts)
    }

    /// Adds a target and what it names; false if something of it is not here.
    fn collect(&self, target: &Descriptor, parts: &mut Parts, depth: usize) -> Result<bool> {
        let store = self.engine.store();
        if depth > MAX_INDEX_DEPTH || !store.has(&target.digest) {
            return Ok(false);
        }
        if parts
            .documents
            .iter()
            .any(|known| known.digest == target.digest)
        {
            return Ok(true);
        }
        match target.media_type.as_str() {
            media_type::INDEX | media_type::DOCKER_LIST => {
                let index: Index = store.document(&target.digest).map_err(ImageError::from)?;
                for child in &index.manifests {
                    if !self.collect(child, parts, depth + 1)? {
                        return Ok(false);
                    }
                }
            }
            media_type::MANIFEST | media_type::DOCKER_MANIFEST => {
                let manifest: Manifest =
                    store.document(&target.digest).map_err(ImageError::from)?;
                for blob in manifest.layers.into_iter().chain([manifest.config]) {
                    if !store.has(&blob.digest) {
                        return Ok(false);
                    }
                    if !parts.blobs.iter().any(|known| known.digest == blob.digest) {
                        parts.blobs.push(blob);
                    }
                }
            }
            other => {
                let message = format!("cannot push media type {other:?}");
                return Err(Error::new(ErrorKind::Unsupported, message));
            }
        }
        parts.documents.push(target.clone());
        Ok(true)
    }

    /// Blobs that the registry has in other repositories, as far as our records tell.
    fn elsewhere(&self, records: &[ImageRecord]) -> BTreeMap<Digest, String> {
        let mut found = BTreeMap::new();
        for record in records.iter().filter(|record| record.remote) {
            let Some(reference) = &record.reference else {
                continue;
            };
            let same = reference.repository == self.reference.repository;
            if reference.host != self.reference.host || same {
                continue;
            }
            let mut parts = Parts::default();
            // A record that cannot be read only makes the push slower.
            let _ = self.collect(&record.target, &mut parts, 0);
            for blob in parts.blobs {
                found
                    .entry(blob.digest)
                    .or_insert_with(|| reference.repository.clone());
            }
        }
        found
    }

    fn blobs(&self, blobs: &[Descriptor], elsewhere: &BTreeMap<Digest, String>) -> Result<()> {
        self.observer.event(PullEvent::Layers {
            layers: blobs.to_vec(),
        });
        let cancelled = AtomicBool::new(false);
        in_parallel(blobs, &cancelled, |blob| {
            self.blob(blob, elsewhere.get(&blob.digest), &cancelled)
        })
    }

    fn blob(&self, blob: &Descriptor, from: Option<&String>, cancelled: &AtomicBool) -> Result<()> {
        let failed = |error: ketch_registry::Error| push_error(&self.reference, &error);
        let digest = &blob.digest;
        if is_foreign(blob) {
            // Not ours to give away: whoever pulls has it from where the manifest says.
            self.observer.event(PullEvent::Exists {
                digest: digest.clone(),
            });
            return Ok(());
        }
        let mut there = self
            .client
            .blob_exists(&self.reference, digest)
            .map_err(failed)?;
        if !there && let Some(from) = from {
            there = self
                .client
                .mount(&self.reference, digest, from)
                .map_err(failed)?;
        }
        if there {
            self.observer.event(PullEvent::Exists {
                digest: digest.clone(),
            });
            return Ok(());
        }
        // Again for each attempt and each part.
        let mut open = |offset: u64| -> io::Result<Box<dyn Read + '_>> {
            let mut file = self
                .engine
                .store()
                .open_blob(digest)
                .map_err(io::Error::other)?;
            file.seek(SeekFrom::Start(offset))?;
            let observer = self.observer;
            Ok(Box::new(Outgoing {
                file,
                blob,
                sent_bytes: offset,
                observer,
                cancelled,
            }))
        };
        self.client
            .upload_blob(&self.reference, blob, &mut open)
            .map_err(failed)?;
        self.observer.event(PullEvent::Done {
            digest: digest.clone(),
        });
        Ok(())
    }

    fn document(&self, reference: &Reference, document: &Descriptor) -> Result<()> {
        let bytes = self
            .engine
            .store()
            .read(&document.digest, ketch_store::MAX_DOCUMENT_BYTES)
            .map_err(ImageError::from)?;
        self.client
            .put_manifest(reference, &document.media_type, &bytes)
            .map_err(|error| push_error(&self.reference, &error))?;
        Ok(())
    }
}

/// Layers that may not be distributed (Windows' base layers) and have URLs of their own.
fn is_foreign(blob: &Descriptor) -> bool {
    let kind =
        blob.media_type.contains(".foreign.") || blob.media_type.contains(".nondistributable.");
    let has_urls = blob
        .other
        .get("urls")
        .and_then(|urls| urls.as_array())
        .is_some_and(|urls| !urls.is_empty());
    kind && has_urls
}

/// A blob's file that tells how far it was read, and ends when another transfer failed.
struct Outgoing<'a> {
    file: File,
    blob: &'a Descriptor,
    sent_bytes: u64,
    observer: &'a dyn PullObserver,
    cancelled: &'a AtomicBool,
}

impl Read for Outgoing<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.cancelled.load(Ordering::Relaxed) {
            return Err(io::Error::other("another layer failed"));
        }
        let count = self.file.read(buffer)?;
        self.sent_bytes += count as u64;
        self.observer.event(PullEvent::Downloading {
            digest: self.blob.digest.clone(),
            done_bytes: self.sent_bytes,
            total_bytes: self.blob.size,
        });
        Ok(count)
    }
}
