//! `load`.
use std::io::Read;
use ketch_spec::{Digest, Reference};
use super::PullObserver;
use crate::{Engine, Error, ErrorKind, Result};

/// One image that an archive held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// Its id.
    pub id: Digest,
    /// The names it got; none: `Loaded image ID: …`.
    pub references: Vec<Reference>,
}

/// Loads the images of an archive: what `docker save` writes, or an OCI image layout in a tar; plain, gzip or zstd.
pub fn load(_engine: &Engine, _reader: impl Read + Send, _observer: &dyn PullObserver) -> Result<Vec<Loaded>> {
    Err(Error::new(ErrorKind::Unsupported, "being written"))
}
