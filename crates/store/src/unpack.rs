//! From layer blobs to layers: the ways in.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;

use ketch_spec::Digest;
use ketch_spec::image::{Descriptor, media_type};
use ketch_sys::fs as sysfs;
use rustix::fs::{AtFlags, CWD};

use crate::outflow::Outflow;
use crate::pipeline::{self, End, Feeder, Unpacked, Work};
use crate::{Compression, Error, Ingest, LayerForm, LayerRecord, OpenLayer, Result, Store, target};

/// Called with the number of bytes of the blob that are here so far, often, from the thread that reads.
pub type Progress<'a> = &'a (dyn Fn(u64) + Sync);

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
        let passed = pipeline::run(self, Some(self.new_form()?), &file, |feeder| {
            feed(&file, &path, feeder)
        })?;
        self.place_layer(expect(passed.unpacked?, diff_id)?, &file)
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
        let passed = pipeline::run(self, form, &file, |feeder| feed(&file, &path, feeder))?;
        let unpacked = passed.unpacked?;
        let Some(work) = unpacked.work else {
            return Err(Error::Panicked);
        };
        let record = LayerRecord::new(diff_id.clone(), &unpacked.totals);
        self.write_record(&work.0, &record)?;
        // What it replaces has survived power cuts.
        sysfs::sync_file_system(sysfs::open_directory(&work.0)?.as_fd())?;
        // Commit point: from here on the layer has the other form. The old one goes with the work directory.
        sysfs::rename_exchange(&work.0, &self.layer_dir(diff_id)?)?;
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
        let mut outflow = Outflow::default();
        let mut total = 0u64;
        let passed = pipeline::run(self, Some(self.new_form()?), &copy, |feeder| {
            // A blob that is no layer is stored all the same, so there is no stopping early.
            loop {
                let end = feeder.feed(&mut source, |bytes| {
                    file.write_all(bytes).map_err(Error::io("write", &path))?;
                    outflow.grew(&file, bytes.len() as u64)?;
                    total += bytes.len() as u64;
                    Ok(())
                })?;
                match end {
                    End::Source => return Ok(None),
                    End::Failed(error) => return Ok(Some(error)),
                    End::Unwanted => {}
                }
            }
        })?;
        let digest = passed.digest;
        if let Some(source) = passed.fed {
            return Err(Error::Source {
                digest,
                received_bytes: total,
                expected_bytes: total,
                source,
            });
        }
        let compression = passed
            .unpacked
            .as_ref()
            .map_or(Compression::None, |unpacked| unpacked.compression);
        let layer = passed
            .unpacked
            .and_then(|unpacked| self.place_layer(unpacked, &copy));
        sysfs::finish_writing(copy.as_fd())?;
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
    fn place_layer(&self, unpacked: Unpacked, blob: &File) -> Result<LayerRecord> {
        let Unpacked {
            diff_id,
            totals,
            work,
            image,
            compression,
        } = unpacked;
        let Some(work) = work else {
            return self.layer(&diff_id);
        };
        let mut record = LayerRecord::new(diff_id.clone(), &totals);
        if let Some(image) = image {
            if compression == Compression::None {
                share_blob(blob, &work.0.join(target::TAR))?;
            }
            let sealed = image.seal(&diff_id, totals.archive_bytes);
            record.form = LayerForm::Erofs;
            record.image_bytes = sealed.map_err(Error::io("write", work.0.join(target::IMAGE)))?;
        }
        self.write_record(&work.0, &record)?;
        self.place("layers", &diff_id, &work.0)?;
        Ok(record)
    }
}

/// Hands on a whole file; `path` is for messages.
fn feed(mut file: &File, path: &Path, feeder: &mut Feeder<'_, '_>) -> Result<()> {
    match feeder.feed(&mut file, |_| Ok(()))? {
        End::Source | End::Unwanted => Ok(()),
        End::Failed(error) => Err(Error::io("read", path)(error)),
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
fn expect(unpacked: Unpacked, diff_id: &Digest) -> Result<Unpacked> {
    if unpacked.diff_id == *diff_id {
        return Ok(unpacked);
    }
    Err(Error::DiffMismatch {
        expected: diff_id.clone(),
        actual: unpacked.diff_id,
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
        // The pass hashes.
        self.hash = None;
        let passed = pipeline::run(&store, form, &copy, |feeder| {
            self.feed_earlier(feeder)?;
            progress(self.received_bytes);
            let rest = self.descriptor.size - self.received_bytes;
            let end = feeder.feed(&mut (&mut source).take(rest), |bytes| {
                self.append(bytes)?;
                progress(self.received_bytes);
                Ok(())
            })?;
            match end {
                End::Unwanted => return Ok(()),
                End::Failed(error) => return Err(self.stopped(error)),
                End::Source if self.received_bytes < self.descriptor.size => {
                    return Err(self.stopped(io::ErrorKind::UnexpectedEof.into()));
                }
                End::Source => {}
            }
            // A source that checks digests itself tells its verdict at its end.
            let mut more = [0];
            match source.read(&mut more) {
                Ok(count) => self.append(&more[..count]),
                Err(error) => Err(self.stopped(error)),
            }
        })?;
        // Wrong bytes explain everything else.
        if self.received_bytes == self.descriptor.size {
            self.check(&passed.digest)?;
        }
        let unpacked = passed
            .unpacked
            .and_then(|unpacked| expect(unpacked, diff_id));
        let unpacked = match unpacked {
            Err(error) => {
                if is_of_content(&error) {
                    self.discard()?;
                }
                return Err(error);
            }
            Ok(unpacked) => unpacked,
        };
        sysfs::begin_writing(copy.as_fd(), 0, 0);
        let record = store.place_layer(unpacked, &copy)?;
        self.finish()?;
        Ok(record)
    }

    /// Hands on what an earlier attempt left.
    fn feed_earlier(&mut self, feeder: &mut Feeder<'_, '_>) -> Result<()> {
        if self.received_bytes == 0 {
            return Ok(());
        }
        self.file.rewind().map_err(Error::io("seek", &self.path))?;
        feed(&self.file, &self.path, feeder)
    }
}
