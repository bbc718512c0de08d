//! By `index.json`.

use std::collections::BTreeMap;

use ketch_spec::image::{Descriptor, ImageConfig, Index, Manifest, media_type};
use ketch_spec::{Digest, Platform, Reference};

use super::contents::Contents;
use super::{Loaded, Ready, check_layer, docker, invalid, parse, record_all};
use crate::image::resolve::list_manifests;
use crate::image::variant::{not_provided, select};
use crate::image::{ImageError, artifact};
use crate::{Engine, Result};

/// The full name of an entry.
const NAME: &str = "io.containerd.image.name";
/// Its name within the layout, which can be as little as a tag.
const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// How deep indexes may nest.
const MAX_INDEX_DEPTH: usize = 8;

/// By `index.json`: manifests keep their digests.
pub(super) fn load(
    engine: &Engine,
    contents: &Contents,
    platforms: &[Platform],
) -> Result<Vec<Loaded>> {
    let index: Index = parse("index.json", &contents.documents["index.json"])?;
    let names = docker::names(contents)?;
    let mut ready = Vec::with_capacity(index.manifests.len());
    for descriptor in &index.manifests {
        ready.extend(image(engine, contents, descriptor, &names, platforms)?);
    }
    if ready.is_empty() {
        return Err(invalid("index.json names no image"));
    }
    record_all(engine, ready)
}

/// One entry's image; None for an attestation that stands beside its image.
fn image(
    engine: &Engine,
    contents: &Contents,
    descriptor: &Descriptor,
    names: &BTreeMap<Digest, Vec<Reference>>,
    platforms: &[Platform],
) -> Result<Option<Ready>> {
    let platform = descriptor.platform.as_ref();
    if platform.is_some_and(|platform| platform.os == "unknown") {
        return Ok(None);
    }
    let target = Descriptor {
        annotations: BTreeMap::new(),
        ..descriptor.clone()
    };
    keep(engine, contents, &target, platforms, 0)?;
    let mut manifests = Vec::new();
    list_manifests(engine, &target, &mut manifests, 0)?;
    if manifests.is_empty() && artifact::kind(engine, &target).is_some() {
        return whole_artifact(engine, target, name_of(descriptor)).map(Some);
    }
    if manifests.is_empty() {
        return Err(invalid(format!(
            "image {} is not in the archive",
            target.digest
        )));
    }
    let all: Vec<Platform> = manifests.iter().map(|one| one.1.clone()).collect();
    let name = name_of(descriptor);
    for platform in platforms {
        if platform.choose(&all).is_none() {
            let wanted = name.as_ref().map(Reference::familiar);
            let wanted = wanted.unwrap_or_else(|| target.digest.to_string());
            return Err(not_provided(&wanted, platform));
        }
    }
    for (manifest, _) in &manifests {
        require_layers(engine, manifest, contents)?;
    }
    let shown = Platform::host().choose(&all).unwrap_or(0);
    let document: Manifest = engine
        .store()
        .document(&manifests[shown].0.digest)
        .map_err(ImageError::from)?;
    let id = document.config.digest;
    let mut references: Vec<Reference> = name.into_iter().collect();
    if references.is_empty() {
        references = names.get(&id).cloned().unwrap_or_default();
    }
    Ok(Some(Ready {
        id,
        target,
        references,
    }))
}

/// An artifact, all of which has to be here.
fn whole_artifact(engine: &Engine, target: Descriptor, name: Option<Reference>) -> Result<Ready> {
    let store = engine.store();
    let document: Manifest = store.document(&target.digest).map_err(ImageError::from)?;
    for blob in document.layers.iter().chain([&document.config]) {
        if !store.has(&blob.digest) {
            let what = format!(
                "blob {} of artifact {} is not in the archive",
                blob.digest, target.digest
            );
            return Err(invalid(what));
        }
    }
    Ok(Ready {
        id: target.digest.clone(),
        target,
        references: name.into_iter().collect(),
    })
}

/// Puts the manifests below a target into the store: those of the wanted platforms, and of these, where an index offers
/// several, those that are whole. What an archive has of other platforms is often only the manifest.
fn keep(
    engine: &Engine,
    contents: &Contents,
    target: &Descriptor,
    platforms: &[Platform],
    depth: usize,
) -> Result<()> {
    let store = engine.store();
    if let Some(bytes) = contents.manifests.get(&target.digest) {
        store.put("", bytes).map_err(ImageError::from)?;
    }
    let is_index = matches!(
        target.media_type.as_str(),
        media_type::INDEX | media_type::DOCKER_LIST
    );
    if !is_index || depth > MAX_INDEX_DEPTH || !store.has(&target.digest) {
        return Ok(());
    }
    let index: Index = store.document(&target.digest).map_err(ImageError::from)?;
    let chosen = select(&index.manifests, platforms);
    let mut whole = Vec::with_capacity(chosen.len());
    for child in &chosen {
        if is_whole(engine, contents, child)? {
            whole.push(child);
        }
    }
    if whole.is_empty() {
        // Then what is missing is to be told.
        whole.extend(&chosen);
    }
    for child in whole {
        keep(engine, contents, child, platforms, depth + 1)?;
    }
    Ok(())
}

/// Whether everything that a child of an index names is here.
fn is_whole(engine: &Engine, contents: &Contents, child: &Descriptor) -> Result<bool> {
    let store = engine.store();
    let has = |digest: &Digest| contents.blobs.contains_key(digest) || store.has(digest);
    match contents.manifests.get(&child.digest) {
        None => Ok(store.has(&child.digest)),
        Some(_) if child.media_type == media_type::INDEX => Ok(true),
        Some(_) if child.media_type == media_type::DOCKER_LIST => Ok(true),
        Some(bytes) => {
            let manifest: Manifest = parse(child.digest.as_str(), bytes)?;
            Ok(has(&manifest.config.digest)
                && manifest.layers.iter().all(|layer| has(&layer.digest)))
        }
    }
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
