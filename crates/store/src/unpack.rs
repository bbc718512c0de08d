//! From layer blobs to layers: the ways in.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;

use ketch_spec::Digest;
use ketch_spec::image::{Descriptor, media_type};
use rustix::fs::{AtFlags, CWD};
use sha2::{Digest as _, Sha256};

use crate::pipeline::{self, Feeder, Unpacked, Work};
use crate::{Compression, Error, Ingest, LayerForm, LayerRecord, OpenLayer, Result, Store, target};

/// Called with the number of bytes of the blob that are here so far, often, from the thread that reads.
pub type Progress<'a> = &'a (dyn Fn(u64) + Sync);

/// Bytes of one read of the source.
const READ_BYTES: usize = 128 << 10;

/// Media types of layers beside those in [`media_type`]; the compression is told by the bytes anyway.
const MORE_LAYER_TYPES: [&str; 6] = [
    "application/vnd.docker.image.rootfs.diff.tar.zstd",
    "application/vnd.docker.image.rootfs.foreign.diff.tar",
    "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
    "application/vnd.oci.image.layer.nondistributable.v1.tar",
    "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
    "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd",
];

/// A layer blob that came without a promise of what it is.
#[derive(Debug)]
pub struct Imported {
    /// The blob, which is in the store.
    pub descriptor: Descriptor,
    /// The layer it holds, which is in the store too; or why it holds none.
    pub layer: Result<LayerRecord>,
}

impl Store {
    /// Begins a layer: None if both its blob and its files are here now (a blob without files is unpacked by this call).
    /// Otherwise the caller gets the blob from [`Ingest::offset`] on and calls [`Ingest::unpack`]. Waits while another
    /// process or thread receives the same blob. Call it with the store lock held shared, until a record names the layer.
    ///
    /// # Errors
    /// [`Error::LayerMediaType`] for what is not a layer or is encrypted; as [`Ingest::unpack`] for a blob that is here.
    pub fn begin_layer(&self, blob: &Descriptor, diff_id: &Digest) -> Result<Option<Ingest>> {
        let known = [
            media_type::LAYER,
            media_type::LAYER_GZIP,
            media_type::LAYER_ZSTD,
            media_type::DOCKER_LAYER,
            media_type::DOCKER_LAYER_GZIP,
        ];
        if !known
            .iter()
            .chain(&MORE_LAYER_TYPES)
            .any(|known| *known == blob.media_type)
        {
            return Err(Error::LayerMediaType {
                media_type: blob.media_type.clone(),
            });
        }
        if let Some(ingest) = self.ingest(blob)? {
            return Ok(Some(ingest));
        }
        if !self.has_layer(diff_id) {
            self.unpack_present(&blob.digest, diff_id)?;
        }
        Ok(None)
    }

    /// Unpacks a layer whose blob is here.
    fn unpack_present(&self, blob: &Digest, diff_id: &Digest) -> Result<LayerRecord> {
        let file = self.open_blob(blob)?;
        let path = self.settled("blobs").join(blob.hex());
        let (_, unpacked) = pipeline::run(self, Some(self.new_form()?), &file, |feeder| {
            feed(&file, &path, feeder)
        })?;
        self.place_layer(expect(unpacked?, blob, diff_id)?, diff_id, &file)
    }

    /// Turns a layer that is kept as an image into one that is kept as files, for a kernel that does not mount images.
    /// Call it with the store lock held shared, and while nobody else does the same.
    ///
    /// # Errors
    /// [`Error::MissingLayer`]; the disk failed, and the layer is as it was.
    pub fn unpack_image(&self, diff_id: &Digest) -> Result<LayerRecord> {
        let OpenLayer::Erofs { archive, .. } = self.open_layer(diff_id)? else {
            return self.layer(diff_id);
        };
        let file = File::from(archive);
        let path = self.layer_dir(diff_id)?.join(target::TAR);
        let form = Some(LayerForm::Directory);
        let (_, unpacked) = pipeline::run(self, form, &file, |feeder| feed(&file, &path, feeder))?;
        let unpacked = unpacked?;
        let Some(work) = unpacked.work else {
            return Err(Error::Panicked);
        };
        let record = LayerRecord::new(diff_id.clone(), &unpacked.totals);
        self.write_record(&work.0, &record)?;
        // What it replaces has survived power cuts.
        ketch_sys::fs::sync_file_system(ketch_sys::fs::open_directory(&work.0)?.as_fd())?;
        // Commit point: from here on the layer has the other form. The old one goes with the work directory.
        ketch_sys::fs::rename_exchange(&work.0, &self.layer_dir(diff_id)?)?;
        Ok(record)
    }

    /// Takes in a layer blob of which nothing is known: hashes, stores and unpacks it in one pass. What it holds decides
    /// under which diff id the layer is found; whether that is the wanted one is for the caller to see.
    ///
    /// # Errors
    /// The source's ([`Error::Source`]); the disk failed. A blob that is no layer is not an error here.
    pub fn import_layer(&self, mut source: impl Read) -> Result<Imported> {
        let work = Work(self.work_directory("blob")?);
        let path = work.0.join("blob");
        let mut options = File::options();
        let created = options.read(true).write(true).create_new(true).open(&path);
        let mut file = created.map_err(Error::io("create", &path))?;
        let copy = file.try_clone().map_err(Error::io("dup", &path))?;
        let mut hash = Sha256::new();
        let mut total = 0u64;
        let (_, unpacked) = pipeline::run(self, Some(self.new_form()?), &copy, |feeder| {
            let mut buffer = vec![0u8; READ_BYTES];
            loop {
                let count = match source.read(&mut buffer) {
                    Ok(0) => return Ok(()),
                    Ok(count) => count,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    Err(source) => {
                        let digest = Digest::from_sha256(hash.clone().finalize().into());
                        return Err(Error::Source {
                            digest,
                            received_bytes: total,
                            expected_bytes: total,
                            source,
                        });
                    }
                };
                file.write_all(&buffer[..count])
                    .map_err(Error::io("write", &path))?;
                hash.update(&buffer[..count]);
                total += count as u64;
                // A blob that is no layer is stored all the same, so there is no stopping early.
                feeder.push(&buffer[..count])?;
            }
        })?;
        let digest = Digest::from_sha256(hash.finalize().into());
        let compression = unpacked
            .as_ref()
            .map_or(crate::Compression::None, |unpacked| unpacked.compression);
        let layer = unpacked.and_then(|unpacked| {
            let diff_id = unpacked.diff_id.clone().unwrap_or_else(|| digest.clone());
            self.place_layer(unpacked, &diff_id, &copy)
        });
        self.place("blobs", &digest, &path)?;
        let descriptor = Descriptor {
            media_type: compression.layer_media_type().to_owned(),
            digest,
            size: total,
            platform: None,
            annotations: Default::default(),
            other: Default::default(),
        };
        Ok(Imported { descriptor, layer })
    }

    /// Moves an unpacked layer to its place. `blob` is what it was unpacked from, and still has a name.
    fn place_layer(
        &self,
        unpacked: Unpacked,
        diff_id: &Digest,
        blob: &File,
    ) -> Result<LayerRecord> {
        let Unpacked {
            totals,
            work,
            image,
            compression,
            ..
        } = unpacked;
        let Some(work) = work else {
            return self.layer(diff_id);
        };
        let mut record = LayerRecord::new(diff_id.clone(), &totals);
        if let Some(image) = image {
            if compression == Compression::None {
                share_blob(blob, &work.0.join(target::TAR))?;
            }
            let sealed = image.seal(diff_id, totals.archive_bytes);
            record.form = LayerForm::Erofs;
            record.image_bytes = sealed.map_err(Error::io("write", work.0.join(target::IMAGE)))?;
        }
        self.write_record(&work.0, &record)?;
        self.place("layers", diff_id, &work.0)?;
        Ok(record)
    }
}

/// Hands on a whole file; `path` is for messages.
fn feed(mut file: &File, path: &Path, feeder: &mut Feeder<'_, '_>) -> Result<()> {
    let mut buffer = vec![0u8; READ_BYTES];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) if !feeder.push(&buffer[..count])? => return Ok(()),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Error::io("read", path)(error)),
        }
    }
}

/// A blob that is an archive is the layer's archive too: one file, two names.
fn share_blob(blob: &File, name: &Path) -> Result<()> {
    std::fs::remove_file(name).map_err(Error::io("unlink", name))?;
    let path = format!("/proc/self/fd/{}", blob.as_raw_fd());
    rustix::fs::linkat(CWD, path, CWD, name, AtFlags::SYMLINK_FOLLOW)
        .map_err(|errno| ketch_sys::Error::on("linkat", name, errno).into())
}

/// Checks what the image config promised.
fn expect(unpacked: Unpacked, blob: &Digest, diff_id: &Digest) -> Result<Unpacked> {
    let actual = unpacked.diff_id.as_ref().unwrap_or(blob);
    if actual == diff_id {
        return Ok(unpacked);
    }
    Err(Error::DiffMismatch {
        expected: diff_id.clone(),
        actual: actual.clone(),
    })
}

/// Whether the bytes are at fault: the same ones would fail again.
fn is_of_content(error: &Error) -> bool {
    match error {
        Error::DiffMismatch { .. } | Error::Decompress { .. } | Error::TooLarge { .. } => true,
        Error::Tar(error) => error.is_of_content(),
        _ => false,
    }
}

impl Ingest {
    /// One pass: source → blob digest and file → decompress → diff id → files. The source starts at [`Ingest::offset`].
    /// Blob and layer become visible when both digests are right, and not before.
    ///
    /// # Errors
    /// [`Error::Source`] if the source fails or ends too early: what came is kept, the next attempt continues there.
    /// [`Error::DigestMismatch`], [`Error::DiffMismatch`], [`Error::Decompress`], [`Error::Tar`]: what came is thrown away.
    /// Otherwise the disk failed.
    pub fn unpack(
        mut self,
        mut source: impl Read,
        diff_id: &Digest,
        progress: Progress<'_>,
    ) -> Result<LayerRecord> {
        let store = self.store.clone();
        let form = match store.has_layer(diff_id) {
            true => None,
            false => Some(store.new_form()?),
        };
        let copy = self
            .file
            .try_clone()
            .map_err(Error::io("dup", &self.path))?;
        let (_, unpacked) = pipeline::run(&store, form, &copy, |feeder| {
            self.rehash(|bytes| feeder.push(bytes).map(|_| ()))?;
            progress(self.received_bytes);
            let mut buffer = vec![0u8; READ_BYTES];
            while self.received_bytes < self.descriptor.size {
                let count = match source.read(&mut buffer) {
                    Ok(0) => return Err(self.stopped(io::ErrorKind::UnexpectedEof.into())),
                    Ok(count) => count,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    Err(error) => return Err(self.stopped(error)),
                };
                self.append(&buffer[..count])?;
                progress(self.received_bytes);
                if !feeder.push(&buffer[..count])? {
                    return Ok(());
                }
            }
            // A source that checks digests itself tells its verdict at its end.
            match source.read(&mut buffer[..1]) {
                Ok(0) => Ok(()),
                Ok(count) => self.append(&buffer[..count]),
                Err(error) => Err(self.stopped(error)),
            }
        })?;
        // Wrong bytes explain everything else.
        if self.received_bytes == self.descriptor.size {
            self.check_digest()?;
        }
        let blob = &self.descriptor.digest;
        let unpacked = match unpacked.and_then(|unpacked| expect(unpacked, blob, diff_id)) {
            Err(error) => {
                if is_of_content(&error) {
                    self.discard()?;
                }
                return Err(error);
            }
            Ok(unpacked) => unpacked,
        };
        let record = store.place_layer(unpacked, diff_id, &copy)?;
        self.finish()?;
        Ok(record)
    }
}
