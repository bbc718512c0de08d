//! `network ls`.

use std::fs;

use ketch_network::NetworkRecord;
use ketch_spec::Id;

use super::{CREATING, PREDEFINED, REMOVING, io_error, lock_all, predefined, read, remove};
use crate::{Engine, Result};

/// All networks, by name. Sweeps what killed commands left.
///
/// # Errors
/// Input and output; a network that goes meanwhile is left out.
pub fn list(engine: &Engine) -> Result<Vec<NetworkRecord>> {
    let mut found = read_all(engine)?;
    if !PREDEFINED
        .iter()
        .all(|name| found.iter().any(|record| record.name == *name))
    {
        predefined::make(engine)?;
        found = read_all(engine)?;
    }
    sweep(engine);
    Ok(found)
}

/// All records, by name, as they are.
pub(super) fn read_all(engine: &Engine) -> Result<Vec<NetworkRecord>> {
    let mut found = Vec::new();
    for name in directory_names(engine)? {
        if let Ok(id) = name.parse::<Id>() {
            found.extend(read(engine, &id)?);
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

/// Removes what a killed `create` or `remove` left; failures are for the next sweep. A reader that finds nothing to
/// sweep takes no lock.
fn sweep(engine: &Engine) {
    let is_left = |name: &String| name.starts_with(CREATING) || name.starts_with(REMOVING);
    if !directory_names(engine).is_ok_and(|names| names.iter().any(is_left)) {
        return;
    }
    for name in directory_names(engine).unwrap_or_default() {
        let path = engine.paths().network_aside(&name);
        if name.starts_with(REMOVING) {
            let _ = remove::finish(engine, &path);
        } else if name.starts_with(CREATING)
            && let Ok(_lock) = lock_all(engine)
        {
            // With the lock, nobody is making one.
            let _ = ketch_sys::fs::remove_tree(&path);
        }
    }
}

fn directory_names(engine: &Engine) -> Result<Vec<String>> {
    let dir = engine.paths().networks_dir();
    let entries = match fs::read_dir(&dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(io_error("read", &dir, &error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        names.extend(
            entry
                .map_err(|error| io_error("read", &dir, &error))?
                .file_name()
                .into_string()
                .ok(),
        );
    }
    Ok(names)
}
