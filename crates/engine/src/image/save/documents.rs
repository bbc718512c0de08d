//! What an archive or a layout says about its images.

use std::collections::BTreeMap;

use ketch_spec::Reference;
use ketch_spec::image::{Descriptor, Index, media_type};
use serde_json::{Value, json};

use super::{Chosen, blob_path};

/// Annotations of `index.json`, as Docker writes them.
pub(super) const NAME: &str = "io.containerd.image.name";
pub(super) const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// `oci-layout` (image specification, "Image Layout").
pub(super) const LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

/// The entries of `index.json`: one a name; one without for an image saved by its id.
pub(super) fn entries(chosen: &[Chosen]) -> Vec<Descriptor> {
    let mut manifests = Vec::new();
    for Chosen { image, names } in chosen {
        let target = Descriptor {
            annotations: BTreeMap::new(),
            ..image.target.clone()
        };
        if names.is_empty() {
            manifests.push(target.clone());
        }
        for name in names {
            let tag = name.tag.clone().unwrap_or_default();
            let annotations = BTreeMap::from([
                (NAME.to_owned(), name.to_string()),
                (REF_NAME.to_owned(), tag),
            ]);
            manifests.push(Descriptor {
                annotations,
                ..target.clone()
            });
        }
    }
    manifests
}

/// `index.json`.
pub(super) fn index(manifests: Vec<Descriptor>) -> Index {
    Index {
        schema_version: 2,
        media_type: Some(media_type::INDEX.to_owned()),
        manifests,
        other: Default::default(),
    }
}

/// `manifest.json`.
pub(super) fn manifest(chosen: &[Chosen]) -> Value {
    let one = |Chosen { image, names }: &Chosen| {
        let sources: serde_json::Map<String, Value> = image
            .layers
            .iter()
            .zip(&image.blobs)
            .map(|(diff_id, blob)| (diff_id.to_string(), json!(blob)))
            .collect();
        json!({
            "Config": blob_path(&image.id),
            "RepoTags": names.iter().map(Reference::familiar).collect::<Vec<_>>(),
            "Layers": image.blobs.iter().map(|blob| blob_path(&blob.digest)).collect::<Vec<_>>(),
            "LayerSources": sources,
        })
    };
    // The format knows no artifacts: they are in `index.json` alone.
    let images = chosen.iter().filter(|one| one.image.artifact.is_none());
    Value::Array(images.map(one).collect())
}

/// `repositories`: what readers before Docker 1.10 look at.
pub(super) fn repositories(chosen: &[Chosen]) -> Value {
    let mut repositories: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    for Chosen { image, names } in chosen {
        if image.artifact.is_some() {
            continue;
        }
        let Some(top) = image.blobs.last() else {
            continue;
        };
        for name in names {
            let tags = repositories.entry(name.familiar_name()).or_default();
            tags.insert(
                name.tag.clone().unwrap_or_default(),
                top.digest.hex().to_owned(),
            );
        }
    }
    json!(repositories)
}
