//! What the last thread of a pass makes of an archive, in one form or the other.

use std::fs::File;
use std::io::BufRead;
use std::os::fd::OwnedFd;
use std::path::Path;

use ketch_sys::fs as sysfs;

use crate::erofs::{Unsealed, Writer};
use crate::pipeline::Work;
use crate::tar::{Reader, TarError};
use crate::tree::{Extractor, Totals};
use crate::{Compression, Error, LayerForm, Result};

/// Where the files of a Directory layer are.
pub(crate) const TREE: &str = "tree";
/// The archive of an Erofs layer.
pub(crate) const TAR: &str = "layer.tar";
/// Its image.
pub(crate) const IMAGE: &str = "layer.erofs";

/// A layer about to be made.
#[derive(Debug)]
pub(crate) enum Target {
    /// Files in this directory.
    Directory(OwnedFd),
    /// An image, and the archive.
    Erofs {
        /// Empty.
        image: File,
        /// Empty; for the archive, if nothing else has it.
        tar: File,
        /// The blob, which is the archive if it is not compressed.
        blob: File,
    },
}

/// A target for a stream of which the compression is known.
#[derive(Debug)]
pub(crate) enum Making {
    /// See [`Target::Directory`].
    Directory(OwnedFd),
    /// See [`Target::Erofs`].
    Erofs {
        /// Empty.
        image: File,
        /// Has the archive's bytes by the time they are read.
        tar: File,
    },
}

impl Target {
    /// Makes what is needed in the work directory.
    pub fn new(form: LayerForm, work: &Work, blob: &File) -> Result<Self> {
        match form {
            LayerForm::Directory => make_tree(work).map(Self::Directory),
            LayerForm::Erofs => Ok(Self::Erofs {
                image: create(&work.0.join(IMAGE))?,
                tar: create(&work.0.join(TAR))?,
                blob: blob.try_clone().map_err(Error::io("dup", &work.0))?,
            }),
        }
    }

    /// The rest of it, and the file that the archive's bytes have to be written to before they are read.
    pub fn begin(self, compression: Compression) -> Result<(Making, Option<File>)> {
        match self {
            Self::Directory(tree) => Ok((Making::Directory(tree), None)),
            Self::Erofs { image, blob, .. } if compression == Compression::None => {
                Ok((Making::Erofs { image, tar: blob }, None))
            }
            Self::Erofs { image, tar, .. } => {
                let copy = tar.try_clone().map_err(Error::io("dup", TAR))?;
                Ok((Making::Erofs { image, tar: copy }, Some(tar)))
            }
        }
    }
}

impl Making {
    /// Whether files are made, which does not get faster by doing it in parallel.
    pub fn makes_files(&self) -> bool {
        matches!(self, Self::Directory(_))
    }

    /// Reads the archive, up to its end.
    pub fn run<R: BufRead>(
        self,
        reader: &mut Reader<R>,
    ) -> Result<(Totals, Option<Unsealed>), TarError> {
        match self {
            Self::Directory(tree) => Ok((Extractor::new(tree).run(reader)?, None)),
            Self::Erofs { image, tar } => {
                let (totals, unsealed) = Writer::new(image, tar)?.run(reader)?;
                Ok((totals, Some(unsealed)))
            }
        }
    }
}

fn make_tree(work: &Work) -> Result<OwnedFd> {
    let path = work.0.join(TREE);
    std::fs::create_dir(&path).map_err(Error::io("mkdir", &path))?;
    let permissions = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&path, permissions).map_err(Error::io("chmod", &path))?;
    Ok(sysfs::open_directory(&path)?)
}

/// For the engine's user only: an image has set-user-id programs in it.
fn create(path: &Path) -> Result<File> {
    let mut options = File::options();
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = options.read(true).write(true).create_new(true).open(path);
    file.map_err(Error::io("create", path))
}
