//! What a long verb tells while it works.

use std::io::{self, Read};

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
    /// The layers are known, lowest first; none in a pull of what is here as a whole.
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

/// Told of the steps of a save, load or import. Called often; must not block.
pub trait ArchiveObserver: Sync {
    /// Something happened.
    fn step(&self, step: ArchiveStep<'_>);
}

/// One step of a save, load or import. Layers are named by their digest, or, in older archives, by their path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArchiveStep<'a> {
    /// Some of a layer has passed.
    Progress {
        /// The layer.
        name: &'a str,
        /// Bytes so far.
        done_bytes: u64,
        /// All of them; 0 if nobody knows.
        total_bytes: u64,
    },
    /// A layer is there already.
    Exists {
        /// The layer.
        name: &'a str,
    },
    /// A layer is complete.
    Done {
        /// The layer.
        name: &'a str,
        /// Its bytes.
        total_bytes: u64,
    },
}

impl ArchiveObserver for Silent {
    fn step(&self, _: ArchiveStep<'_>) {}
}

/// A stream that tells how far it has been read.
pub(super) struct Metered<'a, R> {
    source: R,
    name: &'a str,
    done_bytes: u64,
    total_bytes: u64,
    observer: &'a dyn ArchiveObserver,
}

impl<'a, R: Read> Metered<'a, R> {
    pub fn new(
        source: R,
        name: &'a str,
        total_bytes: u64,
        observer: &'a dyn ArchiveObserver,
    ) -> Self {
        Self {
            source,
            name,
            done_bytes: 0,
            total_bytes,
            observer,
        }
    }
}

impl<R: Read> Read for Metered<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.source.read(buffer)?;
        self.done_bytes += count as u64;
        self.observer.step(ArchiveStep::Progress {
            name: self.name,
            done_bytes: self.done_bytes,
            total_bytes: self.total_bytes,
        });
        Ok(count)
    }
}
