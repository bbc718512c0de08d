//! `save`.
use std::io::Write;
use crate::{Engine, Error, ErrorKind, Result};

/// What `save` writes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Format {
    /// `manifest.json` and an OCI image layout in one archive, as Docker since 25 does.
    #[default]
    Docker,
    /// An OCI image layout only.
    Oci,
}

/// Writes images into one archive.
pub fn save(_engine: &Engine, _images: &[String], _writer: impl Write, _format: Format) -> Result<()> {
    Err(Error::new(ErrorKind::Unsupported, "being written"))
}
