//! What images and the build cache take of the disk.

use std::collections::BTreeSet;

use ketch_spec::Digest;
use ketch_store::{ImageRecord, Roots};

use super::ImageError;
use super::collect::container_images;
use super::variant::ids_of;
use crate::{Engine, Result, layer};

/// Bytes on the disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DiskUsage {
    /// Everything that images need, what several of them share once.
    pub image_bytes: u64,
    /// What goes with the images that no container was made from: what [`super::prune`] of all would free.
    pub reclaimable_bytes: u64,
    /// What only the build cache needs.
    pub cache_bytes: u64,
}

/// Measures, without a lock: what comes or goes meanwhile counts or not.
///
/// # Errors
/// Records or documents cannot be read.
pub fn disk_usage(engine: &Engine) -> Result<DiskUsage> {
    let store = engine.store();
    let records = store.images().map_err(ImageError::from)?;
    let users = container_images(engine)?;
    let used_ids: BTreeSet<Digest> = users.iter().filter_map(|user| user.id.clone()).collect();
    let mut used: Vec<ImageRecord> = Vec::new();
    for record in &records {
        let ids = ids_of(engine, &record.target)?;
        if ids.iter().any(|id| used_ids.contains(id)) {
            used.push(record.clone());
        }
    }
    let containers = Roots {
        layers: users.into_iter().flat_map(|user| user.layers).collect(),
        blobs: BTreeSet::new(),
    };
    let mut all_roots = layer::cache_roots(engine)?;
    all_roots.layers.extend(containers.layers.iter().cloned());
    let freed = |records: &[ImageRecord], roots: &Roots| {
        store.would_free(records, roots).map_err(ImageError::from)
    };
    let nothing = Roots::default();
    let garbage = freed(&records, &all_roots)?;
    Ok(DiskUsage {
        image_bytes: freed(&[], &nothing)?.saturating_sub(freed(&records, &nothing)?),
        reclaimable_bytes: freed(&used, &all_roots)?.saturating_sub(garbage),
        cache_bytes: freed(&records, &containers)?.saturating_sub(garbage),
    })
}
