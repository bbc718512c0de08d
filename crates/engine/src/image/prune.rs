//! `image prune`.

use jiff::Timestamp;

use super::list::has_label;
use super::remove::remove_records;
use super::usage::uses;
use super::variant::ids_of;
use super::{Image, RemovedImage, artifact, collect, read_all};
use crate::{Engine, ErrorKind, Result, container};

/// Which unused images to remove.
#[derive(Debug, Clone, Default)]
pub struct PruneOptions {
    /// Those with names too, not only untagged ones.
    pub all: bool,
    /// Only images made before this time.
    pub until: Option<Timestamp>,
    /// Only images with all of these labels (`KEY` or `KEY=VALUE`).
    pub labels: Vec<String>,
    /// Only images with none of these labels.
    pub without_labels: Vec<String>,
}

/// What a prune did.
#[derive(Debug, Clone, Default)]
pub struct Pruned {
    /// What was removed, as `rmi` tells it.
    pub removed: Vec<RemovedImage>,
    /// Bytes that are free now.
    pub freed_bytes: u64,
}

/// Removes images that no container was made from.
///
/// # Errors
/// The records cannot be read; a removal failed for another reason than that the image came into use meanwhile.
pub fn prune(engine: &Engine, options: &PruneOptions) -> Result<Pruned> {
    let mut pruned = Pruned::default();
    let containers = container::list(engine)?;
    for image in read_all(engine)? {
        let ids = ids_of(engine, &image.target)?;
        let is_used = containers.iter().any(|container| uses(container, &ids));
        if is_used || !is_wanted(&image, options) {
            continue;
        }
        // Forced, because by id it would otherwise stop at an image with several names; a container that came
        // meanwhile runs, or its layers are kept by its own record.
        match remove_records(engine, image.id.as_str(), true) {
            Ok((lines, _)) => pruned.removed.extend(lines),
            Err(error) if matches!(error.kind, ErrorKind::Conflict | ErrorKind::NotFound) => {}
            Err(error) => return Err(error),
        }
    }
    // Nothing is made from these.
    for one in artifact::read_all(engine)? {
        if is_wanted(&one, options) {
            pruned
                .removed
                .extend(artifact::remove_records(engine, &one)?);
        }
    }
    let freed = collect(engine)?;
    pruned.freed_bytes = freed.bytes;
    pruned.removed.extend(
        freed
            .layers
            .into_iter()
            .map(|diff_id| RemovedImage::Deleted(diff_id.to_string())),
    );
    Ok(pruned)
}

fn is_wanted(image: &Image, options: &PruneOptions) -> bool {
    let created = image.created().unwrap_or(Timestamp::UNIX_EPOCH);
    (options.all || image.is_dangling())
        && options.until.is_none_or(|until| created < until)
        && options.labels.iter().all(|label| has_label(image, label))
        && !options
            .without_labels
            .iter()
            .any(|label| has_label(image, label))
}
