//! `save`: one archive that is both what `docker save` writes and an OCI image layout, as Docker's own is since 25.
//!
//! Blobs go in as they are, so every digest stays what it was.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;

use ketch_spec::image::{Descriptor, Index, Manifest, media_type};
use ketch_spec::{Digest, Reference};
use ketch_store::tar::{Entry, Kind, TarError, Writer};
use serde_json::{Value, json};

use super::resolve::resolve_merged;
use super::{Image, ImageError, commit::to_json, no_such_image, read_all};
use crate::{Engine, Error, ErrorKind, Result};

/// What `save` writes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Format {
    /// `manifest.json` and an OCI image layout in one archive.
    #[default]
    Docker,
    /// An OCI image layout only.
    Oci,
}

/// Annotations of `index.json`, as Docker writes them.
const NAME: &str = "io.containerd.image.name";
const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// How deep indexes may nest.
const MAX_INDEX_DEPTH: usize = 8;

/// An image to be saved under some names.
struct Chosen {
    image: Image,
    names: Vec<Reference>,
}

/// Writes images into one archive. Each of `wanted` is a reference, an id or an id prefix; a repository without a tag
/// means all its tags; an image named by id is saved without names.
///
/// # Errors
/// `NotFound` ("No such image: x"); `Invalid` if nothing is named; the writer's.
pub fn save(engine: &Engine, wanted: &[String], writer: impl Write, format: Format) -> Result<()> {
    if wanted.is_empty() {
        return Err(Error::new(ErrorKind::Invalid, "no image to save is named"));
    }
    // A removal at the same time waits for us.
    let _lock = engine.store().lock_shared().map_err(ImageError::from)?;
    let chosen = choose(engine, wanted)?;
    let mut blobs = BTreeSet::new();
    for Chosen { image, .. } in &chosen {
        collect_blobs(engine, &image.target, &mut blobs, 0)?;
        for needed in image
            .blobs
            .iter()
            .map(|blob| &blob.digest)
            .chain([&image.id, &image.manifest.digest])
        {
            if !engine.store().has(needed) {
                return Err(ImageError::from(ketch_store::Error::MissingBlob {
                    digest: needed.clone(),
                })
                .into());
            }
        }
    }
    let mut archive = Archive {
        writer: Writer::new(writer),
        directories: BTreeSet::new(),
    };
    archive.document("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    archive.document("index.json", &to_json("index.json", &index_of(&chosen))?)?;
    if format == Format::Docker {
        archive.document(
            "manifest.json",
            &to_json("manifest.json", &manifest_of(&chosen))?,
        )?;
        archive.document(
            "repositories",
            &to_json("repositories", &repositories_of(&chosen))?,
        )?;
    }
    for digest in &blobs {
        let file = engine.store().open_blob(digest).map_err(ImageError::from)?;
        let size = engine.store().blob_size(digest).unwrap_or_default();
        archive.file(&blob_path(digest), size, file)?;
    }
    archive.writer.finish().map_err(failed)?;
    Ok(())
}

fn choose(engine: &Engine, wanted: &[String]) -> Result<Vec<Chosen>> {
    let mut chosen: Vec<Chosen> = Vec::new();
    for text in wanted {
        for (image, name) in find(engine, text)? {
            match chosen.iter_mut().find(|other| other.image.id == image.id) {
                Some(same) => same
                    .names
                    .extend(name.filter(|name| !same.names.contains(name))),
                None => chosen.push(Chosen {
                    image,
                    names: name.into_iter().collect(),
                }),
            }
        }
    }
    Ok(chosen)
}

/// The images that one argument means, each with the name to save it under.
fn find(engine: &Engine, text: &str) -> Result<Vec<(Image, Option<Reference>)>> {
    if let Ok(repository) = Reference::parse_name(text)
        && repository.tag.is_none()
        && repository.digest.is_none()
    {
        let mut found = Vec::new();
        for image in read_all(engine)? {
            let names: Vec<_> = image
                .references
                .iter()
                .filter(|r| r.name() == repository.name())
                .cloned()
                .collect();
            found.extend(names.into_iter().map(|name| (image.clone(), Some(name))));
        }
        if !found.is_empty() {
            return Ok(found);
        }
    }
    let image = resolve_merged(engine, text)?;
    let name = text
        .parse::<Reference>()
        .ok()
        .filter(|name| image.references.contains(name));
    let by_id = image.id.as_str().starts_with(text) || image.id.hex().starts_with(text);
    if name.is_none() && !by_id && !text.contains('@') && !text.starts_with("sha256:") {
        return Err(no_such_image(text));
    }
    Ok(vec![(image, name)])
}

/// Everything below a target that is here.
fn collect_blobs(
    engine: &Engine,
    target: &Descriptor,
    blobs: &mut BTreeSet<Digest>,
    depth: usize,
) -> Result<()> {
    let store = engine.store();
    if depth > MAX_INDEX_DEPTH || !store.has(&target.digest) || !blobs.insert(target.digest.clone())
    {
        return Ok(());
    }
    match target.media_type.as_str() {
        media_type::INDEX | media_type::DOCKER_LIST => {
            let index: Index = store.document(&target.digest).map_err(ImageError::from)?;
            for child in &index.manifests {
                collect_blobs(engine, child, blobs, depth + 1)?;
            }
        }
        media_type::MANIFEST | media_type::DOCKER_MANIFEST => {
            let manifest: Manifest = store.document(&target.digest).map_err(ImageError::from)?;
            let below = manifest.layers.into_iter().chain([manifest.config]);
            blobs.extend(
                below
                    .map(|blob| blob.digest)
                    .filter(|digest| store.has(digest)),
            );
        }
        _ => {}
    }
    Ok(())
}

/// One entry a name; one without for an image saved by its id.
fn index_of(chosen: &[Chosen]) -> Index {
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
    Index {
        schema_version: 2,
        media_type: Some(media_type::INDEX.to_owned()),
        manifests,
        other: Default::default(),
    }
}

fn manifest_of(chosen: &[Chosen]) -> Value {
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
    Value::Array(chosen.iter().map(one).collect())
}

/// What readers before Docker 1.10 look at.
fn repositories_of(chosen: &[Chosen]) -> Value {
    let mut repositories: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    for Chosen { image, names } in chosen {
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

fn blob_path(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// An archive whose directories are made on the way. Nothing in it depends on when it is written.
struct Archive<W: Write> {
    writer: Writer<W>,
    directories: BTreeSet<String>,
}

impl<W: Write> Archive<W> {
    fn document(&mut self, path: &str, bytes: &[u8]) -> Result<()> {
        self.file(path, bytes.len() as u64, bytes)
    }

    fn file(&mut self, path: &str, size: u64, source: impl std::io::Read) -> Result<()> {
        for (at, _) in path.match_indices('/') {
            if self.directories.insert(path[..at].to_owned()) {
                let mut entry = Entry::new(Kind::Directory, &path[..at]);
                entry.mode = 0o755;
                self.writer.append(&entry).map_err(failed)?;
            }
        }
        let mut entry = Entry::new(Kind::File, path);
        entry.mode = 0o644;
        entry.size = size;
        self.writer.append_file(&entry, source).map_err(failed)
    }
}

fn failed(error: TarError) -> Error {
    match error {
        TarError::Write { source } => ImageError::Stream {
            verb: "write",
            source,
        }
        .into(),
        other => ImageError::Store(other.into()).into(),
    }
}
