//! Into a directory.
//!
//! Blobs come first, each under its name when it is whole, and `index.json` last: a directory that names an image has all
//! of it. A blob that is there is not written again.

use std::io;
use std::path::{Path, PathBuf};

use ketch_spec::Digest;
use ketch_spec::image::{Descriptor, Index};
use ketch_sys::fs::{self as sysfs, UnnamedFile};
use rustix::fs::Mode;

use super::Plan;
use super::documents::{self, LAYOUT, NAME};
use crate::image::commit::to_json;
use crate::image::observer::Metered;
use crate::image::{ArchiveObserver, ArchiveStep, ImageError};
use crate::{Engine, Error, ErrorKind, Result};

/// The largest `index.json` that is read to add to it.
const MAX_INDEX_BYTES: u64 = 16 << 20;

pub(super) fn write(
    engine: &Engine,
    plan: &Plan,
    directory: &Path,
    observer: &dyn ArchiveObserver,
) -> Result<()> {
    let old = prepare(directory)?;
    let blobs = directory.join("blobs/sha256");
    std::fs::create_dir_all(&blobs).map_err(failed("mkdir", &blobs))?;
    for digest in &plan.blobs {
        let is_layer = plan.layers.contains(digest);
        blob(engine, digest, &blobs, is_layer.then_some(observer))?;
    }
    let new = documents::entries(&plan.images);
    let index = documents::index(merged(old, new));
    replace(&directory.join("oci-layout"), LAYOUT)?;
    // Commit point: before it, the directory has blobs that nothing names.
    replace(
        &directory.join("index.json"),
        &to_json("index.json", &index)?,
    )
}

/// Makes the directory, or reads what it names already.
fn prepare(directory: &Path) -> Result<Vec<Descriptor>> {
    std::fs::create_dir_all(directory).map_err(failed("mkdir", directory))?;
    let index = directory.join("index.json");
    match std::fs::metadata(&index) {
        Ok(found) if found.len() <= MAX_INDEX_BYTES => {
            let bytes = std::fs::read(&index).map_err(failed("read", &index))?;
            let index: Index = ketch_spec::document::parse(&bytes).map_err(|error| {
                let what = format!("{} is not an image index", index.display());
                Error::caused(ErrorKind::Invalid, what, &error)
            })?;
            return Ok(index.manifests);
        }
        Ok(_) => {
            let what = format!("{} is larger than {MAX_INDEX_BYTES} bytes", index.display());
            return Err(Error::new(ErrorKind::Invalid, what));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed("stat", &index)(error)),
    }
    let entries = std::fs::read_dir(directory).map_err(failed("readdir", directory))?;
    for entry in entries {
        let name = entry.map_err(failed("readdir", directory))?.file_name();
        // What an interrupted save leaves.
        if name != "blobs" && name != "oci-layout" {
            let what = format!(
                "{} is neither empty nor an OCI image layout: it has {}",
                directory.display(),
                name.display()
            );
            return Err(Error::new(ErrorKind::Invalid, what));
        }
    }
    Ok(Vec::new())
}

/// The old entries but those whose names, or, without names, whose images are saved now.
fn merged(old: Vec<Descriptor>, new: Vec<Descriptor>) -> Vec<Descriptor> {
    let same = |one: &Descriptor, other: &Descriptor| match one.annotations.get(NAME) {
        Some(name) => other.annotations.get(NAME) == Some(name),
        None => other.annotations.is_empty() && other.digest == one.digest,
    };
    let kept = old
        .into_iter()
        .filter(|one| !new.iter().any(|other| same(one, other)));
    let mut all: Vec<Descriptor> = kept.collect();
    all.extend(new);
    all
}

/// Writes one blob, unless it is there; `observer` is told of layers.
fn blob(
    engine: &Engine,
    digest: &Digest,
    blobs: &Path,
    observer: Option<&dyn ArchiveObserver>,
) -> Result<()> {
    let path = blobs.join(digest.hex());
    let name = digest.as_str();
    let size = engine.store().blob_size(digest).unwrap_or_default();
    if std::fs::metadata(&path).is_ok_and(|found| found.is_file() && found.len() == size) {
        if let Some(observer) = observer {
            observer.step(ArchiveStep::Exists { name });
        }
        return Ok(());
    }
    let source = engine.store().open_blob(digest).map_err(ImageError::from)?;
    match observer {
        Some(observer) => {
            write_whole(&path, Metered::new(source, name, size, observer))?;
            observer.step(ArchiveStep::Done {
                name,
                total_bytes: size,
            });
            Ok(())
        }
        None => write_whole(&path, source),
    }
}

/// Writes a file that has no name until it is whole, so that an end at any moment leaves nothing.
fn write_whole(path: &Path, mut source: impl io::Read) -> Result<()> {
    let mut file = UnnamedFile::create(path, Mode::from(0o644)).map_err(|e| unwritten(path, &e))?;
    io::copy(&mut source, file.file()).map_err(failed("write", path))?;
    file.persist().map_err(|error| unwritten(path, &error))
}

fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    sysfs::replace_file(path, bytes, Mode::from(0o644), true)
        .map_err(|error| unwritten(path, &error))
}

fn unwritten(path: &Path, error: &ketch_sys::Error) -> Error {
    let what = format!("cannot write {}", path.display());
    Error::caused(ErrorKind::Internal, what, error)
}

fn failed(call: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path: PathBuf = path.to_owned();
    move |source| ImageError::Io { call, path, source }.into()
}
