//! `pull`: a registry's image to ours. Every missing layer goes from socket to files in one pass, several at once; what
//! a killed pull leaves is continued by the next.

use std::collections::BTreeSet;
use std::io::{self, Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use ketch_registry::{Client, Fetched};
use ketch_spec::image::{Descriptor, ImageConfig, Index, Manifest, media_type};
use ketch_spec::{Digest, Platform, Reference};
use ketch_store as store;
use serde::de::DeserializeOwned;

use super::artifact::is_image;
use super::remote::{in_parallel, pull_error, store_error};
use super::repository::Repository;
use super::{ImageError, PullEvent, PullObserver};
use crate::{Engine, Error, ErrorKind, Result, event};

/// How deep indexes may nest.
const MAX_INDEX_DEPTH: usize = 4;
/// Platforms that a message lists: more than any image has that is meant to be used.
const PLATFORMS_TOLD: usize = 32;

/// Bytes of an artifact's blob copied at once.
const COPY_BYTES: usize = 128 << 10;

/// What a pull did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pulled {
    /// What was pulled, with its defaults.
    pub reference: Reference,
    /// Digest of the manifest or index that the reference means.
    pub digest: Digest,
    /// Whether the reference means something else than before, or anything was missing:
    /// "Downloaded newer image", not "Image is up to date".
    pub newer: bool,
}

/// Fetches an image from its registry. Without a platform it is the machine's, or what an image that is not an index
/// has. What is no image (an artifact: a chart, a signature) is kept as it is.
///
/// # Errors
/// `NotFound` (no such image or platform, or no access to it, which many registries do not tell apart), `Unavailable`
/// (the registry cannot be reached; the error says which, why, and what else can be done), `Unsupported` (what the
/// reference names is of a format that we cannot read).
pub fn pull(
    engine: &Engine,
    reference: &Reference,
    platform: Option<&Platform>,
    observer: &dyn PullObserver,
) -> Result<Pulled> {
    Repository::open(engine, reference)?.pull(reference, platform, observer)
}

/// As [`pull`], with a client that may have been used for others of the repository.
pub(super) fn pull_with(
    engine: &Engine,
    client: Client,
    reference: &Reference,
    platform: Option<&Platform>,
    observer: &dyn PullObserver,
) -> Result<Pulled> {
    let reference = reference.clone().with_default_tag();
    observer.event(PullEvent::Resolving {
        reference: reference.clone(),
    });
    // Held from the first look at what is here until the record that keeps it.
    let lock = engine.store().lock_shared().map_err(ImageError::from)?;
    let pull = Pull {
        engine,
        client,
        reference,
        wanted: platform,
        observer,
    };
    let (record, before) = pull.recorded()?;
    let target = pull.target(before.as_ref())?;
    let manifest = pull.choose_manifest(&target)?;
    let fetched = match pull.contents(&manifest)? {
        Contents::Image(config, layers, known) => {
            pull.check_platform(&config)?;
            pull.layers(layers, known)?
        }
        Contents::Artifact(blobs) => pull.blobs(&blobs)?,
    };
    let newer = fetched || before.as_ref().map(|before| &before.digest) != Some(&target.digest);
    // Commit point of a pull: the record. What came before it is garbage without it.
    engine
        .store()
        .set_tag(&record, &target, true)
        .map_err(ImageError::from)?;
    // A pull that is done is not undone by a full disk under the event log.
    let _ = event::publish(
        engine,
        &event::Event::now("image", "pull", pull.reference.familiar())
            .with("name", pull.reference.familiar_name()),
    );
    let Pull { reference, .. } = pull;
    drop(lock);
    // What a removal left to us can wait for another, the pull is done.
    let _ = super::collect_if_pending(engine);
    observer.event(PullEvent::Finished {
        reference: reference.clone(),
        digest: target.digest.clone(),
        newer,
    });
    Ok(Pulled {
        reference,
        digest: target.digest,
        newer,
    })
}

struct Pull<'a> {
    engine: &'a Engine,
    client: Client,
    reference: Reference,
    wanted: Option<&'a Platform>,
    observer: &'a dyn PullObserver,
}

/// What a manifest has.
enum Contents {
    /// An image, and whether its config was here before.
    Image(Box<ImageConfig>, Vec<Layer>, bool),
    /// Anything else: blobs, of which we know no more than their digests.
    Artifact(Vec<Descriptor>),
}

/// A layer to have.
struct Layer {
    blob: Descriptor,
    diff_id: Digest,
}

impl Pull<'_> {
    fn store(&self) -> &store::Store {
        self.engine.store()
    }

    fn failed(&self, error: &ketch_registry::Error) -> Error {
        pull_error(&self.reference, error)
    }

    fn store_failed(&self, error: store::Error) -> Error {
        match error {
            store::Error::DigestMismatch {
                expected, actual, ..
            } => self.failed(&ketch_registry::Error::Digest {
                registry: self.reference.host.clone(),
                what: "a blob".into(),
                expected,
                actual,
            }),
            other => store_error(&self.reference, other, pull_error),
        }
    }

    /// The name of the record, and what it means so far. A digest names the image, a tag beside it does not.
    fn recorded(&self) -> Result<(Reference, Option<Descriptor>)> {
        let record = match &self.reference.digest {
            Some(digest) => self.reference.with_digest(digest.clone()),
            None => self.reference.clone(),
        };
        let records = self.store().images().map_err(ImageError::from)?;
        let before = records
            .into_iter()
            .find(|r| r.reference.as_ref() == Some(&record));
        Ok((record, before.map(|before| before.target)))
    }

    /// What the reference means now. What is here is asked for by a cheaper question first.
    fn target(&self, before: Option<&Descriptor>) -> Result<Descriptor> {
        if let Some(before) = before
            && self.store().has(&before.digest)
        {
            let current = match &self.reference.digest {
                Some(digest) => Some(digest.clone()),
                None => self
                    .client
                    .current_digest(&self.reference)
                    .map_err(|error| self.failed(&error))?,
            };
            if current.as_ref() == Some(&before.digest) {
                return Ok(before.clone());
            }
        }
        let fetched = self
            .client
            .resolve(&self.reference)
            .map_err(|error| self.failed(&error))?;
        self.keep(&fetched)
    }

    fn keep(&self, fetched: &Fetched) -> Result<Descriptor> {
        Ok(self
            .store()
            .put(&fetched.media_type, &fetched.bytes)
            .map_err(ImageError::from)?)
    }

    /// Follows indexes to the manifest of the wanted platform.
    fn choose_manifest(&self, target: &Descriptor) -> Result<Descriptor> {
        let mut chosen = target.clone();
        for _ in 0..MAX_INDEX_DEPTH {
            match chosen.media_type.as_str() {
                media_type::MANIFEST | media_type::DOCKER_MANIFEST => return Ok(chosen),
                media_type::INDEX | media_type::DOCKER_LIST => {}
                other => return Err(self.not_an_image(other)),
            }
            let index: Index = self.document(&chosen.digest)?;
            let child = self.choose_child(index)?;
            if !self.store().has(&child.digest) {
                let fetched = self.client.manifest(&self.reference, &child.digest);
                let kept = self.keep(&fetched.map_err(|error| self.failed(&error))?)?;
                if kept.size != child.size {
                    return Err(self.damaged(format!(
                        "the index says that manifest {} has {} bytes, it has {}",
                        child.digest, child.size, kept.size
                    )));
                }
            }
            chosen = child;
        }
        Err(self.damaged(format!(
            "indexes are nested more than {MAX_INDEX_DEPTH} deep"
        )))
    }

    fn choose_child(&self, index: Index) -> Result<Descriptor> {
        let wanted = self.wanted.cloned().unwrap_or_else(Platform::host);
        let mut manifests = index.manifests;
        let unknown = Platform::default();
        let platforms = manifests
            .iter()
            .map(|m| m.platform.as_ref().unwrap_or(&unknown));
        let at = wanted.choose(platforms);
        // An index that names no platform at all has one image; its config will tell whose.
        let single = || (manifests.len() == 1 && manifests[0].platform.is_none()).then_some(0);
        match at.or_else(single) {
            Some(at) => Ok(manifests.swap_remove(at)),
            None => {
                let message =
                    format!("no matching manifest for {wanted} in the manifest list entries");
                let hint = self.offered(&manifests);
                Err(Error::new(ErrorKind::NotFound, message).hint(hint))
            }
        }
    }

    /// For which platforms there is an image; the first of very many.
    fn offered(&self, manifests: &[Descriptor]) -> String {
        let platforms = manifests.iter().filter_map(|one| one.platform.as_ref());
        let names: BTreeSet<String> = platforms
            .filter(|platform| platform.os != "unknown")
            .map(ToString::to_string)
            .collect();
        let more = match names.len().saturating_sub(PLATFORMS_TOLD) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let told: Vec<String> = names.into_iter().take(PLATFORMS_TOLD).collect();
        let image = self.reference.familiar();
        format!("{image} is offered for: {}{more}", told.join(", "))
    }

    /// Config and layers of an image's manifest, checked to fit each other; or the blobs of an artifact.
    fn contents(&self, manifest: &Descriptor) -> Result<Contents> {
        let document: Manifest = self.document(&manifest.digest)?;
        if !is_image(manifest, &document) {
            let mut blobs = document.layers;
            blobs.push(document.config);
            return Ok(Contents::Artifact(blobs));
        }
        let known = self.store().has(&document.config.digest);
        self.fetch_config(&document.config)?;
        let config: ImageConfig = self.document(&document.config.digest)?;
        let diff_ids = config.rootfs.diff_ids.clone();
        if diff_ids.len() != document.layers.len() {
            return Err(ImageError::LayerCount {
                manifest: manifest.digest.clone(),
                blobs: document.layers.len(),
                config: document.config.digest,
                diff_ids: diff_ids.len(),
            }
            .into());
        }
        let layers = document.layers.into_iter().zip(diff_ids);
        let layers = layers.map(|(blob, diff_id)| Layer { blob, diff_id });
        Ok(Contents::Image(Box::new(config), layers.collect(), known))
    }

    fn fetch_config(&self, config: &Descriptor) -> Result<()> {
        if self.store().has(&config.digest) {
            return Ok(());
        }
        if config.size > store::MAX_DOCUMENT_BYTES {
            return Err(self.damaged(format!("its config has {} bytes", config.size)));
        }
        let mut bytes = Vec::new();
        let mut stream = self
            .client
            .blob(&self.reference, config, 0)
            .map_err(|error| self.failed(&error))?;
        if let Err(error) = stream.read_to_end(&mut bytes) {
            return Err(
                match error.get_ref().and_then(|inner| inner.downcast_ref()) {
                    Some(cause) => self.failed(cause),
                    None => Error::caused(
                        ErrorKind::Unavailable,
                        "cannot read the image config",
                        &error,
                    ),
                },
            );
        }
        self.store()
            .put(&config.media_type, &bytes)
            .map_err(ImageError::from)?;
        Ok(())
    }

    /// An image for another machine is fine if nobody asked for a platform: it is all that the reference has.
    fn check_platform(&self, config: &ImageConfig) -> Result<()> {
        let Some(wanted) = self.wanted else {
            return Ok(());
        };
        let found = Platform::new(&config.os, &config.architecture, config.variant.as_deref());
        if wanted.rank(&found).is_some() {
            return Ok(());
        }
        let reference = self.reference.familiar();
        let message = format!(
            "image with reference {reference} was found but does not provide the specified platform ({wanted})"
        );
        Err(Error::new(ErrorKind::NotFound, message).hint(format!("it is for {found}")))
    }

    /// Fetches what is missing; whether anything was.
    fn layers(&self, layers: Vec<Layer>, known: bool) -> Result<bool> {
        let store = self.store();
        let is_here =
            |layer: &Layer| store.has(&layer.blob.digest) && store.has_layer(&layer.diff_id);
        // Of an image that is here as a whole there is nothing to tell.
        let is_whole = known && layers.iter().all(is_here);
        let all = layers.iter().filter(|_| !is_whole);
        self.observer.event(PullEvent::Layers {
            layers: all.map(|layer| layer.blob.clone()).collect(),
        });
        if is_whole {
            return Ok(false);
        }
        // An image can have the same layer twice (an empty one, mostly).
        let mut seen = BTreeSet::new();
        let mut layers: Vec<Layer> = layers
            .into_iter()
            .filter(|layer| seen.insert((layer.blob.digest.clone(), layer.diff_id.clone())))
            .collect();
        // The largest first, or at the end one is waited for while nobody else has work.
        layers.sort_by_key(|layer| std::cmp::Reverse(layer.blob.size));
        let fetched = AtomicBool::new(false);
        let cancelled = AtomicBool::new(false);
        in_parallel(&layers, &cancelled, |layer| {
            if self.layer(layer, &cancelled)? {
                fetched.store(true, Ordering::Relaxed);
            }
            Ok(())
        })?;
        Ok(fetched.into_inner())
    }

    fn layer(&self, layer: &Layer, cancelled: &AtomicBool) -> Result<bool> {
        let mut continued = true;
        while continued {
            let begun = self.store().begin_layer(&layer.blob, &layer.diff_id);
            let Some(ingest) = begun.map_err(|error| self.store_failed(error))? else {
                self.observer.event(PullEvent::Exists {
                    digest: layer.blob.digest.clone(),
                });
                return Ok(false);
            };
            continued = ingest.offset() > 0;
            match self.fetch_layer(layer, ingest, cancelled) {
                Ok(()) => break,
                // What an earlier pull left was bad, and is thrown away now: once more, from the start.
                Err(store::Error::DigestMismatch { .. }) if continued => {}
                Err(error) => return Err(self.store_failed(error)),
            }
        }
        self.observer.event(PullEvent::Done {
            digest: layer.blob.digest.clone(),
        });
        Ok(true)
    }

    /// One pass from socket to files.
    fn fetch_layer(
        &self,
        layer: &Layer,
        ingest: store::Ingest,
        cancelled: &AtomicBool,
    ) -> Result<(), store::Error> {
        let blob = &layer.blob;
        let offset = ingest.offset();
        let progress = |done_bytes: u64| {
            let digest = blob.digest.clone();
            self.observer.event(if done_bytes < blob.size {
                PullEvent::Downloading {
                    digest,
                    done_bytes,
                    total_bytes: blob.size,
                }
            } else {
                PullEvent::Unpacking { digest }
            });
        };
        progress(offset.min(blob.size.saturating_sub(1)));
        // Opened by the first read, so that a failure to open is one of the stream.
        let open = || {
            // The store hashes: once is enough.
            self.client
                .unchecked_blob(&self.reference, blob, offset)
                .map_err(io::Error::other)
        };
        let stream = Stream {
            open: Some(open),
            stream: None,
            cancelled,
        };
        ingest.unpack(stream, &layer.diff_id, &progress).map(drop)
    }

    /// Fetches the blobs of an artifact, as they are; whether any was missing.
    fn blobs(&self, blobs: &[Descriptor]) -> Result<bool> {
        self.observer.event(PullEvent::Layers {
            layers: blobs.to_vec(),
        });
        let fetched = AtomicBool::new(false);
        let cancelled = AtomicBool::new(false);
        in_parallel(blobs, &cancelled, |blob| {
            let digest = blob.digest.clone();
            let event = if self.blob(blob, &cancelled)? {
                fetched.store(true, Ordering::Relaxed);
                PullEvent::Done { digest }
            } else {
                PullEvent::Exists { digest }
            };
            self.observer.event(event);
            Ok(())
        })?;
        Ok(fetched.into_inner())
    }

    fn blob(&self, blob: &Descriptor, cancelled: &AtomicBool) -> Result<bool> {
        let failed = |error| self.store_failed(error);
        loop {
            let Some(mut ingest) = self.store().ingest(blob).map_err(failed)? else {
                return Ok(false);
            };
            let offset = ingest.offset();
            let open = || {
                self.client
                    .unchecked_blob(&self.reference, blob, offset)
                    .map_err(io::Error::other)
            };
            let mut stream = Stream {
                open: Some(open),
                stream: None,
                cancelled,
            };
            let copied = if offset < blob.size {
                copy(&mut stream, &mut ingest, blob)
            } else {
                Ok(())
            };
            match copied.and_then(|()| ingest.commit()) {
                Ok(()) => return Ok(true),
                // What an earlier pull left was bad, and is thrown away now: once more, from the start.
                Err(store::Error::DigestMismatch { .. }) if offset > 0 => {}
                Err(error) => return Err(self.store_failed(error)),
            }
        }
    }

    fn document<T: DeserializeOwned>(&self, digest: &Digest) -> Result<T> {
        Ok(self.store().document(digest).map_err(ImageError::from)?)
    }

    fn not_an_image(&self, media_type: &str) -> Error {
        let message = format!("{} is not an image", self.reference.familiar());
        let mut error = Error::new(ErrorKind::Unsupported, message);
        error
            .causes
            .push(format!("media type {media_type:?} is not supported"));
        error
    }

    fn damaged(&self, reason: String) -> Error {
        let mut error = Error::new(
            ErrorKind::Invalid,
            format!("damaged image {}", self.reference.familiar()),
        );
        error.causes.push(reason);
        error
    }
}

/// Copies what is left of a blob; a failed read is the source's failure.
fn copy(
    stream: &mut impl Read,
    ingest: &mut store::Ingest,
    blob: &Descriptor,
) -> Result<(), store::Error> {
    let mut buffer = vec![0u8; COPY_BYTES];
    let mut received_bytes = ingest.offset();
    let stopped = |source, received_bytes| store::Error::Source {
        digest: blob.digest.clone(),
        received_bytes,
        expected_bytes: blob.size,
        source,
    };
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => {
                let written = ingest.write_all(&buffer[..count]);
                written.map_err(|error| match error.downcast::<store::Error>() {
                    Ok(own) => own,
                    Err(error) => stopped(error, received_bytes),
                })?;
                received_bytes += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(stopped(error, received_bytes)),
        }
    }
}

/// A blob's stream, opened when it is first read, that ends when another transfer failed.
struct Stream<'a, F> {
    open: Option<F>,
    stream: Option<Box<dyn Read + Send>>,
    cancelled: &'a AtomicBool,
}

impl<F: FnOnce() -> io::Result<Box<dyn Read + Send>>> Read for Stream<'_, F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.cancelled.load(Ordering::Relaxed) {
            return Err(io::Error::other("another layer failed"));
        }
        if let Some(open) = self.open.take() {
            self.stream = Some(open()?);
        }
        match &mut self.stream {
            Some(stream) => stream.read(buffer),
            None => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }
}
