//! Images: records in the store, and one file a verb.
//!
//! An image is known by the digest of its config (its id, as Docker says) and named by references. The store's records
//! point at its manifest, or at an index of which only some platforms are here.

mod artifact;
pub mod change;
mod collect;
mod commit;
mod disk;
mod history;
mod import;
mod inspect;
mod list;
mod load;
mod observer;
mod prune;
mod pull;
mod push;
mod remote;
mod remove;
mod remove_platform;
mod repository;
mod resolve;
mod save;
mod tag;
mod usage;
mod variant;
mod verify;

use jiff::Timestamp;
use ketch_spec::image::{Descriptor, ImageConfig};
use ketch_spec::{Digest, Reference};
use ketch_store as store;

pub use artifact::referrers;
pub use collect::{collect, collect_if_pending};
pub use commit::{NewImage, commit};
pub use disk::{DiskUsage, disk_usage};
pub use history::{HistoryEntry, history};
pub use import::{ImportOptions, import, import_url};
pub use inspect::inspect;
pub use list::{ImageSummary, ListFilter, list};
pub use load::{Loaded, load, load_directory};
pub use observer::{ArchiveObserver, ArchiveStep, PullEvent, PullObserver, Silent};
pub use prune::{PruneOptions, Pruned, prune};
pub use pull::{Pulled, pull};
pub use push::{Pushed, push};
pub use remove::{RemoveOptions, RemovedImage, remove};
pub use repository::Repository;
pub use resolve::{read_all, resolve, resolve_for};
pub use save::{Format, SaveOptions, save, save_directory};
pub use tag::{tag, untag};
pub use variant::{Member, MemberKind, Variant, find_by_id, members, variants};
pub use verify::{Part, Verified, verify};

use crate::event::{self, Event};
use crate::{Engine, Error, ErrorKind};

/// An image that is here.
#[derive(Debug, Clone)]
pub struct Image {
    /// The digest of the config: what Docker calls the image id.
    pub id: Digest,
    /// The manifest of the platform that is here.
    pub manifest: Descriptor,
    /// What the records point at: the manifest, or an index that has it.
    pub target: Descriptor,
    /// The config.
    pub config: ImageConfig,
    /// The layers by diff id, lowest first.
    pub layers: Vec<Digest>,
    /// The layer blobs as the manifest lists them, lowest first.
    pub blobs: Vec<Descriptor>,
    /// Its names that have a tag.
    pub references: Vec<Reference>,
    /// `repository@digest` for every repository where a registry has it.
    pub repo_digests: Vec<Reference>,
    /// When one of its names was last set.
    pub tagged: Option<Timestamp>,
    /// Content of the files of all its layers in bytes; of an artifact, all that it names.
    pub size_bytes: u64,
    /// Of which type it is, if it is no image but an artifact (a chart, a signature): then its id is the digest of its
    /// manifest, its config is empty, and its blobs are no layers.
    pub artifact: Option<String>,
}

impl Image {
    /// When it was made, if its config says.
    pub fn created(&self) -> Option<Timestamp> {
        self.config
            .created
            .as_deref()
            .and_then(|text| text.parse().ok())
    }

    /// Whether it has no name with a tag.
    pub fn is_dangling(&self) -> bool {
        self.references.is_empty()
    }
}

/// What failed with images, where it is not the user's mistake.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The store.
    #[error(transparent)]
    Store(#[from] store::Error),
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
    /// The caller's stream failed.
    #[error("cannot {verb} the stream")]
    Stream {
        /// `read` or `write`.
        verb: &'static str,
        /// What came of it.
        source: std::io::Error,
    },
    /// The config and the manifest of an image do not fit each other.
    #[error("manifest {manifest} has {blobs} layers, its config {config} has {diff_ids}")]
    LayerCount {
        /// The manifest.
        manifest: Digest,
        /// Its layers.
        blobs: usize,
        /// Its config.
        config: Digest,
        /// The config's diff ids.
        diff_ids: usize,
    },
    /// A document of ours could not be written as JSON.
    #[error("cannot write {what}")]
    Json {
        /// Which document.
        what: &'static str,
        /// Why.
        source: serde_json::Error,
    },
}

impl From<ImageError> for Error {
    fn from(error: ImageError) -> Self {
        let (kind, message) = match &error {
            ImageError::Store(error) => (store_kind(error), "image store"),
            ImageError::LayerCount { .. } => (ErrorKind::Invalid, "damaged image"),
            _ => (ErrorKind::Internal, "image"),
        };
        Error::caused(kind, message, &error)
    }
}

/// The class of a store's failure: what came from outside and is wrong is `Invalid`.
pub(crate) fn store_kind(error: &store::Error) -> ErrorKind {
    match error {
        store::Error::MissingBlob { .. } | store::Error::MissingLayer { .. } => ErrorKind::NotFound,
        store::Error::DigestMismatch { .. }
        | store::Error::DiffMismatch { .. }
        | store::Error::Decompress { .. }
        | store::Error::Tar(_)
        | store::Error::TooLarge { .. }
        | store::Error::Json { .. } => ErrorKind::Invalid,
        store::Error::LayerMediaType { .. }
        | store::Error::Version { .. }
        | store::Error::Unsuitable { .. } => ErrorKind::Unsupported,
        store::Error::Source { .. } => ErrorKind::Unavailable,
        _ => ErrorKind::Internal,
    }
}

/// Publishes an event. A verb that is done is not undone by a full disk under the event log.
pub(crate) fn tell(engine: &Engine, event: Event) {
    let _ = event::publish(engine, &event);
}

/// `No such image: x`, in Docker's words.
pub(crate) fn no_such_image(wanted: &str) -> Error {
    Error::new(ErrorKind::NotFound, format!("No such image: {wanted}"))
}
