//! Which image a user means.

use std::collections::BTreeMap;

use ketch_spec::image::{Descriptor, ImageConfig, Index, Manifest, media_type};
use ketch_spec::{Digest, Platform, Reference};
use ketch_store::ImageRecord;

use super::{Image, ImageError, artifact, no_such_image};
use crate::{Engine, Error, ErrorKind, Result};

/// How deep indexes may nest.
pub(super) const MAX_INDEX_DEPTH: usize = 8;

/// The image that `wanted` means: a reference (`busybox`, `busybox:1`, `busybox@sha256:…`), an id (`sha256:…` or its
/// hex digits), or the first digits of one. A name that could also be an id's beginning is looked up as a name first.
///
/// # Errors
/// `NotFound` ("No such image: x"), `Invalid` for a text that can be none of these or a prefix of several ids.
pub fn resolve(engine: &Engine, wanted: &str) -> Result<Image> {
    resolve_for(engine, wanted, None)
}

/// As [`resolve`], for a given platform where several are here; None is the machine's, or else the one that is here.
///
/// # Errors
/// As [`resolve`]; `NotFound` if the image is here, but not for that platform.
pub fn resolve_for(engine: &Engine, wanted: &str, platform: Option<&Platform>) -> Result<Image> {
    let records = engine.store().images().map_err(ImageError::from)?;
    let target = match find_target(engine, wanted, &records) {
        Err(error) if error.kind == ErrorKind::NotFound => {
            // Artifacts have no ids of images, but digests.
            let artifact = artifact::find(engine, wanted)?.and_then(|found| found.artifact);
            return Err(artifact.map_or(error, |kind| artifact::not_an_image(wanted, &kind)));
        }
        target => target?,
    };
    let manifest = match choose_manifest(engine, &target, platform)? {
        Some(manifest) => manifest,
        None => {
            if let Some(kind) = artifact::kind(engine, &target) {
                return Err(artifact::not_an_image(wanted, &kind));
            }
            let platform = platform.cloned().unwrap_or_else(Platform::host);
            return Err(super::variant::not_provided(wanted, &platform));
        }
    };
    assemble(engine, &target, &manifest, &records)
}

/// As [`resolve`], with the names that other records give to the same image: when one was pulled in an index and
/// loaded as a manifest, say. Reads every image's documents.
pub(super) fn resolve_merged(engine: &Engine, wanted: &str) -> Result<Image> {
    let mut image = resolve(engine, wanted)?;
    if let Some(merged) = read_all(engine)?
        .into_iter()
        .find(|other| other.id == image.id)
    {
        // What it is stays what was asked for: another record's manifest can be another one, of the same config.
        image.references = merged.references;
        image.repo_digests = merged.repo_digests;
        image.tagged = merged.tagged;
    }
    Ok(image)
}

/// The records of all targets whose image has this id.
pub(super) fn records_of(engine: &Engine, id: &Digest) -> Result<Vec<ImageRecord>> {
    let records = engine.store().images().map_err(ImageError::from)?;
    let is_of = |record: &ImageRecord| -> Option<bool> {
        let manifest = choose_manifest(engine, &record.target, None).ok()??;
        let document: Manifest = engine.store().document(&manifest.digest).ok()?;
        Some(document.config.digest == *id)
    };
    Ok(records
        .into_iter()
        .filter(|record| is_of(record) == Some(true))
        .collect())
}

/// Every image that is here, each once, in the order of their records. Images whose documents cannot be read are left
/// out: a listing must not fail because of one of them.
///
/// # Errors
/// The records cannot be read.
pub fn read_all(engine: &Engine) -> Result<Vec<Image>> {
    let records = engine.store().images().map_err(ImageError::from)?;
    let mut targets: Vec<&Descriptor> = Vec::new();
    for record in &records {
        if !targets
            .iter()
            .any(|target| target.digest == record.target.digest)
        {
            targets.push(&record.target);
        }
    }
    let mut images: Vec<Image> = Vec::new();
    for target in targets {
        let Ok(Some(manifest)) = choose_manifest(engine, target, None) else {
            continue;
        };
        let Ok(image) = assemble(engine, target, &manifest, &records) else {
            continue;
        };
        // Two targets can hold the same image: once by its manifest, once in an index.
        match images.iter_mut().find(|other| other.id == image.id) {
            Some(same) => merge(same, image),
            None => images.push(image),
        }
    }
    Ok(images)
}

fn merge(into: &mut Image, from: Image) {
    // An index tells of the other platforms too.
    if into.target.digest == into.manifest.digest && from.target.digest != from.manifest.digest {
        into.target = from.target;
        into.manifest = from.manifest;
        into.blobs = from.blobs;
    }
    into.references.extend(from.references);
    into.repo_digests.extend(from.repo_digests);
    into.tagged = into.tagged.max(from.tagged);
}

/// The record target that `wanted` means.
fn find_target(engine: &Engine, wanted: &str, records: &[ImageRecord]) -> Result<Descriptor> {
    if wanted.is_empty() {
        return Err(Error::new(ErrorKind::Invalid, "invalid reference format"));
    }
    let reference = wanted.parse::<Reference>();
    if let Ok(reference) = &reference
        && let Some(target) = by_reference(reference, records)
    {
        return Ok(target);
    }
    let digits = wanted.strip_prefix("sha256:").unwrap_or(wanted);
    let could_be_id =
        !digits.is_empty() && digits.len() <= 64 && digits.bytes().all(|b| b.is_ascii_hexdigit());
    if could_be_id
        && let Some(target) = by_id(engine, &digits.to_ascii_lowercase(), wanted, records)?
    {
        return Ok(target);
    }
    match reference {
        Ok(reference) if !could_be_id => Err(no_such_image(&reference.familiar())),
        Ok(_) => Err(no_such_image(wanted)),
        Err(_) if could_be_id => Err(no_such_image(wanted)),
        Err(error) => Err(Error::new(ErrorKind::Invalid, error.to_string())),
    }
}

/// A digest, where there is one, decides; a tag beside it is only a note.
fn by_reference(reference: &Reference, records: &[ImageRecord]) -> Option<Descriptor> {
    let found = match &reference.digest {
        None => records
            .iter()
            .find(|record| record.reference.as_ref() == Some(reference)),
        Some(digest) => records.iter().find(|record| {
            record.target.digest == *digest
                && record.reference.as_ref().is_some_and(|r| {
                    r.host == reference.host && r.repository == reference.repository
                })
        }),
    };
    found.map(|record| record.target.clone())
}

/// By the id or its beginning, or by the digest of the manifest or index itself.
fn by_id(
    engine: &Engine,
    digits: &str,
    wanted: &str,
    records: &[ImageRecord],
) -> Result<Option<Descriptor>> {
    let mut found: BTreeMap<Digest, Descriptor> = BTreeMap::new();
    for record in records {
        let manifest = match choose_manifest(engine, &record.target, None) {
            Ok(Some(manifest)) => manifest,
            _ => continue,
        };
        let Ok(document) = engine.store().document::<Manifest>(&manifest.digest) else {
            continue;
        };
        let id = document.config.digest;
        let digests = [&id, &record.target.digest, &manifest.digest];
        if digests
            .iter()
            .any(|digest| digest.hex().starts_with(digits))
        {
            found.entry(id).or_insert_with(|| record.target.clone());
        }
    }
    if found.len() > 1 {
        return Err(Error::new(
            ErrorKind::Invalid,
            format!("ambiguous image id prefix: {wanted}"),
        ));
    }
    Ok(found.into_values().next())
}

/// The manifest to use of a target: itself, or the best platform among those of the index that are here.
pub(super) fn choose_manifest(
    engine: &Engine,
    target: &Descriptor,
    platform: Option<&Platform>,
) -> Result<Option<Descriptor>> {
    let mut candidates = Vec::new();
    list_manifests(engine, target, &mut candidates, 0)?;
    let host = Platform::host();
    let platforms: Vec<Platform> = candidates
        .iter()
        .map(|(_, platform)| platform.clone())
        .collect();
    let chosen = platform.unwrap_or(&host).choose(&platforms);
    let chosen = match (chosen, platform) {
        (Some(at), _) => Some(at),
        // Nobody asked for a platform: what is here is what was pulled.
        (None, None) if !candidates.is_empty() => Some(0),
        _ => None,
    };
    Ok(chosen.map(|at| candidates.swap_remove(at).0))
}

/// Every image manifest below `target` that is here, with its platform.
pub(super) fn list_manifests(
    engine: &Engine,
    target: &Descriptor,
    found: &mut Vec<(Descriptor, Platform)>,
    depth: usize,
) -> Result<()> {
    let store = engine.store();
    if depth > MAX_INDEX_DEPTH || !store.has(&target.digest) {
        return Ok(());
    }
    match target.media_type.as_str() {
        media_type::INDEX | media_type::DOCKER_LIST => {
            let index: Index = store.document(&target.digest).map_err(ImageError::from)?;
            for child in &index.manifests {
                list_manifests(engine, child, found, depth + 1)?;
            }
        }
        media_type::MANIFEST | media_type::DOCKER_MANIFEST => {
            let manifest: Manifest = store.document(&target.digest).map_err(ImageError::from)?;
            if !store.has(&manifest.config.digest) || !artifact::is_image(target, &manifest) {
                return Ok(());
            }
            let config: ImageConfig = match store.document(&manifest.config.digest) {
                Ok(config) => config,
                // An artifact (a chart, a signature): its config is no image's.
                Err(ketch_store::Error::Json { .. }) => return Ok(()),
                Err(error) => return Err(ImageError::from(error).into()),
            };
            let platform =
                Platform::new(&config.os, &config.architecture, config.variant.as_deref());
            // Attestations sit in an index under a platform of their own.
            if target.platform.as_ref().is_none_or(|p| p.os != "unknown") {
                found.push((
                    Descriptor {
                        platform: None,
                        ..target.clone()
                    },
                    platform,
                ));
            }
        }
        _ => {}
    }
    Ok(())
}

/// Puts together what records and documents say.
pub(super) fn assemble(
    engine: &Engine,
    target: &Descriptor,
    manifest: &Descriptor,
    records: &[ImageRecord],
) -> Result<Image> {
    let store = engine.store();
    let document: Manifest = store.document(&manifest.digest).map_err(ImageError::from)?;
    let config: ImageConfig = store
        .document(&document.config.digest)
        .map_err(ImageError::from)?;
    let layers = config.rootfs.diff_ids.clone();
    if layers.len() != document.layers.len() {
        return Err(ImageError::LayerCount {
            manifest: manifest.digest.clone(),
            blobs: document.layers.len(),
            config: document.config.digest,
            diff_ids: layers.len(),
        }
        .into());
    }
    let mut size_bytes = 0;
    for diff_id in &layers {
        size_bytes += store.layer(diff_id).map_err(ImageError::from)?.size_bytes;
    }
    let mut image = Image {
        id: document.config.digest,
        manifest: manifest.clone(),
        target: target.clone(),
        config,
        layers,
        blobs: document.layers,
        references: Vec::new(),
        repo_digests: Vec::new(),
        tagged: None,
        size_bytes,
        artifact: None,
    };
    set_names(&mut image, records);
    Ok(image)
}

/// What records call the image's target.
pub(super) fn set_names(image: &mut Image, records: &[ImageRecord]) {
    let target = image.target.digest.clone();
    for record in records
        .iter()
        .filter(|record| record.target.digest == target)
    {
        let Some(reference) = &record.reference else {
            continue;
        };
        image.tagged = image.tagged.max(record.tagged);
        if record.remote || reference.digest.is_some() {
            let by_digest = Reference {
                tag: None,
                ..reference.with_digest(target.clone())
            };
            if !image.repo_digests.contains(&by_digest) {
                image.repo_digests.push(by_digest);
            }
        }
        if reference.tag.is_some() && reference.digest.is_none() {
            image.references.push(reference.clone());
        }
    }
    // As Docker has them everywhere, whatever the order in which they came.
    image.references.sort_by_cached_key(Reference::to_string);
    image.repo_digests.sort_by_cached_key(Reference::to_string);
}
