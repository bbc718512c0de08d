//! Records: JSON files replaced as a whole, so that a reader, who takes no lock, sees the old one or the new one.
//!
//! A writer makes a temporary file beside the record, writes it, and renames it over the record. Who writes holds the
//! record's lock (owner or leaf); so the temporary has one fixed name and the next writer reuses what a crash left.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{Error as EngineError, ErrorKind};

/// The longest record that is read, in bytes.
pub const MAX_BYTES: u64 = 16 << 20;

/// Whether a record must outlive a power cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// File and directory are synchronised before the call returns.
    Synced,
    /// The file is synchronised, its name in the directory is not: for a record that means nothing before another one
    /// of the same directory, which is [`Durability::Synced`], is there.
    Content,
    /// They are not: for `--rm` containers and other things that need not outlive a power cut.
    Volatile,
}

/// Why a record could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An input or output call failed.
    #[error("{call} {path}: {source}")]
    Io {
        /// Which call.
        call: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The content is not the record that was expected.
    #[error("damaged record {path}: {source}")]
    Parse {
        /// The record.
        path: PathBuf,
        /// Where and why.
        source: serde_json::Error,
    },
    /// The file is longer than any record of ours.
    #[error("damaged record {path}: longer than {MAX_BYTES} bytes")]
    TooLong {
        /// The record.
        path: PathBuf,
    },
    /// A newer program wrote it.
    #[error("record {path} has version {found}, this program knows versions up to {known}")]
    Version {
        /// The record.
        path: PathBuf,
        /// What it says.
        found: u32,
        /// What we know.
        known: u32,
    },
}

impl Error {
    /// Whether the record does not exist.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

impl From<Error> for EngineError {
    fn from(error: Error) -> Self {
        let kind = match &error {
            Error::Io { source, .. } => match source.kind() {
                io::ErrorKind::NotFound => ErrorKind::NotFound,
                io::ErrorKind::PermissionDenied => ErrorKind::Forbidden,
                _ => ErrorKind::Internal,
            },
            Error::Version { .. } => ErrorKind::Unsupported,
            Error::Parse { .. } | Error::TooLong { .. } => ErrorKind::Internal,
        };
        EngineError::caused(kind, "cannot keep state", &error)
    }
}

/// Reads a record.
///
/// # Errors
/// See [`Error`]; [`Error::is_not_found`] tells a missing one.
pub fn read<T: DeserializeOwned>(path: &Path) -> Result<T, Error> {
    let bytes = read_bytes(path)?;
    serde_json::from_slice(&bytes).map_err(|source| Error::Parse {
        path: path.to_owned(),
        source,
    })
}

/// Reads a record that may be missing.
///
/// # Errors
/// See [`Error`], without the missing record.
pub fn read_if_there<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, Error> {
    match read(path) {
        Ok(record) => Ok(Some(record)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

/// Refuses a record of a later version than `known`.
///
/// # Errors
/// [`Error::Version`].
pub fn check_version(path: &Path, found: u32, known: u32) -> Result<(), Error> {
    if found > known {
        return Err(Error::Version {
            path: path.to_owned(),
            found,
            known,
        });
    }
    Ok(())
}

/// Replaces a record as a whole; the rename is the moment at which readers see it. The caller holds the record's lock.
///
/// # Errors
/// [`Error::Io`]; the old record is then still there.
pub fn write<T: Serialize>(path: &Path, record: &T, durability: Durability) -> Result<(), Error> {
    let bytes = serde_json::to_vec(record).map_err(|source| Error::Parse {
        path: path.to_owned(),
        source,
    })?;
    write_bytes(path, &bytes, 0o600, durability)
}

/// Replaces a file that is not JSON (hosts, resolv.conf) in the same way; `mode` is not subject to the umask.
///
/// # Errors
/// [`Error::Io`]; the old file is then still there.
pub fn write_bytes(
    path: &Path,
    bytes: &[u8],
    mode: u32,
    durability: Durability,
) -> Result<(), Error> {
    let temporary = temporary(path);
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(&temporary)
        .map_err(|source| io_error("open", &temporary, source))?;
    if mode & 0o077 != 0 {
        file.set_permissions(fs::Permissions::from_mode(mode))
            .map_err(|source| io_error("chmod", &temporary, source))?;
    }
    file.write_all(bytes)
        .map_err(|source| io_error("write", &temporary, source))?;
    if durability != Durability::Volatile {
        file.sync_all()
            .map_err(|source| io_error("fsync", &temporary, source))?;
    }
    fs::rename(&temporary, path).map_err(|source| io_error("rename", path, source))?;
    if durability == Durability::Synced {
        sync_dir_of(path)?;
    }
    Ok(())
}

/// Synchronises the directory that holds `path`, so that a name made or removed there outlives a power cut.
///
/// # Errors
/// [`Error::Io`].
pub fn sync_dir_of(path: &Path) -> Result<(), Error> {
    let dir = path.parent().unwrap_or(Path::new("/"));
    File::open(dir)
        .and_then(|dir| dir.sync_all())
        .map_err(|source| io_error("fsync", dir, source))
}

fn read_bytes(path: &Path) -> Result<Vec<u8>, Error> {
    let file = File::open(path).map_err(|source| io_error("open", path, source))?;
    let mut bytes = Vec::with_capacity(4096);
    file.take(MAX_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(|source| io_error("read", path, source))?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(Error::TooLong {
            path: path.to_owned(),
        });
    }
    Ok(bytes)
}

/// Whether the path is of a file that is about to become a record; without a writer it is what a crash left.
pub fn is_temporary(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().as_bytes();
    name.starts_with(b".") && name.ends_with(b".new")
}

fn temporary(path: &Path) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".new");
    path.with_file_name(name)
}

fn io_error(call: &'static str, path: &Path, source: io::Error) -> Error {
    Error::Io {
        call,
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, Value, json};

    use super::*;

    #[derive(Debug, PartialEq, Serialize, serde::Deserialize)]
    struct Sample {
        version: u32,
        #[serde(flatten)]
        other: Map<String, Value>,
    }

    #[test]
    fn unknown_fields_survive() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("r.json");
        fs::write(&path, r#"{"version":1,"later":{"a":[1,2]}}"#).unwrap();
        let record: Sample = read(&path).unwrap();
        write(&path, &record, Durability::Synced).unwrap();
        let value: Value = read(&path).unwrap();
        assert_eq!(value, json!({"version": 1, "later": {"a": [1, 2]}}));
    }

    #[test]
    fn a_missing_record_is_told_from_a_damaged_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("r.json");
        assert!(read_if_there::<Sample>(&path).unwrap().is_none());
        fs::write(&path, "{").unwrap();
        assert!(matches!(
            read_if_there::<Sample>(&path),
            Err(Error::Parse { .. })
        ));
        assert_eq!(
            EngineError::from(read::<Sample>(&path).unwrap_err()).kind,
            ErrorKind::Internal
        );
    }

    #[test]
    fn what_a_killed_writer_left_does_not_matter() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("r.json");
        write(&path, &json!({"version": 1}), Durability::Volatile).unwrap();
        // Killed after writing half of the temporary: the old record stands, and the next writer succeeds.
        fs::write(temporary(&path), r#"{"version":2,"xxxxxxxxxxxxxxxxxxxxxx"#).unwrap();
        assert_eq!(read::<Value>(&path).unwrap(), json!({"version": 1}));
        write(&path, &json!({"version": 3}), Durability::Volatile).unwrap();
        assert_eq!(read::<Value>(&path).unwrap(), json!({"version": 3}));
        assert!(!temporary(&path).exists());
    }

    #[test]
    fn readers_see_whole_records_while_a_writer_replaces_them() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("r.json");
        write(&path, &vec![0u32; 20_000], Durability::Volatile).unwrap();
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                for round in 1..50u32 {
                    write(&path, &vec![round; 20_000], Durability::Volatile).unwrap();
                }
            });
            while !writer.is_finished() {
                let seen: Vec<u32> = read(&path).unwrap();
                assert_eq!(seen.len(), 20_000);
                assert!(seen.iter().all(|&value| value == seen[0]));
            }
        });
    }

    #[test]
    fn a_later_version_is_refused() {
        let error = check_version(Path::new("/x"), 2, 1).unwrap_err();
        assert_eq!(EngineError::from(error).kind, ErrorKind::Unsupported);
    }
}
