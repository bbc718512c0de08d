//! Blobs: immutable bytes under their digest.

use std::fs::{self, File};
use std::io::Read;

use ketch_spec::Digest;
use ketch_spec::image::Descriptor;
use ketch_sys::fs as sysfs;

use crate::{Error, Result, Store};

/// The largest index, manifest or image config that is read into memory: registries refuse manifests above 4 MiB, and
/// configs with long histories stay far below this. How many values it may have: [`ketch_spec::document::MAX_VALUES`].
pub const MAX_DOCUMENT_BYTES: u64 = 8 << 20;

impl Store {
    /// Whether the blob is here, whole.
    pub fn has(&self, digest: &Digest) -> bool {
        self.find("blobs", digest).is_some()
    }

    /// The blob's size in bytes, if it is here.
    pub fn blob_size(&self, digest: &Digest) -> Option<u64> {
        let path = self.find("blobs", digest)?;
        fs::metadata(path).ok().map(|metadata| metadata.len())
    }

    /// Opens a blob for reading.
    ///
    /// # Errors
    /// [`Error::MissingBlob`]; the kernel's.
    pub fn open_blob(&self, digest: &Digest) -> Result<File> {
        // A blob may move to its final place between looking and opening: then look again.
        for _ in 0..2 {
            let Some(path) = self.find("blobs", digest) else {
                break;
            };
            match File::open(&path) {
                Ok(file) => return Ok(file),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(Error::io("open", path)(error)),
            }
        }
        Err(Error::MissingBlob {
            digest: digest.clone(),
        })
    }

    /// Reads a whole blob of at most `max_bytes`.
    ///
    /// # Errors
    /// [`Error::MissingBlob`], [`Error::TooLarge`]; the kernel's.
    pub fn read(&self, digest: &Digest, max_bytes: u64) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let file = self.open_blob(digest)?;
        file.take(max_bytes + 1)
            .read_to_end(&mut bytes)
            .map_err(Error::io("read", self.settled("blobs").join(digest.hex())))?;
        if bytes.len() as u64 > max_bytes {
            return Err(Error::TooLarge {
                what: format!("blob {digest}"),
                limit_bytes: max_bytes,
            });
        }
        Ok(bytes)
    }

    /// Stores bytes under their digest, which the descriptor tells.
    ///
    /// # Errors
    /// The kernel's.
    pub fn put(&self, media_type: &str, bytes: &[u8]) -> Result<Descriptor> {
        let digest = Digest::of(bytes);
        if !self.has(&digest) {
            let path = self
                .root()
                .join("ingest/work")
                .join(format!("blob-{}", sysfs::random_hex(8)));
            fs::write(&path, bytes).map_err(Error::io("write", &path))?;
            self.place("blobs", &digest, &path)?;
        }
        Ok(Descriptor {
            media_type: media_type.to_owned(),
            digest,
            size: bytes.len() as u64,
            platform: None,
            annotations: Default::default(),
            other: Default::default(),
        })
    }
}
