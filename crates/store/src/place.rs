//! Where things are, and the step from "whole" to "whole and durable".

use std::fs;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use ketch_spec::Digest;
use ketch_sys::fs as sysfs;
use rustix::fs::Mode;
use rustix::io::Errno;

use crate::{Error, LayerForm, Result, erofs};

/// The content of `oci-layout`.
const OCI_LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

/// The content of an `index.json` without images.
pub(crate) const EMPTY_INDEX: &[u8] =
    br#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#;

/// Which forms new layers may have. Those that are here are read in whichever form they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Forms {
    /// [`LayerForm::Erofs`] where the kernel mounts it, else [`LayerForm::Directory`].
    #[default]
    Auto,
    /// [`LayerForm::Directory`].
    Directory,
    /// [`LayerForm::Erofs`], or none.
    Erofs,
}

impl std::str::FromStr for Forms {
    type Err = UnknownForm;

    fn from_str(text: &str) -> Result<Self, UnknownForm> {
        match text {
            "auto" => Ok(Self::Auto),
            "directory" => Ok(Self::Directory),
            "erofs" => Ok(Self::Erofs),
            _ => Err(UnknownForm {
                text: text.to_owned(),
            }),
        }
    }
}

/// No such form.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown form of layers {text:?}: it is \"auto\", \"directory\" or \"erofs\"")]
pub struct UnknownForm {
    text: String,
}

/// A handle on the store: cheap to clone, usable from many threads, holds no lock and no open file.
#[derive(Debug, Clone)]
pub struct Store {
    places: Arc<Places>,
}

#[derive(Debug)]
struct Places {
    root: PathBuf,
    settling: PathBuf,
    forms: Forms,
    /// Whether images can be mounted, once it was asked.
    mounts_images: OnceLock<bool>,
}

impl Store {
    /// Opens the store below `data_root`, making what is missing. Removes nothing.
    ///
    /// # Errors
    /// A directory or one of the two layout files cannot be made.
    pub fn open(data_root: &Path, forms: Forms) -> Result<Self> {
        let settling = data_root.join("ingest/settling").join(boot_id()?);
        let store = Self {
            places: Arc::new(Places {
                root: data_root.to_owned(),
                settling,
                forms,
                mounts_images: OnceLock::new(),
            }),
        };
        // The last directory made tells that all of this was done before.
        if !store.settling("layers").is_dir() {
            // After a boot on a full disk, something has to be removed first.
            store.with_reserve(|| store.make_directories())?;
            store.keep_reserve();
        }
        Ok(store)
    }

    fn make_directories(&self) -> Result<()> {
        for directory in [
            "images/blobs/sha256",
            "layers",
            "ingest/blobs",
            "ingest/work",
        ] {
            make_directory(&self.root().join(directory))?;
        }
        for (name, content) in [
            ("images/oci-layout", OCI_LAYOUT),
            ("images/index.json", EMPTY_INDEX),
        ] {
            let path = self.root().join(name);
            if !path.exists() {
                let _lock = self.lock_records()?;
                if !path.exists() {
                    sysfs::replace_file(&path, content, Mode::from(0o644), true)?;
                }
            }
        }
        for kind in ["blobs", "layers"] {
            make_directory(&self.settling(kind))?;
        }
        Ok(())
    }

    /// The data root.
    pub fn root(&self) -> &Path {
        &self.places.root
    }

    /// The form that a layer gets that is taken in now.
    ///
    /// # Errors
    /// [`Error::NoErofs`] if only that form is wanted.
    pub fn new_form(&self) -> Result<LayerForm> {
        match self.places.forms {
            Forms::Directory => Ok(LayerForm::Directory),
            Forms::Auto if self.mounts_images() => Ok(LayerForm::Erofs),
            Forms::Auto => Ok(LayerForm::Directory),
            Forms::Erofs if self.mounts_images() => Ok(LayerForm::Erofs),
            Forms::Erofs => Err(Error::NoErofs),
        }
    }

    /// Whether this kernel mounts images from files of this data root for us. Tried once a handle, with an image of
    /// nothing: a millisecond, and only where a layer is about to be made or someone wants to know.
    pub fn mounts_images(&self) -> bool {
        *self
            .places
            .mounts_images
            .get_or_init(|| erofs::probe(self).is_ok())
    }

    /// The OCI image layout.
    pub fn images_dir(&self) -> PathBuf {
        self.root().join("images")
    }

    /// `kind` is `blobs` or `layers`: what is whole and of this boot.
    pub(crate) fn settling(&self, kind: &str) -> PathBuf {
        self.places.settling.join(kind)
    }

    /// The final directory of `kind`.
    pub(crate) fn settled(&self, kind: &str) -> PathBuf {
        self.root().join(if kind == "blobs" {
            "images/blobs/sha256"
        } else {
            "layers"
        })
    }

    /// Where the object is now, if it is here. Another process may be moving it from the one place to the other, so
    /// the final place is asked twice.
    pub(crate) fn find(&self, kind: &str, digest: &Digest) -> Option<PathBuf> {
        let settled = self.settled(kind).join(digest.hex());
        if settled.exists() {
            return Some(settled);
        }
        let settling = self.settling(kind).join(digest.hex());
        if settling.exists() {
            return Some(settling);
        }
        settled.exists().then_some(settled)
    }

    /// Makes a directory in `ingest/work` for something to be filled; the caller removes or renames it. Other
    /// processes' [`Store::collect`] leaves it alone as long as the store lock is held shared.
    pub(crate) fn work_directory(&self, kind: &str) -> Result<PathBuf> {
        let path = self
            .root()
            .join("ingest/work")
            .join(format!("{kind}-{}", sysfs::random_hex(8)));
        fs::DirBuilder::new()
            .create(&path)
            .map_err(Error::io("mkdir", &path))?;
        Ok(path)
    }

    /// Puts a finished object at `from` (a file, or a layer's directory) in its settling place. If it is there already,
    /// it is the same, and `from` is removed.
    pub(crate) fn place(&self, kind: &str, digest: &Digest, from: &Path) -> Result<PathBuf> {
        if let Some(found) = self.find(kind, digest) {
            sysfs::remove_tree(from)?;
            return Ok(found);
        }
        let to = self.settling(kind).join(digest.hex());
        // Commit point of a blob or layer: from here on every reader of this boot sees it.
        match sysfs::rename_exclusive(from, &to) {
            Ok(()) => Ok(to),
            Err(error) if error.errno == Errno::EXIST => {
                sysfs::remove_tree(from)?;
                Ok(to)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Makes every finished blob and layer of this boot survive a power cut and moves it to its final place. Costs one
    /// syncfs(2) if there is anything, else two directory listings. Records call it before they name anything.
    ///
    /// # Errors
    /// The disk failed.
    pub fn settle(&self) -> Result<()> {
        let mut moves = Vec::new();
        for kind in ["blobs", "layers"] {
            let from = self.settling(kind);
            for entry in fs::read_dir(&from).map_err(Error::io("readdir", &from))? {
                let entry = entry.map_err(Error::io("readdir", &from))?;
                moves.push((entry.path(), self.settled(kind).join(entry.file_name())));
            }
        }
        if moves.is_empty() {
            return Ok(());
        }
        // Only what was listed before the sync may move after it.
        sysfs::sync_file_system(sysfs::open_directory(self.root())?.as_fd())?;
        for (from, to) in moves {
            match sysfs::rename_exclusive(&from, &to) {
                Ok(()) => {}
                // Another process settles at the same time.
                Err(error) if error.errno == Errno::NOENT => {}
                Err(error) if error.errno == Errno::EXIST => sysfs::remove_tree(&from)?,
                Err(error) => return Err(error.into()),
            }
        }
        for kind in ["blobs", "layers"] {
            sysfs::sync_directory(&self.settled(kind))?;
        }
        Ok(())
    }
}

/// For the engine's user only: layers have set-user-id programs.
fn make_directory(path: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    let mut builder = fs::DirBuilder::new();
    builder
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(Error::io("mkdir", path))
}

/// The id the kernel drew when it booted: tells our settling directory from those of earlier boots.
fn boot_id() -> Result<String> {
    let path = "/proc/sys/kernel/random/boot_id";
    let text = fs::read_to_string(path).map_err(Error::io("read", path))?;
    Ok(text.trim().to_owned())
}
