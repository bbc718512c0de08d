//! `save`: images as an archive or as a directory that other tools read.
//!
//! An archive is both what `docker save` writes and an OCI image layout, as Docker's own is since 25, or an OCI layout
//! only; a directory is an OCI layout. Blobs go out as they are, so every digest stays what it was.

mod archive;
mod directory;
mod documents;

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::Path;

use ketch_spec::image::{Descriptor, Index, Manifest, media_type};
use ketch_spec::{Digest, Platform, Reference};

use super::resolve::{assemble, choose_manifest, resolve_merged};
use super::variant::{not_provided, select};
use super::{ArchiveObserver, Image, ImageError, artifact, no_such_image, read_all, resolve};
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

/// How `save` writes.
#[derive(Debug, Clone, Default)]
pub struct SaveOptions {
    /// What an archive is; a directory is always an OCI image layout.
    pub format: Format,
    /// Only these platforms. One alone is saved as its manifest, without the index it is in. Empty means all that are
    /// here.
    pub platforms: Vec<Platform>,
}

/// How deep indexes may nest.
const MAX_INDEX_DEPTH: usize = 8;

/// An image to be saved under some names.
struct Chosen {
    image: Image,
    names: Vec<Reference>,
}

/// What is written.
struct Plan {
    images: Vec<Chosen>,
    blobs: BTreeSet<Digest>,
    /// Those of `blobs` that are layers: what a progress is told of.
    layers: BTreeSet<Digest>,
}

/// Writes images into one archive. Each of `wanted` is a reference, an id or an id prefix; a repository without a tag
/// means all its tags; an image named by id is saved without names. The same images give the same bytes.
///
/// # Errors
/// `NotFound` ("No such image: x", or a platform that is not here); `Invalid` if nothing is named; the writer's.
pub fn save(
    engine: &Engine,
    wanted: &[String],
    writer: impl Write,
    options: &SaveOptions,
    observer: &dyn ArchiveObserver,
) -> Result<()> {
    // A removal at the same time waits for us.
    let _lock = engine.store().lock_shared().map_err(ImageError::from)?;
    let plan = Plan::new(engine, wanted, &options.platforms)?;
    archive::write(engine, &plan, writer, options.format, observer)
}

/// Writes images into a directory, which is made, or is an OCI image layout already, to which they are added; entries
/// under the same names are replaced. What an interrupted save left there is used by the next.
///
/// # Errors
/// As [`save`]; `Invalid` for a directory with something else in it.
pub fn save_directory(
    engine: &Engine,
    wanted: &[String],
    directory: &Path,
    platforms: &[Platform],
    observer: &dyn ArchiveObserver,
) -> Result<()> {
    let _lock = engine.store().lock_shared().map_err(ImageError::from)?;
    let plan = Plan::new(engine, wanted, platforms)?;
    directory::write(engine, &plan, directory, observer)
}

impl Plan {
    fn new(engine: &Engine, wanted: &[String], platforms: &[Platform]) -> Result<Self> {
        if wanted.is_empty() {
            return Err(Error::new(ErrorKind::Invalid, "no image to save is named"));
        }
        let images = choose(engine, wanted, platforms)?;
        let mut plan = Self {
            images: Vec::new(),
            blobs: BTreeSet::new(),
            layers: BTreeSet::new(),
        };
        for Chosen { image, .. } in &images {
            plan.collect(engine, &image.target, platforms, 0)?;
            plan.require(engine, image)?;
        }
        plan.images = images;
        Ok(plan)
    }

    /// Everything below a target that is here.
    fn collect(
        &mut self,
        engine: &Engine,
        target: &Descriptor,
        platforms: &[Platform],
        depth: usize,
    ) -> Result<()> {
        let store = engine.store();
        if depth > MAX_INDEX_DEPTH
            || !store.has(&target.digest)
            || !self.blobs.insert(target.digest.clone())
        {
            return Ok(());
        }
        match target.media_type.as_str() {
            media_type::INDEX | media_type::DOCKER_LIST => {
                let index: Index = store.document(&target.digest).map_err(ImageError::from)?;
                for child in select(&index.manifests, platforms) {
                    self.collect(engine, &child, platforms, depth + 1)?;
                }
            }
            media_type::MANIFEST | media_type::DOCKER_MANIFEST => {
                let manifest: Manifest =
                    store.document(&target.digest).map_err(ImageError::from)?;
                let layers = manifest.layers.into_iter().map(|layer| layer.digest);
                let here: Vec<Digest> = layers.filter(|digest| store.has(digest)).collect();
                self.layers.extend(here.iter().cloned());
                self.blobs.extend(here);
                let config = manifest.config.digest;
                self.blobs.extend(store.has(&config).then_some(config));
            }
            _ => {}
        }
        Ok(())
    }

    /// Nothing of the image itself may be missing; of other platforms in its index it may.
    fn require(&self, engine: &Engine, image: &Image) -> Result<()> {
        let layers = image.blobs.iter().map(|blob| &blob.digest);
        for needed in layers.chain([&image.id, &image.manifest.digest]) {
            if !engine.store().has(needed) {
                let digest = needed.clone();
                return Err(ImageError::from(ketch_store::Error::MissingBlob { digest }).into());
            }
        }
        Ok(())
    }
}

fn choose(engine: &Engine, wanted: &[String], platforms: &[Platform]) -> Result<Vec<Chosen>> {
    let mut chosen: Vec<Chosen> = Vec::new();
    for text in wanted {
        for (image, name) in find(engine, text)? {
            let image = narrow(engine, text, image, platforms)?;
            match chosen
                .iter_mut()
                .find(|other| is_same(&other.image, &image))
            {
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

fn is_same(one: &Image, other: &Image) -> bool {
    one.id == other.id && one.target.digest == other.target.digest
}

/// The image for the wanted platforms, all of which must be here.
fn narrow(engine: &Engine, text: &str, image: Image, platforms: &[Platform]) -> Result<Image> {
    let mut first: Option<Descriptor> = None;
    for platform in platforms {
        let manifest = choose_manifest(engine, &image.target, Some(platform))?;
        let manifest = manifest.ok_or_else(|| not_provided(text, platform))?;
        first.get_or_insert(manifest);
    }
    let Some(manifest) = first else {
        return Ok(image);
    };
    let records = engine.store().images().map_err(ImageError::from)?;
    let mut narrowed = assemble(engine, &image.target, &manifest, &records)?;
    if platforms.len() == 1 {
        narrowed.target = manifest;
    }
    Ok(narrowed)
}

/// The images that one argument means, each with the name to save it under.
fn find(engine: &Engine, text: &str) -> Result<Vec<(Image, Option<Reference>)>> {
    if let Ok(repository) = Reference::parse_name(text)
        && repository.tag.is_none()
        && repository.digest.is_none()
    {
        let mut found = Vec::new();
        for image in artifact::read_all(engine)? {
            let names = image.references.iter();
            for name in names.filter(|name| name.name() == repository.name()) {
                found.push((image.clone(), Some(name.clone())));
            }
        }
        for image in read_all(engine)? {
            let names = image.references.into_iter();
            for name in names.filter(|name| name.name() == repository.name()) {
                // By the name, because names of one image can mean different manifests or indexes of it.
                let meant = resolve(engine, &name.to_string())?;
                found.push((meant, Some(name)));
            }
        }
        if !found.is_empty() {
            return Ok(found);
        }
    }
    let found = artifact::or_artifact(engine, text, resolve_merged(engine, text));
    let image = found.map_err(|error| match error.kind {
        ErrorKind::NotFound => no_such_image(text),
        _ => error,
    })?;
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

fn blob_path(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

fn broken(source: io::Error) -> Error {
    ImageError::Stream {
        verb: "write",
        source,
    }
    .into()
}
