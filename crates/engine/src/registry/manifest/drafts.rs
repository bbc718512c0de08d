//! Lists on disk: a directory a list, a record an image, named by the digest of the reference.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use ketch_spec::{Digest, Reference};

use super::Entry;
use crate::record::{self, Durability};
use crate::{Error, ErrorKind};

/// Version of the records.
pub(super) const VERSION: u32 = 1;
/// Images in a list that are read.
const ENTRIES_MAX: usize = 10_000;

/// What failed with a list on disk.
#[derive(Debug, thiserror::Error)]
pub enum DraftError {
    /// A directory of it.
    #[error("{call} {}: {source}", path.display())]
    Directory {
        /// What was tried.
        call: &'static str,
        /// On which.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A record of it.
    #[error(transparent)]
    Record(#[from] record::Error),
}

impl From<DraftError> for Error {
    fn from(error: DraftError) -> Self {
        Self::caused(ErrorKind::Internal, "cannot use the manifest list", &error)
    }
}

/// All lists of a client.
#[derive(Debug, Clone)]
pub(super) struct Drafts {
    pub directory: PathBuf,
}

impl Drafts {
    /// The images of a list, by reference; None if there is no such list.
    pub fn read(&self, list: &Reference) -> Result<Option<Vec<Entry>>, DraftError> {
        let path = self.list(list);
        let entries = match fs::read_dir(&path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed("read", &path)(error)),
        };
        let mut found = Vec::new();
        for entry in entries.take(ENTRIES_MAX) {
            let file = entry.map_err(failed("read", &path))?.path();
            // A temporary of a write that was killed has another end.
            if file.extension().is_some_and(|end| end == "json") {
                let entry: Entry = record::read(&file)?;
                record::check_version(&file, entry.version, VERSION)?;
                found.push(entry);
            }
        }
        found.sort_by(|a, b| a.reference.cmp(&b.reference));
        Ok((!found.is_empty()).then_some(found))
    }

    /// Adds an image to a list, or replaces it.
    pub fn write(&self, list: &Reference, entry: &Entry) -> Result<(), DraftError> {
        let path = self.list(list);
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&path)
            .map_err(failed("mkdir", &path))?;
        let name = format!("{}.json", name_of(&entry.reference));
        record::write(&path.join(name), entry, Durability::Synced)?;
        Ok(())
    }

    /// Removes a list; whether there was one.
    pub fn remove(&self, list: &Reference) -> Result<bool, DraftError> {
        let path = self.list(list);
        match fs::remove_dir_all(&path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(failed("remove", &path)(error)),
        }
    }

    fn list(&self, list: &Reference) -> PathBuf {
        self.directory.join(name_of(list))
    }
}

/// References have slashes and may be longer than a file name: the digest of one is neither.
fn name_of(reference: &Reference) -> String {
    Digest::of(reference.to_string().as_bytes())
        .hex()
        .to_owned()
}

fn failed(call: &'static str, path: &Path) -> impl FnOnce(io::Error) -> DraftError + use<> {
    let path = path.to_owned();
    move |source| DraftError::Directory { call, path, source }
}
