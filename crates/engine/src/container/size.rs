//! How much disk a container takes.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use ketch_spec::Id;

use super::{load, root};
use crate::image::ImageError;
use crate::{Engine, Result};

/// How deep directories are followed.
const MAX_DEPTH: usize = 256;

/// What a container takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sizes {
    /// Content of the files in its writable layer, in bytes: `SizeRw`.
    pub writable_bytes: u64,
    /// The same and the files of its image, in bytes: `SizeRootFs`, which listings call virtual.
    pub total_bytes: u64,
}

/// Measures a container. Walks its writable layer: as slow as that is large.
///
/// # Errors
/// `NotFound`; a layer of its image is not in the store.
pub fn size(engine: &Engine, id: &Id) -> Result<Sizes> {
    let (config, _) = load::load(engine, id)?;
    let (upper, _) = root::dirs(engine, &config);
    let writable_bytes = content(&upper, 0, &mut BTreeSet::new());
    let mut total_bytes = writable_bytes;
    for diff_id in &config.image.layers {
        total_bytes += engine
            .store()
            .layer(diff_id)
            .map_err(ImageError::from)?
            .size_bytes;
    }
    Ok(Sizes {
        writable_bytes,
        total_bytes,
    })
}

/// Bytes of the files below `path`, those with several names once; what cannot be read counts nothing.
fn content(path: &Path, depth: usize, seen: &mut BTreeSet<(u64, u64)>) -> u64 {
    let Ok(metadata) = path.symlink_metadata() else {
        return 0;
    };
    if metadata.is_file() {
        let first = metadata.nlink() == 1 || seen.insert((metadata.dev(), metadata.ino()));
        return if first { metadata.len() } else { 0 };
    }
    if !metadata.is_dir() || depth >= MAX_DEPTH {
        return 0;
    }
    let Ok(entries) = std::fs::read_dir(path) else {
        return 0;
    };
    entries
        .flatten()
        .map(|entry| content(&entry.path(), depth + 1, seen))
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_count_once_and_links_nothing() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("sub")).unwrap();
        std::fs::write(dir.path().join("sub/one"), vec![0; 1000]).unwrap();
        std::fs::hard_link(dir.path().join("sub/one"), dir.path().join("two")).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", dir.path().join("link")).unwrap();
        assert_eq!(content(dir.path(), 0, &mut BTreeSet::new()), 1000);
        assert_eq!(
            content(&dir.path().join("absent"), 0, &mut BTreeSet::new()),
            0
        );
    }
}
