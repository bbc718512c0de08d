//! Artifacts: what registries keep beside images (charts, signatures, modules). They are pulled, kept, pushed and removed
//! as they are; nothing of them can run.

use ketch_spec::Reference;
use ketch_spec::image::{Descriptor, Manifest, media_type};

use super::{ImageError, RemovedImage, collect};
use crate::{Engine, Error, ErrorKind, Result};

/// Whether a manifest is one of an image. Images of Docker's first years call their config a stream of octets.
pub(super) fn is_image(manifest: &Descriptor, document: &Manifest) -> bool {
    let kind = document.config.media_type.as_str();
    matches!(kind, media_type::CONFIG | media_type::DOCKER_CONFIG)
        || (manifest.media_type == media_type::DOCKER_MANIFEST
            && kind == "application/octet-stream")
}

/// The type of the artifact that is here as `target`; None for an image, an index, and what cannot be read.
pub(super) fn kind(engine: &Engine, target: &Descriptor) -> Option<String> {
    if !matches!(
        target.media_type.as_str(),
        media_type::MANIFEST | media_type::DOCKER_MANIFEST
    ) {
        return None;
    }
    let document: Manifest = engine.store().document(&target.digest).ok()?;
    if is_image(target, &document) {
        return None;
    }
    let named = document.other.get("artifactType").and_then(|t| t.as_str());
    Some(named.unwrap_or(&document.config.media_type).to_owned())
}

/// The refusal to take an artifact for an image.
pub(super) fn not_an_image(wanted: &str, kind: &str) -> Error {
    let message = format!("{wanted} is an artifact of type {kind}, not an image");
    Error::new(ErrorKind::Unsupported, message)
        .hint("`ketch push` sends it elsewhere, `ketch rmi` removes it")
}

/// Removes an artifact by its name; None where the name means none.
pub(super) fn remove(engine: &Engine, wanted: &str) -> Result<Option<Vec<RemovedImage>>> {
    let Ok(name) = wanted.parse::<Reference>() else {
        return Ok(None);
    };
    let records = engine.store().images().map_err(ImageError::from)?;
    let found = records
        .into_iter()
        .find(|record| record.reference.as_ref() == Some(&name));
    let Some(record) = found.filter(|record| kind(engine, &record.target).is_some()) else {
        return Ok(None);
    };
    let mut removed = Vec::new();
    if engine
        .store()
        .remove_tag(&name, false)
        .map_err(ImageError::from)?
    {
        removed.push(RemovedImage::Untagged(name.familiar()));
        let digest = record.target.digest;
        if collect(engine)?.blobs.contains(&digest) {
            removed.push(RemovedImage::Deleted(digest.to_string()));
        }
    }
    Ok(Some(removed))
}
