//! Artifacts: what registries keep beside images (charts, signatures, lists of parts). They are pulled, kept, listed,
//! tagged, saved, loaded, pushed and removed as they are; nothing of them can run.

use ketch_spec::image::{Descriptor, ImageConfig, Manifest, media_type};
use ketch_spec::{Digest, Reference};
use ketch_store::ImageRecord;

use super::resolve::set_names;
use super::{Image, ImageError, RemovedImage, collect, tell};
use crate::{Engine, Error, ErrorKind, Result, event};

/// When its maker says that it was made (image specification, "Pre-Defined Annotation Keys").
const CREATED: &str = "org.opencontainers.image.created";

/// Whether a manifest is one of an image: by its config, and because what it names are layers. Images of Docker's first
/// years call their config a stream of octets; signatures have configs of images, and no layers of one.
pub(super) fn is_image(manifest: &Descriptor, document: &Manifest) -> bool {
    let kind = document.config.media_type.as_str();
    let is_config = matches!(kind, media_type::CONFIG | media_type::DOCKER_CONFIG)
        || (manifest.media_type == media_type::DOCKER_MANIFEST
            && kind == "application/octet-stream");
    is_config && document.layers.iter().all(is_layer)
}

/// Whether this is some layer, also one that we cannot unpack (encrypted, say).
fn is_layer(blob: &Descriptor) -> bool {
    let kind = blob.media_type.as_str();
    kind.starts_with("application/vnd.oci.image.layer.")
        || kind.starts_with("application/vnd.docker.image.rootfs.")
        || kind == "application/octet-stream"
}

/// The document of the artifact that is here as `target`, and its type; None for an image, an index, and what cannot be
/// read.
fn read(engine: &Engine, target: &Descriptor) -> Option<(Manifest, String)> {
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
    let first = document.layers.first().map(|blob| &blob.media_type);
    let kind = match (named, first) {
        (Some(named), _) => named.to_owned(),
        // Without a config of its own it is what its content is.
        (None, Some(first)) if is_borrowed(&document.config) => first.clone(),
        _ => document.config.media_type.clone(),
    };
    Some((document, kind))
}

/// Configs that say nothing about the kind.
fn is_borrowed(config: &Descriptor) -> bool {
    matches!(
        config.media_type.as_str(),
        media_type::CONFIG
            | media_type::DOCKER_CONFIG
            | "application/vnd.oci.empty.v1+json"
            | "application/octet-stream"
    )
}

/// The type of the artifact that is here as `target`; None for an image, an index, and what cannot be read.
pub(super) fn kind(engine: &Engine, target: &Descriptor) -> Option<String> {
    read(engine, target).map(|(_, kind)| kind)
}

/// Every artifact that is here, each once, in the order of their records.
///
/// # Errors
/// The records cannot be read.
pub(super) fn read_all(engine: &Engine) -> Result<Vec<Image>> {
    let records = engine.store().images().map_err(ImageError::from)?;
    let mut found: Vec<Image> = Vec::new();
    for record in &records {
        if found.iter().any(|known| known.id == record.target.digest) {
            continue;
        }
        found.extend(assemble(engine, &record.target, &records));
    }
    Ok(found)
}

/// As images are put together: its id is the digest of its manifest, its blobs are all that it names.
fn assemble(engine: &Engine, target: &Descriptor, records: &[ImageRecord]) -> Option<Image> {
    let (document, kind) = read(engine, target)?;
    let created = document.other.get("annotations");
    let created = created.and_then(|all| all.get(CREATED)?.as_str());
    let config = ImageConfig {
        created: created.map(str::to_owned),
        ..ImageConfig::default()
    };
    let mut blobs = document.layers;
    blobs.push(document.config);
    let size_bytes = blobs.iter().map(|blob| blob.size).sum::<u64>() + target.size;
    let mut image = Image {
        id: target.digest.clone(),
        manifest: target.clone(),
        target: target.clone(),
        config,
        layers: Vec::new(),
        blobs,
        references: Vec::new(),
        repo_digests: Vec::new(),
        tagged: None,
        size_bytes,
        artifact: Some(kind),
    };
    set_names(&mut image, records);
    Some(image)
}

/// The artifact that a reference, its digest or the beginning of that means; None where they mean none.
///
/// # Errors
/// The records cannot be read; `Invalid` for the beginning of several.
pub(super) fn find(engine: &Engine, wanted: &str) -> Result<Option<Image>> {
    let all = read_all(engine)?;
    if let Ok(name) = wanted.parse::<Reference>() {
        let is_meant = |artifact: &&Image| match &name.digest {
            None => artifact.references.contains(&name),
            Some(digest) => {
                let same = |one: &Reference| one.name() == name.name();
                artifact.id == *digest
                    && (artifact.references.iter().any(same)
                        || artifact.repo_digests.iter().any(same))
            }
        };
        if let Some(found) = all.iter().find(is_meant) {
            return Ok(Some(found.clone()));
        }
    }
    let digits = wanted.strip_prefix("sha256:").unwrap_or(wanted);
    let is_id = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    let digits = digits.to_ascii_lowercase();
    let mut found = all
        .into_iter()
        .filter(|artifact| is_id && artifact.id.hex().starts_with(&digits));
    match (found.next(), found.next()) {
        (Some(_), Some(_)) => Err(Error::new(
            ErrorKind::Invalid,
            format!("ambiguous image id prefix: {wanted}"),
        )),
        (found, _) => Ok(found),
    }
}

/// What `image` gives, or, where it means no image, the artifact that `wanted` means.
///
/// # Errors
/// Those of `image`, if there is no such artifact either.
pub(super) fn or_artifact(engine: &Engine, wanted: &str, image: Result<Image>) -> Result<Image> {
    match image {
        Err(error) if matches!(error.kind, ErrorKind::NotFound | ErrorKind::Unsupported) => {
            find(engine, wanted)?.ok_or(error)
        }
        other => other,
    }
}

/// The artifacts here whose subject is one of these manifests: signatures of an image, attestations, lists of parts.
///
/// # Errors
/// The records cannot be read.
pub fn referrers(engine: &Engine, subjects: &[&Digest]) -> Result<Vec<Image>> {
    let mut all = read_all(engine)?;
    all.retain(|artifact| {
        let document = engine.store().document::<Manifest>(&artifact.id).ok();
        let subject = document.as_ref().and_then(|document| {
            let subject = document.other.get("subject")?;
            subject.get("digest")?.as_str()
        });
        subject.is_some_and(|subject| subjects.iter().any(|one| one.as_str() == subject))
    });
    Ok(all)
}

/// The refusal to take an artifact for an image.
pub(super) fn not_an_image(wanted: &str, kind: &str) -> Error {
    let message = format!("{wanted} is an artifact of type {kind}, not an image");
    Error::new(ErrorKind::Unsupported, message)
        .hint("`ketch push` sends it elsewhere, `ketch rmi` removes it")
}

/// Removes a name of an artifact, or, given its digest or the beginning of that, all names of it; None where nothing of
/// this is meant.
///
/// # Errors
/// `Conflict` where a digest has names in several repositories and nobody forces it.
pub(super) fn remove(
    engine: &Engine,
    wanted: &str,
    force: bool,
) -> Result<Option<Vec<RemovedImage>>> {
    let Some(artifact) = find(engine, wanted)? else {
        return Ok(None);
    };
    let name = wanted.parse::<Reference>().ok();
    let name = name.filter(|name| name.digest.is_some() || artifact.references.contains(name));
    let names = names_of(engine, &artifact)?;
    let mut repositories: Vec<String> = names.iter().map(Reference::name).collect();
    repositories.dedup();
    if name.is_none() && !force && repositories.len() > 1 {
        return Err(super::remove::conflict(
            &artifact.id,
            "must be forced",
            "image is referenced in multiple repositories",
        ));
    }
    let is_meant = |one: &&Reference| match &name {
        None => true,
        Some(name) if name.digest.is_some() => one.name() == name.name(),
        Some(name) => *one == name,
    };
    let meant: Vec<Reference> = names.iter().filter(is_meant).cloned().collect();
    let mut removed = untag(engine, &artifact.id, &meant)?;
    if collect(engine)?.blobs.contains(&artifact.id) {
        removed.push(deleted(engine, &artifact.id));
    }
    Ok(Some(removed))
}

/// Takes all names of an artifact away, for a prune that collects afterwards.
pub(super) fn remove_records(engine: &Engine, artifact: &Image) -> Result<Vec<RemovedImage>> {
    let names = names_of(engine, artifact)?;
    let mut removed = untag(engine, &artifact.id, &names)?;
    removed.push(deleted(engine, &artifact.id));
    Ok(removed)
}

/// All names that records have for an artifact.
fn names_of(engine: &Engine, artifact: &Image) -> Result<Vec<Reference>> {
    let records = engine.store().images().map_err(ImageError::from)?;
    let of_it = records
        .into_iter()
        .filter(|record| record.target.digest == artifact.id);
    Ok(of_it.filter_map(|record| record.reference).collect())
}

/// Tells that it has gone.
fn deleted(engine: &Engine, id: &Digest) -> RemovedImage {
    let id = id.to_string();
    tell(engine, event::Event::now("image", "delete", id.clone()));
    RemovedImage::Deleted(id)
}

fn untag(engine: &Engine, id: &Digest, names: &[Reference]) -> Result<Vec<RemovedImage>> {
    let mut removed = Vec::new();
    for name in names {
        if engine
            .store()
            .remove_tag(name, false)
            .map_err(ImageError::from)?
        {
            let familiar = name.familiar();
            let untagged = event::Event::now("image", "untag", id.to_string());
            tell(engine, untagged.with("name", familiar.clone()));
            removed.push(RemovedImage::Untagged(familiar));
        }
    }
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn descriptor(kind: &str) -> Descriptor {
        Descriptor {
            media_type: kind.into(),
            digest: Digest::of(kind.as_bytes()),
            size: 1,
            platform: None,
            annotations: Default::default(),
            other: Default::default(),
        }
    }

    fn image(manifest: &str, config: &str, layer: &str) -> bool {
        let document = Manifest {
            schema_version: 2,
            media_type: None,
            config: descriptor(config),
            layers: vec![descriptor(layer)],
            other: Default::default(),
        };
        is_image(&descriptor(manifest), &document)
    }

    #[test]
    fn configs_and_layers_tell_images_from_artifacts() {
        use media_type as kind;
        assert!(image(kind::MANIFEST, kind::CONFIG, kind::LAYER_ZSTD));
        assert!(image(
            kind::DOCKER_MANIFEST,
            kind::DOCKER_CONFIG,
            "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
        ));
        assert!(image(
            kind::DOCKER_MANIFEST,
            "application/octet-stream",
            kind::DOCKER_LAYER_GZIP
        ));
        // Encrypted, which is refused later, by name.
        let encrypted = "application/vnd.oci.image.layer.v1.tar+gzip+encrypted";
        assert!(image(kind::MANIFEST, kind::CONFIG, encrypted));
        // cosign's signatures.
        let signature = "application/vnd.dev.cosign.simplesigning.v1+json";
        assert!(!image(kind::MANIFEST, kind::CONFIG, signature));
        let empty = "application/vnd.oci.empty.v1+json";
        assert!(!image(kind::MANIFEST, empty, kind::LAYER));
        assert!(!image(
            kind::MANIFEST,
            "application/vnd.cncf.helm.config.v1+json",
            "application/vnd.cncf.helm.chart.content.v1.tar+gzip"
        ));
    }
}
