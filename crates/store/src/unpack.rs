//! t
use std::io::Read;
use ketch_spec::{Digest, image::Descriptor};
use crate::{Ingest, LayerRecord, Result, Store};
/// Called with the number of bytes of the blob that have come so far, often.
pub type Progress<'a> = &'a (dyn Fn(u64) + Sync);
impl Store {
    /// Begins a layer: None if both its blob and its unpacked form are here now (a blob without its layer is unpacked
    /// by this call). Otherwise the caller fetches from [`Ingest::offset`] and calls [`Ingest::unpack`].
    pub fn begin_layer(&self, _blob: &Descriptor, _diff_id: &Digest) -> Result<Option<Ingest>> { Err(crate::Error::Panicked) }
    /// Unpacks a layer blob from any stream (a docker-archive's `layer.tar`), storing the blob: returns its descriptor.
    pub fn import_layer(&self, _reader: impl Read + Send, _expected: Option<&Digest>) -> Result<(Descriptor, LayerRecord)> { Err(crate::Error::Panicked) }
}
impl Ingest {
    /// One pass: reader → blob digest and file → decompress → diff id → files. Blob and layer become visible only when
    /// both digests are right. The reader starts at [`Ingest::offset`].
    pub fn unpack(self, _reader: impl Read, _diff_id: &Digest, _progress: Progress<'_>) -> Result<LayerRecord> { Err(crate::Error::Panicked) }
}
