//! `import`.
use std::io::Read;
use ketch_spec::{Digest, Platform, Reference};
use crate::{Engine, Error, ErrorKind, Result};

/// How `import` makes the image.
#[derive(Debug, Clone, Default)]
pub struct ImportOptions {
    /// Its name.
    pub reference: Option<Reference>,
    /// `--change`: Dockerfile instructions CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, ONBUILD, STOPSIGNAL, USER, VOLUME, WORKDIR, HEALTHCHECK.
    pub changes: Vec<String>,
    /// `--message`.
    pub message: String,
    /// `--platform`; None is the machine's.
    pub platform: Option<Platform>,
}

/// Makes an image of one layer out of a root file system's archive; plain, gzip or zstd. Returns its id.
pub fn import(_engine: &Engine, _reader: impl Read + Send, _options: &ImportOptions) -> Result<Digest> {
    Err(Error::new(ErrorKind::Unsupported, "being written"))
}
