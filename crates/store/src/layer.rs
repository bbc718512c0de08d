//! Layers: `layers/<hex of diff id>/`, one a diff id, shared by all images that have it.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use ketch_spec::Digest;
use ketch_spec::image::{Descriptor, media_type};
use ketch_sys::fs as sysfs;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{Error, Result, Store, erofs, target};

/// The record version this program writes.
const VERSION: u32 = 1;

/// `layer.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LayerRecord {
    /// Record version.
    pub version: u32,
    /// Digest of the uncompressed archive.
    pub diff_id: Digest,
    /// How the layer is kept.
    pub form: LayerForm,
    /// Content of its regular files in bytes: what `docker images` counts.
    pub size_bytes: u64,
    /// Length of the uncompressed archive in bytes.
    pub archive_bytes: u64,
    /// Entries of the archive.
    pub entries: u64,
    /// Extended attributes that the data root's file system cannot carry and that are missing in the tree.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub lost_xattrs: u64,
    /// Length of the image of a layer in the Erofs form, in bytes, holes and all.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub image_bytes: u64,
    /// Fields this version does not know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// How a layer is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LayerForm {
    /// `tree/` has its files, whiteouts as overlayfs wants them.
    Directory,
    /// `layer.tar` is its archive, `layer.erofs` an EROFS image of its metadata, of which the archive is the second
    /// device.
    Erofs,
}

impl LayerForm {
    /// As it is written in records.
    pub fn name(self) -> &'static str {
        match self {
            Self::Directory => "directory",
            Self::Erofs => "erofs",
        }
    }
}

/// What a layer is kept as, opened.
#[derive(Debug)]
pub enum OpenLayer {
    /// The directory with its files.
    Directory(OwnedFd),
    /// An image and the archive that is its second device.
    Erofs {
        /// The image.
        image: OwnedFd,
        /// The archive.
        archive: OwnedFd,
    },
}

impl OpenLayer {
    /// The directory, or a new mount of the image, read-only, private and attached nowhere.
    ///
    /// # Errors
    /// [`Error::Mount`], which names the layer by `diff_id`.
    pub fn into_files(self, diff_id: &Digest) -> Result<OwnedFd> {
        match self {
            Self::Directory(tree) => Ok(tree),
            Self::Erofs { image, archive } => {
                erofs::mount(image.as_fd(), archive.as_fd()).map_err(|refusal| Error::Mount {
                    diff_id: diff_id.clone(),
                    said: refusal.said,
                    source: refusal.source,
                })
            }
        }
    }
}

fn is_zero(value: &u64) -> bool {
    *value == 0
}

impl LayerRecord {
    pub(crate) fn new(diff_id: Digest, totals: &crate::tree::Totals) -> Self {
        Self {
            version: VERSION,
            diff_id,
            form: LayerForm::Directory,
            size_bytes: totals.size_bytes,
            archive_bytes: totals.archive_bytes,
            entries: totals.entries,
            lost_xattrs: totals.lost_xattrs,
            image_bytes: 0,
            other: Map::new(),
        }
    }
}

impl Store {
    /// Whether the layer is here, whole.
    pub fn has_layer(&self, diff_id: &Digest) -> bool {
        self.find("layers", diff_id).is_some()
    }

    /// The layer's record.
    ///
    /// # Errors
    /// [`Error::MissingLayer`]; a damaged or later record.
    pub fn layer(&self, diff_id: &Digest) -> Result<LayerRecord> {
        for _ in 0..2 {
            let Some(directory) = self.find("layers", diff_id) else {
                break;
            };
            let path = directory.join("layer.json");
            match fs::read(&path) {
                Ok(bytes) => return parse_record(&bytes, &path),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(Error::io("read", path)(error)),
            }
        }
        Err(Error::MissingLayer {
            diff_id: diff_id.clone(),
        })
    }

    /// The layer's directory with its record, for people to look at: it can move once, from its settling place to its
    /// final one, while no image record names the layer.
    ///
    /// # Errors
    /// [`Error::MissingLayer`].
    pub fn layer_dir(&self, diff_id: &Digest) -> Result<PathBuf> {
        self.find("layers", diff_id)
            .ok_or_else(|| Error::MissingLayer {
                diff_id: diff_id.clone(),
            })
    }

    /// Opens what the layer is kept as.
    ///
    /// # Errors
    /// [`Error::MissingLayer`]; the kernel's.
    pub fn open_layer(&self, diff_id: &Digest) -> Result<OpenLayer> {
        let first = sysfs::open_directory(&self.layer_dir(diff_id)?);
        let directory = match first {
            // It has just moved.
            Err(error) if error.errno == Errno::NOENT => {
                sysfs::open_directory(&self.layer_dir(diff_id)?)?
            }
            other => other?,
        };
        let open = |name: &str, flags| {
            let flags = flags | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            rustix::fs::openat(&directory, name, flags, Mode::empty())
        };
        let failed = |name: &str, errno| {
            let path = self.settled("layers").join(diff_id.hex()).join(name);
            Error::from(ketch_sys::Error::on("openat", path, errno))
        };
        // What is there tells the form, so that a start need not read records.
        match open(target::TREE, OFlags::DIRECTORY) {
            Ok(tree) => return Ok(OpenLayer::Directory(tree)),
            Err(Errno::NOENT) => {}
            Err(errno) => return Err(failed(target::TREE, errno)),
        }
        let file =
            |name: &'static str| open(name, OFlags::empty()).map_err(|errno| failed(name, errno));
        Ok(OpenLayer::Erofs {
            image: file(target::IMAGE)?,
            archive: file(target::TAR)?,
        })
    }

    /// Opens the layer's files: its directory, or a mount of its own that goes with the descriptor. Containers do not
    /// use it: two mounts of an image have each their own cache.
    ///
    /// # Errors
    /// [`Error::MissingLayer`], [`Error::Mount`]; the kernel's.
    pub fn open_lower(&self, diff_id: &Digest) -> Result<OwnedFd> {
        self.open_layer(diff_id)?.into_files(diff_id)
    }

    /// The mode, with its file type, owner and group of the layer's root directory.
    ///
    /// # Errors
    /// [`Error::MissingLayer`]; the kernel's.
    pub fn root_attributes(&self, diff_id: &Digest) -> Result<(u32, u32, u32)> {
        match self.open_layer(diff_id)? {
            OpenLayer::Directory(tree) => {
                let stat = rustix::fs::fstat(&tree)
                    .map_err(|errno| ketch_sys::Error::new("fstat", errno))?;
                Ok((stat.st_mode, stat.st_uid, stat.st_gid))
            }
            OpenLayer::Erofs { image, .. } => {
                let path = || {
                    self.settled("layers")
                        .join(diff_id.hex())
                        .join(target::IMAGE)
                };
                erofs::root_attributes(&fs::File::from(image))
                    .map_err(|error| Error::io("read", path())(error))
            }
        }
    }

    /// Turns a directory as overlayfs leaves it (the upper directory of a draft) into a layer: writes its archive,
    /// uncompressed, as a blob whose digest is the diff id, and renames the directory itself into place. Both are
    /// visible when this returns; a record makes them durable. `upper` is gone afterwards.
    ///
    /// Modification times are cut to whole seconds and overlayfs's own attributes are taken off, in the directory too,
    /// so that it equals what others unpack from the archive.
    ///
    /// # Errors
    /// The directory cannot be read; the disk failed. `upper` is then still there.
    pub fn commit_layer(&self, upper: &Path) -> Result<Descriptor> {
        let work = self.work_directory("commit")?;
        let committed = self.commit_in(upper, &work);
        let removed = sysfs::remove_tree(&work);
        let descriptor = committed?;
        removed?;
        Ok(descriptor)
    }

    fn commit_in(&self, upper: &Path, work: &Path) -> Result<Descriptor> {
        let archive = work.join("archive");
        let file = fs::File::create_new(&archive).map_err(Error::io("create", &archive))?;
        let source = sysfs::open_directory(upper)?;
        let (diff_id, totals) =
            crate::tree::archive(source.as_fd(), file, crate::tree::Purpose::Finish)?;
        self.place("blobs", &diff_id, &archive)?;
        let layer = work.join("layer");
        self.write_record(&layer, &LayerRecord::new(diff_id.clone(), &totals))?;
        sysfs::rename_exclusive(upper, &layer.join(target::TREE))?;
        self.place("layers", &diff_id, &layer)?;
        Ok(Descriptor {
            media_type: media_type::LAYER.to_owned(),
            digest: diff_id,
            size: totals.archive_bytes,
            platform: None,
            annotations: Default::default(),
            other: Map::new(),
        })
    }

    /// Makes the layer's directory with its record.
    pub(crate) fn write_record(&self, directory: &Path, record: &LayerRecord) -> Result<()> {
        if !directory.exists() {
            fs::create_dir(directory).map_err(Error::io("mkdir", directory))?;
        }
        let path = directory.join("layer.json");
        let bytes = serde_json::to_vec(record).map_err(|source| Error::Json {
            what: "layer.json".into(),
            source,
        })?;
        // Settling makes it durable.
        Ok(sysfs::replace_file(
            &path,
            &bytes,
            Mode::from(0o600),
            false,
        )?)
    }
}

fn parse_record(bytes: &[u8], path: &Path) -> Result<LayerRecord> {
    let what = path.display().to_string();
    let value: Value = serde_json::from_slice(bytes).map_err(|source| Error::Json {
        what: what.clone(),
        source,
    })?;
    let found = value
        .get("version")
        .and_then(Value::as_u64)
        .unwrap_or_default();
    if found > u64::from(VERSION) {
        return Err(Error::Version {
            what,
            found,
            known: VERSION,
        });
    }
    serde_json::from_value(value).map_err(|source| Error::Json { what, source })
}
