//! By `index.json`.

use std::collections::BTreeMap;

use ketch_spec::image::{Descriptor, ImageConfig, Index, Manifest};
use ketch_spec::{Platform, Reference};

use super::contents::Contents;
use super::{Loaded, check_layer, docker, invalid, parse, record};
use crate::image::ImageError;
use crate::image::resolve::list_manifests;
use crate::{Engine, Result};

/// The full name of an entry.
const NAME: &str = "io.containerd.image.name";
/// Its name within the layout, which can be as little as a tag.
const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// By `index.json`: manifests keep their digests.
pub(super) fn load(engine: &Engine, contents: &Contents) -> Result<Vec<Loaded>> {
    let index: Index = parse("index.json", &contents.documents["index.json"])?;
    let names = docker::names(contents)?;
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
