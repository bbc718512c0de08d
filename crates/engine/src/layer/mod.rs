//! Layers as others see them: mounted, being written, remembered by the build cache.
//!
//! Stacks mounted here are detached (open_tree(2), fsmount(2)): they are reached through a descriptor, exist in no
//! directory of the host, and go when the descriptor does. Only single layers that are images are mounted in the run
//! root ([`LayerUse`]), so that all stacks share them.

mod archive;
mod attach;
mod cache;
mod draft;
pub mod mount;
mod view;

use ketch_store as store;
pub use ketch_store::Health;

pub use archive::{ARCHIVE_HEAD_BYTES, ArchiveRoot, is_archive, looks_like_archive};
pub use attach::{LayerUse, sweep};
pub use cache::{
    CacheRecord, cache_get, cache_list, cache_prune, cache_prune_if, cache_put, cache_roots,
    cache_sweep,
};
pub use draft::{LayerDraft, copy_root_attributes};
pub use mount::{Writable, mount};
pub use view::LayerView;

use std::path::PathBuf;

use ketch_spec::Digest;

use crate::{Engine, Error, ErrorKind};

/// Where a layer's files are for people to look at: in the store, or where they are while someone uses the layer.
///
/// # Errors
/// The layer is not in the store; its record cannot be read.
pub fn shown_dir(engine: &Engine, diff_id: &Digest) -> store::Result<PathBuf> {
    let tree = engine.store().layer_dir(diff_id)?.join("tree");
    Ok(match engine.store().layer(diff_id)?.form {
        store::LayerForm::Directory => tree,
        store::LayerForm::Erofs => engine.paths().layer_mounts().join(diff_id.hex()),
    })
}

/// What failed with layers.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// The store.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// A system call.
    #[error(transparent)]
    System(#[from] ketch_sys::Error),
    /// The kernel refused an overlay mount; its own words, if it had any.
    #[error("cannot mount {layers} layers: {said}")]
    Overlay {
        /// How many lower layers there are.
        layers: usize,
        /// What the kernel wrote into the mount's message log.
        said: String,
        /// The error number's text.
        source: ketch_sys::Error,
    },
    /// More layers than the kernel can stack.
    #[error("{layers} layers are more than the {limit} that this kernel can stack")]
    TooManyLayers {
        /// How many there are.
        layers: usize,
        /// How many there may be.
        limit: usize,
    },
    /// A record of the build cache.
    #[error(transparent)]
    Record(#[from] crate::record::Error),
    /// Something of ours cannot be read or written.
    #[error("{call} {}", path.display())]
    Io {
        /// What was tried.
        call: &'static str,
        /// On which file.
        path: std::path::PathBuf,
        /// What came of it.
        source: std::io::Error,
    },
}

impl From<LayerError> for Error {
    fn from(error: LayerError) -> Self {
        let kind = match &error {
            LayerError::Store(store::Error::MissingLayer { .. }) => ErrorKind::NotFound,
            LayerError::Overlay { .. } | LayerError::TooManyLayers { .. } => ErrorKind::Unsupported,
            _ => ErrorKind::Internal,
        };
        Error::caused(kind, "cannot use the image's layers", &error)
    }
}
