//! Into one archive.

use std::collections::BTreeSet;
use std::io::Write;

use ketch_store::tar::{Entry, Kind, TarError, Writer};

use super::documents::{self, LAYOUT};
use super::{Format, Plan, blob_path, broken};
use crate::image::commit::to_json;
use crate::image::observer::Metered;
use crate::image::{ArchiveObserver, ArchiveStep, ImageError};
use crate::{Engine, Error, Result};

pub(super) fn write(
    engine: &Engine,
    plan: &Plan,
    writer: impl Write,
    format: Format,
    observer: &dyn ArchiveObserver,
) -> Result<()> {
    let mut archive = Archive {
        writer: Writer::new(writer),
        directories: BTreeSet::new(),
    };
    let images = &plan.images;
    let index = documents::index(documents::entries(images));
    archive.document("oci-layout", LAYOUT)?;
    archive.document("index.json", &to_json("index.json", &index)?)?;
    if format == Format::Docker {
        let manifest = to_json("manifest.json", &documents::manifest(images))?;
        archive.document("manifest.json", &manifest)?;
        let repositories = to_json("repositories", &documents::repositories(images))?;
        archive.document("repositories", &repositories)?;
    }
    for digest in &plan.blobs {
        let file = engine.store().open_blob(digest).map_err(ImageError::from)?;
        let size = engine.store().blob_size(digest).unwrap_or_default();
        let path = blob_path(digest);
        if plan.layers.contains(digest) {
            let name = digest.as_str();
            let metered = Metered::new(file, name, size, observer);
            archive.file(&path, size, metered)?;
            observer.step(ArchiveStep::Done {
                name,
                total_bytes: size,
            });
        } else {
            archive.file(&path, size, file)?;
        }
    }
    archive.writer.finish().map_err(failed)?;
    Ok(())
}

/// An archive whose directories are made on the way. Nothing in it depends on when it is written.
struct Archive<W: Write> {
    writer: Writer<W>,
    directories: BTreeSet<String>,
}

impl<W: Write> Archive<W> {
    fn document(&mut self, path: &str, bytes: &[u8]) -> Result<()> {
        self.file(path, bytes.len() as u64, bytes)
    }

    fn file(&mut self, path: &str, size: u64, source: impl std::io::Read) -> Result<()> {
        for (at, _) in path.match_indices('/') {
            if self.directories.insert(path[..at].to_owned()) {
                let mut entry = Entry::new(Kind::Directory, &path[..at]);
                entry.mode = 0o755;
                self.writer.append(&entry).map_err(failed)?;
            }
        }
        let mut entry = Entry::new(Kind::File, path);
        entry.mode = 0o644;
        entry.size = size;
        self.writer.append_file(&entry, source).map_err(failed)
    }
}

fn failed(error: TarError) -> Error {
    match error {
        TarError::Write { source } => broken(source),
        other => ImageError::Store(other.into()).into(),
    }
}
