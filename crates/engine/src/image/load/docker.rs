//! By `manifest.json`.

use std::collections::BTreeMap;

use ketch_spec::image::{ImageConfig, Manifest, media_type};
use ketch_spec::{Digest, Platform, Reference};
use serde::Deserialize;

use super::contents::{Contents, clean};
use super::{Loaded, Ready, check_layer, invalid, parse, record_all};
use crate::image::ImageError;
use crate::image::commit::to_json;
use crate::image::variant::not_provided;
use crate::{Engine, Error, ErrorKind, Result};

/// How far links between files of an old archive are followed.
const MAX_LINKS: usize = 16;

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

/// `RepoTags` by image id, for layouts whose `index.json` has no names.
pub(super) fn names(contents: &Contents) -> Result<BTreeMap<Digest, Vec<Reference>>> {
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

/// By `manifest.json`, for archives that have no manifests: one is made.
pub(super) fn load(
    engine: &Engine,
    contents: &Contents,
    platforms: &[Platform],
) -> Result<Vec<Loaded>> {
    let entries: Vec<DockerEntry> = parse("manifest.json", &contents.documents["manifest.json"])?;
    let mut ready = Vec::with_capacity(entries.len());
    for entry in &entries {
        ready.push(image(engine, contents, entry, platforms)?);
    }
    record_all(engine, ready)
}

/// One entry's image.
fn image(
    engine: &Engine,
    contents: &Contents,
    entry: &DockerEntry,
    platforms: &[Platform],
) -> Result<Ready> {
    let references = references(entry)?;
    let path = follow(contents, &entry.config, |path| {
        contents.documents.contains_key(path)
    })?;
    let bytes = &contents.documents[&path];
    let config: ImageConfig = parse(&path, bytes)?;
    let found = Platform::new(&config.os, &config.architecture, config.variant.as_deref());
    if let Some(missing) = platforms.iter().find(|one| one.rank(&found).is_none()) {
        let name = references.first().map_or(path, Reference::familiar);
        return Err(not_provided(&name, missing));
    }
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
    Ok(Ready {
        id: config.digest,
        target,
        references,
    })
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
