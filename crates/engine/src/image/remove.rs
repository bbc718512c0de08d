//! `rmi`: the rules and words are those of Docker's image service (daemon/images/image_delete.go).

use ketch_spec::{Digest, Platform, Reference};
use ketch_store::Freed;

use super::remove_platform::remove_platforms;
use super::resolve::{records_of, resolve, resolve_merged};
use super::usage::{containers_of, is_running};
use super::{Image, ImageError, artifact, collect, tell};
use crate::container::Container;
use crate::{Engine, Error, ErrorKind, Result, event};

/// One line of what `rmi` did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RemovedImage {
    /// A name was taken away.
    Untagged(String),
    /// An image (by id) or a layer (by chain id) is gone.
    Deleted(String),
}

/// How `rmi` removes.
#[derive(Debug, Clone, Default)]
pub struct RemoveOptions {
    /// Although it is used by a stopped container, or named in several repositories.
    pub force: bool,
    /// Keep untagged parents. There are none here, so nothing is done about them either way.
    pub no_prune: bool,
    /// Only these platforms of it; empty means all.
    pub platforms: Vec<Platform>,
}

/// Removes a name, and with its last name the image; or, given an id, the image with its names. Layers that containers
/// use stay until those are removed.
///
/// # Errors
/// `NotFound` ("No such image: x"), `Conflict` if a container uses the image (`force` overrides a stopped one) or, for
/// an id, if it has names in several repositories (`force` overrides).
pub fn remove(engine: &Engine, wanted: &str, options: &RemoveOptions) -> Result<Vec<RemovedImage>> {
    if !options.platforms.is_empty() {
        return remove_platforms(engine, wanted, &options.platforms, options.force);
    }
    if resolve(engine, wanted).is_err()
        && let Some(removed) = artifact::remove(engine, wanted, options.force)?
    {
        return Ok(removed);
    }
    let (mut removed, gone) = remove_records(engine, wanted, options.force)?;
    let Some(image) = gone else {
        return Ok(removed);
    };
    let freed = collect(engine)?;
    removed.extend(layer_lines(&image.layers, &freed));
    Ok(removed)
}

/// The layers of an image that a collection freed, uppermost first, by chain id.
pub(super) fn layer_lines(
    diff_ids: &[Digest],
    freed: &Freed,
) -> impl Iterator<Item = RemovedImage> {
    let chains = chain_ids(diff_ids).into_iter().zip(diff_ids).rev();
    chains
        .filter(|(_, diff_id)| freed.layers.contains(diff_id))
        .map(|(chain, _)| RemovedImage::Deleted(chain.to_string()))
}

/// As [`remove`], without freeing anything yet; returns the image if it is gone.
pub(super) fn remove_records(
    engine: &Engine,
    wanted: &str,
    force: bool,
) -> Result<(Vec<RemovedImage>, Option<Image>)> {
    let mut removed = Vec::new();
    let image = resolve_merged(engine, wanted)?;
    let containers = containers_of(engine, &image.target)?;
    if is_by_id(&image, wanted) {
        check_by_id(&image, &containers, force)?;
    } else {
        if !force
            && is_single(&image)
            && let Some(container) = containers.first()
        {
            return Err(reference_in_use(wanted, container, &image.id));
        }
        let reference = named(wanted)?;
        untag_one(engine, &image, &reference, &mut removed)?;
        let left = resolve_merged(engine, image.id.as_str()).ok();
        let has_names = left
            .is_some_and(|image| !image.references.is_empty() || !image.repo_digests.is_empty());
        // A forced removal of the last name of an image in use by a running container ends here, untagged.
        if has_names || containers.iter().any(is_running) {
            return Ok((removed, None));
        }
    }
    delete(engine, &image, &mut removed)?;
    Ok((removed, Some(image)))
}

/// Whether `wanted` means the image by a digest of its own (as resolving looks for it) and not by one of its names: that
/// decides between "this name" and "this image".
fn is_by_id(image: &Image, wanted: &str) -> bool {
    let is_name = wanted
        .parse::<Reference>()
        .is_ok_and(|name| match &name.digest {
            None => image.references.contains(&name),
            Some(_) => true,
        });
    let digits = wanted
        .strip_prefix("sha256:")
        .unwrap_or(wanted)
        .to_ascii_lowercase();
    let digests = [&image.id, &image.target.digest, &image.manifest.digest];
    !is_name
        && digests
            .iter()
            .any(|digest| digest.hex().starts_with(&digits))
}

fn named(wanted: &str) -> Result<Reference> {
    wanted.parse().map_err(|_| super::no_such_image(wanted))
}

/// At most one tag, and everything in one repository.
fn is_single(image: &Image) -> bool {
    let repository = |reference: &Reference| (reference.host.clone(), reference.repository.clone());
    let mut repositories: Vec<_> = image
        .references
        .iter()
        .chain(&image.repo_digests)
        .map(repository)
        .collect();
    repositories.sort();
    repositories.dedup();
    image.references.len() <= 1 && repositories.len() <= 1
}

fn check_by_id(image: &Image, containers: &[Container], force: bool) -> Result<()> {
    if let Some(container) = containers.iter().find(|container| is_running(container)) {
        let reason = format!(
            "image is being used by running container {}",
            container.config.id.short()
        );
        return Err(conflict(&image.id, "cannot be forced", &reason));
    }
    if force {
        return Ok(());
    }
    if !is_single(image) {
        return Err(conflict(
            &image.id,
            "must be forced",
            "image is referenced in multiple repositories",
        ));
    }
    match containers.first() {
        Some(container) => {
            let reason = format!(
                "image is being used by stopped container {}",
                container.config.id.short()
            );
            Err(conflict(&image.id, "must be forced", &reason))
        }
        None => Ok(()),
    }
}

/// Docker's words for an image that cannot go; `force` says what force would do about it.
pub(super) fn conflict(id: &Digest, force: &str, reason: &str) -> Error {
    Error::new(
        ErrorKind::Conflict,
        format!(
            "conflict: unable to delete {} ({force}) - {reason}",
            id.short()
        ),
    )
}

fn reference_in_use(wanted: &str, container: &Container, id: &Digest) -> Error {
    Error::new(
        ErrorKind::Conflict,
        format!(
            "conflict: unable to remove repository reference {wanted:?} (must force) - container {} is using its referenced image {}",
            container.config.id.short(),
            id.short()
        ),
    )
}

/// Takes one name away, and the repository's digest with its last tag.
fn untag_one(
    engine: &Engine,
    image: &Image,
    wanted: &Reference,
    removed: &mut Vec<RemovedImage>,
) -> Result<()> {
    let same_repository =
        |other: &Reference| other.host == wanted.host && other.repository == wanted.repository;
    let records = records_of(engine, &image.id)?;
    for record in &records {
        let Some(reference) = &record.reference else {
            continue;
        };
        let is_wanted = match &wanted.digest {
            None => reference == wanted,
            Some(digest) => same_repository(reference) && record.target.digest == *digest,
        };
        if is_wanted
            && engine
                .store()
                .remove_tag(reference, true)
                .map_err(ImageError::from)?
        {
            tell_untagged(engine, image, reference.familiar(), removed);
        }
    }
    let left = records_of(engine, &image.id)?;
    let has_tag = |r: &Reference| same_repository(r) && r.tag.is_some() && r.digest.is_none();
    if left
        .iter()
        .filter_map(|record| record.reference.as_ref())
        .any(has_tag)
    {
        return Ok(());
    }
    for reference in left
        .into_iter()
        .filter_map(|record| record.reference)
        .filter(|r| same_repository(r))
    {
        engine
            .store()
            .remove_tag(&reference, true)
            .map_err(ImageError::from)?;
    }
    for by_digest in image.repo_digests.iter().filter(|r| same_repository(r)) {
        if wanted.digest.is_none() {
            tell_untagged(engine, image, by_digest.familiar(), removed);
        }
    }
    Ok(())
}

/// Removes every record of the image.
fn delete(engine: &Engine, image: &Image, removed: &mut Vec<RemovedImage>) -> Result<()> {
    let records = records_of(engine, &image.id)?;
    let named = records.iter().any(|record| record.reference.is_some());
    for record in &records {
        engine
            .store()
            .remove_records(&record.target.digest)
            .map_err(ImageError::from)?;
    }
    if named {
        let mut names: Vec<&Reference> = image.references.iter().collect();
        names.extend(&image.repo_digests);
        names.sort_by_cached_key(|name| name.to_string());
        for reference in names {
            tell_untagged(engine, image, reference.familiar(), removed);
        }
    }
    tell(
        engine,
        event::Event::now("image", "delete", image.id.to_string()),
    );
    removed.push(RemovedImage::Deleted(image.id.to_string()));
    Ok(())
}

fn tell_untagged(engine: &Engine, image: &Image, name: String, removed: &mut Vec<RemovedImage>) {
    tell(
        engine,
        event::Event::now("image", "untag", image.id.to_string()).with("name", name.clone()),
    );
    removed.push(RemovedImage::Untagged(name));
}

/// Chain ids, lowest first (image specification, "Layer ChainID").
pub(super) fn chain_ids(diff_ids: &[Digest]) -> Vec<Digest> {
    let mut chains: Vec<Digest> = Vec::with_capacity(diff_ids.len());
    for diff_id in diff_ids {
        let chain = match chains.last() {
            None => diff_id.clone(),
            Some(below) => Digest::of(format!("{below} {diff_id}").as_bytes()),
        };
        chains.push(chain);
    }
    chains
}
