//! `volume prune`.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::{Volume, list, remove};
use crate::{Engine, ErrorKind, Result};

/// What to prune.
#[derive(Debug, Clone, Default)]
pub struct PruneOptions {
    /// Named volumes too, not only anonymous ones.
    pub all: bool,
    /// Only volumes with one of these: `key` or `key=value`. Empty: no such condition.
    pub labels: Vec<String>,
    /// Only volumes with none of these.
    pub without_labels: Vec<String>,
}

/// What was pruned.
#[derive(Debug, Clone, Default)]
pub struct Pruned {
    /// Names.
    pub volumes: Vec<String>,
    /// Bytes of disk that their content took.
    pub bytes: u64,
}

/// Removes volumes that no container refers to.
///
/// # Errors
/// Input and output; a volume that somebody takes into use meanwhile stays.
pub fn prune(engine: &Engine, options: &PruneOptions) -> Result<Pruned> {
    let mut pruned = Pruned::default();
    for volume in list::list(engine)? {
        if !volume.users.is_empty() || !wanted(&volume, options) {
            continue;
        }
        let bytes = size(&volume.mountpoint, 0);
        match remove::remove(engine, &volume.record.name, false) {
            Ok(()) => {
                pruned.bytes += bytes;
                pruned.volumes.push(volume.record.name);
            }
            Err(error) if matches!(error.kind, ErrorKind::Conflict | ErrorKind::NotFound) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(pruned)
}

fn wanted(volume: &Volume, options: &PruneOptions) -> bool {
    let has = |filter: &String| match filter.split_once('=') {
        Some((key, value)) => volume
            .record
            .labels
            .get(key)
            .is_some_and(|found| found == value),
        None => volume.record.labels.contains_key(filter),
    };
    (options.all || volume.record.anonymous)
        && (options.labels.is_empty() || options.labels.iter().any(has))
        && !options.without_labels.iter().any(has)
}

/// Bytes of disk that a volume's content takes. Walks it: as slow as that is large.
pub fn size_bytes(volume: &Volume) -> u64 {
    size(&volume.mountpoint, 0)
}

/// Bytes on disk of a tree; what cannot be read counts nothing.
fn size(path: &Path, depth: usize) -> u64 {
    const MAX_DEPTH: usize = 256;
    let Ok(metadata) = path.symlink_metadata() else {
        return 0;
    };
    let own = metadata.blocks() * 512;
    if !metadata.is_dir() || depth >= MAX_DEPTH {
        return own;
    }
    let Ok(entries) = std::fs::read_dir(path) else {
        return own;
    };
    own + entries
        .flatten()
        .map(|entry| size(&entry.path(), depth + 1))
        .sum::<u64>()
}
