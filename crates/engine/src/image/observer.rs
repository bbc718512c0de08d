//! What a long verb tells while it works.

use ketch_spec::image::Descriptor;
use ketch_spec::{Digest, Reference};

/// Told of the steps of a pull, push or load. Called from several threads, often; must not block.
pub trait PullObserver: Sync {
    /// Something happened.
    fn event(&self, event: PullEvent);
}

/// One step.
#[derive(Debug, Clone)]
pub enum PullEvent {
    /// The registry is asked what the reference means.
    Resolving {
        /// Which reference.
        reference: Reference,
    },
    /// The layers are known, lowest first.
    Layers {
        /// Their descriptors.
        layers: Vec<Descriptor>,
    },
    /// A layer is here already.
    Exists {
        /// The blob.
        digest: Digest,
    },
    /// A layer comes (or goes, in a push).
    Downloading {
        /// The blob.
        digest: Digest,
        /// Bytes so far, those of an earlier attempt included.
        done_bytes: u64,
        /// All of them.
        total_bytes: u64,
    },
    /// An attempt failed and will be made again.
    Retrying {
        /// The blob.
        digest: Digest,
        /// Why.
        reason: String,
        /// Seconds until then.
        after_s: u64,
    },
    /// All bytes of a layer are here and are being checked.
    Verifying {
        /// The blob.
        digest: Digest,
    },
    /// The last files of a layer are being written.
    Unpacking {
        /// The blob.
        digest: Digest,
    },
    /// A layer is complete.
    Done {
        /// The blob.
        digest: Digest,
    },
    /// The image is complete and named.
    Finished {
        /// What was pulled or pushed.
        reference: Reference,
        /// The digest of its manifest or index.
        digest: Digest,
        /// Whether the reference means something else than before.
        newer: bool,
    },
}

/// Tells nobody.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl PullObserver for Silent {
    fn event(&self, _: PullEvent) {}
}
