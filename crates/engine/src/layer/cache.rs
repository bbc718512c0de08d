//! The build cache's records: `build/records/<hex of key>.json`. What a key is made of is the builder's affair.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use ketch_spec::Digest;
use ketch_spec::image::Descriptor;
use ketch_store::Roots;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::LayerError;
use crate::record::{self, Durability};
use crate::{Engine, Result};

/// The record version this program writes.
const VERSION: u32 = 1;

/// What a step made the last time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CacheRecord {
    /// Record version.
    #[serde(default = "version")]
    pub version: u32,
    /// When the step ran.
    pub created: Timestamp,
    /// The layer it made, if it made one: its digest is the diff id.
    #[serde(default)]
    pub layer: Option<Descriptor>,
    /// What the builder wants to know again.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

impl CacheRecord {
    /// A record of now.
    pub fn new(layer: Option<Descriptor>) -> Self {
        Self {
            version: VERSION,
            created: Timestamp::now(),
            layer,
            other: Map::new(),
        }
    }
}

fn version() -> u32 {
    VERSION
}

/// What the step with this key made, if it is known and its layer is still here. Notes the use: the file's modification
/// time is the last use.
///
/// # Errors
/// A record that cannot be read, unless it is one that a power cut left unwritten: that one is not known.
pub fn cache_get(engine: &Engine, key: &Digest) -> Result<Option<CacheRecord>> {
    let path = record_path(engine, key);
    let found = match record::read_if_there::<CacheRecord>(&path) {
        Ok(Some(found)) => found,
        Ok(None) => return Ok(None),
        Err(error) if is_torn(&error) => return Ok(None),
        Err(error) => return Err(LayerError::from(error).into()),
    };
    if found.version > VERSION {
        // A later version's: not for us, and not ours to remove.
        return Ok(None);
    }
    if let Some(layer) = &found.layer
        && !(engine.store().has_layer(&layer.digest) && engine.store().has(&layer.digest))
    {
        return Ok(None);
    }
    if let Ok(file) = fs::File::options().append(true).open(&path) {
        // Losing a note of use costs at most a rebuild.
        let _ = file.set_modified(SystemTime::now());
    }
    Ok(Some(found))
}

/// Remembers what the step with this key made. A power cut may lose it.
///
/// # Errors
/// The record cannot be written.
pub fn cache_put(engine: &Engine, key: &Digest, record: &CacheRecord) -> Result<()> {
    let path = record_path(engine, key);
    if let Some(directory) = path.parent().filter(|directory| !directory.is_dir()) {
        fs::create_dir_all(directory).map_err(|source| LayerError::Io {
            call: "mkdir",
            path: directory.to_owned(),
            source,
        })?;
    }
    record::write(&path, record, Durability::Volatile).map_err(LayerError::from)?;
    Ok(())
}

/// All records with their keys and last uses.
///
/// # Errors
/// The directory cannot be read; a record that does not parse is left out.
pub fn cache_list(engine: &Engine) -> Result<Vec<(Digest, CacheRecord, SystemTime)>> {
    Ok(look_through(engine)?.0)
}

/// What is in the directory: the records, and the files that are none, because their writer was killed or the power
/// went. A record that says what we do not understand is neither.
type Found = (Vec<(Digest, CacheRecord, SystemTime)>, Vec<PathBuf>);

fn look_through(engine: &Engine) -> Result<Found> {
    let directory = records_dir(engine);
    let listing = match fs::read_dir(&directory) {
        Ok(listing) => listing,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Found::default()),
        Err(source) => {
            return Err(LayerError::Io {
                call: "readdir",
                path: directory,
                source,
            }
            .into());
        }
    };
    let (mut found, mut torn) = Found::default();
    for entry in listing {
        let entry = entry.map_err(|source| LayerError::Io {
            call: "readdir",
            path: directory.clone(),
            source,
        })?;
        let path = entry.path();
        if record::is_temporary(&path) {
            torn.push(path);
            continue;
        }
        let name = entry.file_name();
        let Some(hex) = name.to_str().and_then(|name| name.strip_suffix(".json")) else {
            continue;
        };
        let Ok(key) = format!("sha256:{hex}").parse::<Digest>() else {
            continue;
        };
        let record = match record::read_if_there(&path) {
            Ok(Some(record)) => record,
            Err(error) if is_torn(&error) => {
                torn.push(path);
                continue;
            }
            Ok(None) | Err(_) => continue,
        };
        let used = entry
            .metadata()
            .and_then(|metadata| metadata.modified())
            .unwrap_or(SystemTime::UNIX_EPOCH);
        found.push((key, record, used));
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    Ok((found, torn))
}

/// Whether a file holds nothing that anyone wrote as a whole: records are not synced.
fn is_torn(error: &record::Error) -> bool {
    matches!(error, record::Error::Parse { source, .. } if !source.is_data())
}

/// Forgets records that were not used for `unused_for` (all of them if it is zero), and collects what only they needed.
/// Returns the keys and what was freed.
///
/// # Errors
/// A record cannot be removed; the collection failed.
pub fn cache_prune(
    engine: &Engine,
    unused_for: Duration,
) -> Result<(Vec<Digest>, ketch_store::Freed)> {
    let now = SystemTime::now();
    cache_prune_if(engine, |_, used| {
        now.duration_since(used).unwrap_or_default() >= unused_for
    })
}

/// As [`cache_prune`], of the records for which `is_unwanted` holds, which is told of each with its last use.
///
/// # Errors
/// As [`cache_prune`].
pub fn cache_prune_if(
    engine: &Engine,
    is_unwanted: impl Fn(&CacheRecord, SystemTime) -> bool,
) -> Result<(Vec<Digest>, ketch_store::Freed)> {
    let mut removed = Vec::new();
    for (key, record, used) in cache_list(engine)? {
        if !is_unwanted(&record, used) {
            continue;
        }
        let path = record_path(engine, &key);
        match fs::remove_file(&path) {
            Ok(()) => removed.push(key),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(source) => {
                return Err(LayerError::Io {
                    call: "unlink",
                    path,
                    source,
                }
                .into());
            }
        }
    }
    let freed = crate::image::collect(engine)?;
    Ok((removed, freed))
}

/// What the records keep in the store.
///
/// # Errors
/// As [`cache_list`].
pub fn cache_roots(engine: &Engine) -> Result<Roots> {
    Ok(roots_of(&cache_list(engine)?))
}

/// As [`cache_roots`]; removes what killed builds and power cuts left of records. Call it with the store held alone.
///
/// # Errors
/// As [`cache_list`]; something cannot be removed.
pub fn cache_sweep(engine: &Engine) -> Result<Roots> {
    let (found, torn) = look_through(engine)?;
    for path in torn {
        fs::remove_file(&path).map_err(|source| LayerError::Io {
            call: "unlink",
            path,
            source,
        })?;
    }
    Ok(roots_of(&found))
}

fn roots_of(found: &[(Digest, CacheRecord, SystemTime)]) -> Roots {
    let layers: BTreeSet<Digest> = found
        .iter()
        .filter_map(|(_, record, _)| record.layer.as_ref())
        .map(|layer| layer.digest.clone())
        .collect();
    // A step's layer blob is the uncompressed archive: both have the same digest.
    Roots {
        blobs: layers.clone(),
        layers,
    }
}

fn records_dir(engine: &Engine) -> PathBuf {
    engine.paths().build_dir().join("records")
}

fn record_path(engine: &Engine, key: &Digest) -> PathBuf {
    records_dir(engine).join(format!("{}.json", key.hex()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{EngineOptions, Forms};

    #[test]
    fn what_a_crash_leaves_of_a_record_is_not_known_and_is_swept() {
        let root = tempfile::tempdir().unwrap();
        let engine = Engine::open(EngineOptions {
            data_root: root.path().join("data"),
            run_root: root.path().join("run"),
            executable: "/proc/self/exe".into(),
            registry_config: None,
            layer_forms: Forms::Directory,
        })
        .unwrap();
        let [whole, empty, cut, later] = [b"1", b"2", b"3", b"4"].map(|key| Digest::of(key));
        cache_put(&engine, &whole, &CacheRecord::new(None)).unwrap();
        let files = [
            (record_path(&engine, &empty), ""),
            (record_path(&engine, &cut), "{\"version\":1,\"crea"),
            (
                record_path(&engine, &later),
                "{\"version\":9,\"created\":false}",
            ),
            (records_dir(&engine).join(".x.json.new"), "{}"),
        ];
        for (path, content) in &files {
            fs::write(path, content).unwrap();
        }
        assert!(cache_get(&engine, &whole).unwrap().is_some());
        assert!(cache_get(&engine, &empty).unwrap().is_none());
        assert!(cache_get(&engine, &cut).unwrap().is_none());
        assert_eq!(cache_list(&engine).unwrap().len(), 1);
        cache_sweep(&engine).unwrap();
        // A later version's is not ours to remove.
        let left = files.map(|(path, _)| path.exists());
        assert_eq!(left, [false, false, true, false]);
        assert!(cache_get(&engine, &whole).unwrap().is_some());
    }
}
