//! `volume ls` and `volume inspect`.

use std::fs;

use serde_json::Value;

use super::{Volume, create, io_error, read, remove, users};
use crate::lock::OwnerLock;
use crate::{Engine, ErrorKind, Result};

/// All volumes, by name. Sweeps what killed commands left.
///
/// # Errors
/// Input and output; a volume that goes meanwhile is left out.
pub fn list(engine: &Engine) -> Result<Vec<Volume>> {
    let dir = engine.paths().volumes_dir();
    let mut found = Vec::new();
    for entry in fs::read_dir(&dir).map_err(|error| io_error("read", &dir, &error))? {
        let entry = entry.map_err(|error| io_error("read", &dir, &error))?;
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        if name.starts_with('.') {
            sweep(engine, &name);
            continue;
        }
        match load(engine, &name) {
            Ok(volume) => found.push(volume),
            Err(error) if error.kind == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    found.sort_by(|a, b| a.record.name.cmp(&b.record.name));
    Ok(found)
}

/// One volume.
///
/// # Errors
/// `NotFound`: "get x: no such volume".
pub fn load(engine: &Engine, name: &str) -> Result<Volume> {
    let record = read(engine, name)?;
    let users = users::of(engine, name)?;
    Ok(Volume {
        record,
        mountpoint: engine.paths().volume_data(name),
        users,
    })
}

/// One volume in Docker's JSON.
///
/// # Errors
/// As [`load`].
pub fn inspect(engine: &Engine, name: &str) -> Result<Value> {
    Ok(load(engine, name)?.to_docker_json())
}

/// Whether there is a volume of that name.
pub fn exists(engine: &Engine, name: &str) -> bool {
    match read(engine, name) {
        Ok(_) => true,
        // A damaged record is a volume too: nothing may be made in its place.
        Err(error) => error.kind != ErrorKind::NotFound,
    }
}

/// Removes what a killed `create` or `remove` left. Failures are for the next sweep.
fn sweep(engine: &Engine, name: &str) {
    let path = engine.paths().volume_dir(name);
    if name.starts_with(remove::REMOVING) {
        let _ = ketch_sys::fs::remove_tree(&path);
    } else if name.starts_with(create::CREATING)
        && let Ok(Some(_lock)) = OwnerLock::take(&path.join("lock"))
    {
        let _ = ketch_sys::fs::remove_tree(&path);
    }
}
