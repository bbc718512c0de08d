//! Which containers refer to a volume.

use std::fs;
use std::io;

use ketch_spec::Id;

use super::{io_error, not_found};
use crate::container::load;
use crate::lock::LeafLock;
use crate::{Engine, Error, ErrorKind, Result};

/// Notes that a container refers to a volume. From then on the volume is not removed while the container exists.
///
/// # Errors
/// `NotFound` if the volume is not there, or goes meanwhile.
pub fn attach_user(engine: &Engine, name: &str, container: &Id) -> Result<()> {
    let _lock = lock(engine, name)?;
    let path = engine.paths().volume_users(name).join(container.as_str());
    fs::File::create(&path).map_err(|error| io_error("create", &path, &error))?;
    Ok(())
}

/// Forgets that a container refers to a volume; succeeds where neither is there.
///
/// # Errors
/// Input and output.
pub fn detach_user(engine: &Engine, name: &str, container: &Id) -> Result<()> {
    let path = engine.paths().volume_users(name).join(container.as_str());
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(io_error("unlink", &path, &error))
        }
        _ => Ok(()),
    }
}

/// The containers that refer to a volume and exist.
pub(super) fn of(engine: &Engine, name: &str) -> Result<Vec<Id>> {
    let dir = engine.paths().volume_users(name);
    let entries = match fs::read_dir(&dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(io_error("read", &dir, &error)),
    };
    let mut found: Vec<Id> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<Id>().ok())
        .filter(|id| load::exists_or_is_made(engine, id))
        .collect();
    found.sort();
    Ok(found)
}

/// The volume's leaf lock; never makes a lock file for a volume that is not there.
pub(super) fn lock(engine: &Engine, name: &str) -> Result<LeafLock> {
    if crate::names::check("volume", name).is_err() {
        return Err(not_found(name));
    }
    LeafLock::take(&engine.paths().volume_lock(name)).map_err(|error| match Error::from(error) {
        error if error.kind == ErrorKind::NotFound => not_found(name),
        error => error,
    })
}
