//! A new image from a config and layers that are here: the last step of a build, of `commit` and of `import`.

use ketch_spec::image::{Descriptor, ImageConfig, Manifest, media_type};
use ketch_spec::{Digest, Reference};

use super::{ImageError, tag, tell};
use crate::{Engine, Result, event};

/// An image to make.
#[derive(Debug, Clone, Default)]
pub struct NewImage {
    /// Its config; `rootfs` has the diff ids of `layers`.
    pub config: ImageConfig,
    /// Its layer blobs, lowest first.
    pub layers: Vec<Descriptor>,
    /// Its names; without any it is an untagged image.
    pub tags: Vec<Reference>,
}

/// Makes the image and returns its id. The caller holds the store lock shared since it made the layers. An image that
/// loses its last name to this one stays, untagged.
///
/// # Errors
/// A layer is not in the store; config and layers do not fit; the disk failed.
pub fn commit(engine: &Engine, image: NewImage) -> Result<Digest> {
    image.tags.iter().try_for_each(tag::refuse_ambiguous)?;
    let store = engine.store();
    for layer in &image.layers {
        if !store.has(&layer.digest) {
            return Err(ImageError::from(ketch_store::Error::MissingBlob {
                digest: layer.digest.clone(),
            })
            .into());
        }
    }
    let config_bytes = to_json("an image config", &image.config)?;
    let config = store
        .put(media_type::CONFIG, &config_bytes)
        .map_err(ImageError::from)?;
    let diff_ids = image.config.rootfs.diff_ids.len();
    if diff_ids != image.layers.len() {
        let manifest = Digest::of(&config_bytes);
        let blobs = image.layers.len();
        return Err(ImageError::LayerCount {
            manifest,
            blobs,
            config: config.digest,
            diff_ids,
        }
        .into());
    }
    let manifest = Manifest {
        schema_version: 2,
        media_type: Some(media_type::MANIFEST.to_owned()),
        config: config.clone(),
        layers: image.layers,
        other: Default::default(),
    };
    let bytes = to_json("a manifest", &manifest)?;
    let target = store
        .put(media_type::MANIFEST, &bytes)
        .map_err(ImageError::from)?;
    if image.tags.is_empty() {
        store.keep_untagged(&target).map_err(ImageError::from)?;
    }
    for reference in &image.tags {
        store
            .set_tag(reference, &target, false)
            .map_err(ImageError::from)?;
        tell(
            engine,
            event::Event::now("image", "tag", config.digest.to_string())
                .with("name", reference.familiar()),
        );
    }
    Ok(config.digest)
}

pub(super) fn to_json(
    what: &'static str,
    document: &impl serde::Serialize,
) -> Result<Vec<u8>, ImageError> {
    serde_json::to_vec(document).map_err(|source| ImageError::Json { what, source })
}
