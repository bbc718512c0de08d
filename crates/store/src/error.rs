//! The store's errors.

use std::io;
use std::path::PathBuf;

use ketch_spec::Digest;

use crate::tar::TarError;

/// Shorthand for results of the store.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What failed in the store.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A system call.
    #[error(transparent)]
    System(#[from] ketch_sys::Error),
    /// A read or write of one of our files.
    #[error("{call} {}", path.display())]
    Io {
        /// What was tried.
        call: &'static str,
        /// On which file.
        path: PathBuf,
        /// What came of it.
        source: io::Error,
    },
    /// The data root is on a file system that cannot carry a store.
    #[error("{} cannot hold images: {reason}", path.display())]
    Unsuitable {
        /// The data root.
        path: PathBuf,
        /// Why not.
        reason: &'static str,
    },
    /// Layers are to be kept as EROFS images, and cannot.
    #[error(
        "this kernel does not mount EROFS images from files of the data root for us: it takes Linux 6.12 or later with CONFIG_EROFS_FS_BACKED_BY_FILE, and root"
    )]
    NoErofs,
    /// A layer is kept as an EROFS image, which the kernel does not mount.
    #[error("cannot mount layer {diff_id}: {said}")]
    Mount {
        /// Its diff id.
        diff_id: Digest,
        /// What the kernel wrote into the mount's message log, or the error's text.
        said: String,
        /// The error.
        source: ketch_sys::Error,
    },
    /// A blob that is named is not here.
    #[error("blob {digest} is not in the store")]
    MissingBlob {
        /// Its digest.
        digest: Digest,
    },
    /// A layer that is named is not here.
    #[error("layer {diff_id} is not in the store")]
    MissingLayer {
        /// Its diff id.
        diff_id: Digest,
    },
    /// A document is larger than any such document may be.
    #[error("{what} is larger than {limit_bytes} bytes")]
    TooLarge {
        /// Which document.
        what: String,
        /// The bound.
        limit_bytes: u64,
    },
    /// The bytes are not those that were promised.
    #[error(
        "digest mismatch: expected {expected} of {expected_bytes} bytes, got {actual} of {actual_bytes} bytes"
    )]
    DigestMismatch {
        /// From the descriptor.
        expected: Digest,
        /// From the descriptor.
        expected_bytes: u64,
        /// Of what came.
        actual: Digest,
        /// Of what came.
        actual_bytes: u64,
    },
    /// A layer blob, unpacked, is not the layer that the image config names.
    #[error(
        "layer mismatch: the image config says diff id {expected}, the layer blob holds {actual}"
    )]
    DiffMismatch {
        /// From the image config.
        expected: Digest,
        /// Of what was unpacked.
        actual: Digest,
    },
    /// The source of a blob ended or failed; what came is kept, and the next attempt continues there.
    #[error("blob {digest} stopped after {received_bytes} of {expected_bytes} bytes")]
    Source {
        /// The blob.
        digest: Digest,
        /// What is here now.
        received_bytes: u64,
        /// What was promised.
        expected_bytes: u64,
        /// Why it stopped.
        source: io::Error,
    },
    /// A compressed stream is damaged or of a kind we do not read.
    #[error("cannot decompress {compression} data")]
    Decompress {
        /// `gzip`, `zstd`.
        compression: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// Layers of this media type are not supported.
    #[error("layers of media type {media_type} are not supported")]
    LayerMediaType {
        /// The descriptor's media type.
        media_type: String,
    },
    /// An archive is damaged or hostile.
    #[error(transparent)]
    Tar(#[from] TarError),
    /// A JSON document does not parse.
    #[error("{what} is not valid JSON")]
    Json {
        /// Which document.
        what: String,
        /// Where and why.
        source: serde_json::Error,
    },
    /// A record was written by a later version of this program.
    #[error("{what} has version {found}, this program knows {known}")]
    Version {
        /// Which record.
        what: String,
        /// What it says.
        found: u64,
        /// What we write.
        known: u32,
    },
    /// A worker thread panicked: a bug.
    #[error("a worker thread of the store panicked")]
    Panicked,
}

impl Error {
    /// A closure that turns an io error on `path` into [`Error::Io`].
    pub(crate) fn io(
        call: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { call, path, source }
    }
}
