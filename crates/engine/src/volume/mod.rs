//! Volumes: directories that outlive containers, with the driver `local` only.
//!
//! A volume appears whole by the rename of its directory and goes by another. Its users are files named by container
//! id, made and checked under the volume's leaf lock; a user whose container is gone counts for nothing.

mod create;
mod list;
mod populate;
mod prune;
mod remove;
mod users;

use std::collections::BTreeMap;
use std::path::PathBuf;

use jiff::Timestamp;
use ketch_spec::Id;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{Engine, Error, ErrorKind, Result, record};

pub(crate) use create::create_for;
pub use create::{VolumeRequest, create};
pub use list::{exists, inspect, list, load};
pub use populate::populate;
pub use prune::{PruneOptions, Pruned, prune, size_bytes};
pub use remove::remove;
pub use users::{attach_user, detach_user};

/// The record version this program writes.
pub const VERSION: u32 = 1;
/// The only driver.
pub const DRIVER: &str = "local";
/// The label of anonymous volumes, as Docker's have it.
pub const ANONYMOUS_LABEL: &str = "com.docker.volume.anonymous";

/// `volume.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VolumeRecord {
    /// Record version, [`VERSION`].
    pub version: u32,
    /// Its name.
    pub name: String,
    /// When it was made.
    pub created: Timestamp,
    /// Labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Driver options as given: `type`, `o`, `device`.
    #[serde(default)]
    pub options: BTreeMap<String, String>,
    /// Made for one container by an image or a nameless mount.
    #[serde(default)]
    pub anonymous: bool,
    /// Somebody copies an image's content into it, or died doing so.
    #[serde(default)]
    pub populating: bool,
    /// Fields this version does not know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// A volume and who uses it.
#[derive(Debug, Clone)]
pub struct Volume {
    /// What is known of it.
    pub record: VolumeRecord,
    /// Where its content is on the host.
    pub mountpoint: PathBuf,
    /// The containers that refer to it, running or not.
    pub users: Vec<Id>,
}

impl Volume {
    /// Docker's JSON.
    pub fn to_docker_json(&self) -> Value {
        let map = |map: &BTreeMap<String, String>| {
            if map.is_empty() {
                Value::Null
            } else {
                serde_json::json!(map)
            }
        };
        serde_json::json!({
            "CreatedAt": self.record.created.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            "Driver": DRIVER,
            "Labels": map(&self.record.labels),
            "Mountpoint": self.mountpoint,
            "Name": self.record.name,
            "Options": map(&self.record.options),
            "Scope": "local",
        })
    }
}

/// The directory that a container gets to see: the volume's own, or the one its options name.
///
/// # Errors
/// `NotFound` for a volume that is not there.
pub fn data_source(engine: &Engine, name: &str) -> Result<PathBuf> {
    let record = read(engine, name)?;
    Ok(match record.options.get("device") {
        Some(device) => PathBuf::from(device),
        None => engine.paths().volume_data(name),
    })
}

/// "get x: no such volume".
fn not_found(name: &str) -> Error {
    Error::new(ErrorKind::NotFound, format!("get {name}: no such volume"))
}

fn read(engine: &Engine, name: &str) -> Result<VolumeRecord> {
    if crate::names::check("volume", name).is_err() {
        return Err(not_found(name));
    }
    let path = engine.paths().volume_record(name);
    let Some(found) = record::read_if_there::<VolumeRecord>(&path)? else {
        return Err(not_found(name));
    };
    record::check_version(&path, found.version, VERSION)?;
    Ok(found)
}

fn io_error(call: &str, path: &std::path::Path, error: &std::io::Error) -> Error {
    Error::caused(
        ErrorKind::Internal,
        format!("{call} {}", path.display()),
        error,
    )
}

#[cfg(test)]
mod tests;
