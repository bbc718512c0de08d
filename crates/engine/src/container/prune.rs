//! `container prune`.

use jiff::Timestamp;

use super::{RemoveOptions, Status, list, remove, size};
use crate::filter::Filters;
use crate::{Engine, ErrorKind, Result};

/// What a prune removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Ids.
    pub ids: Vec<String>,
    /// Bytes of writable layers.
    pub bytes: u64,
}

/// Removes the containers that do not run, were made before `until` and match the `label` and `label!` of `filters`.
///
/// # Errors
/// The first removal that failed for another reason than that the container is in use or gone.
pub fn prune(engine: &Engine, filters: &Filters, until: Option<Timestamp>) -> Result<Pruned> {
    let mut pruned = Pruned::default();
    for found in list(engine)? {
        let ended = matches!(
            found.state.status,
            Status::Created | Status::Exited | Status::Dead
        );
        let old = until.is_none_or(|until| found.config.created < until);
        if !ended || !old || !filters.labels(&found.config.labels) {
            continue;
        }
        let id = &found.config.id;
        let bytes = size(engine, id).map_or(0, |sizes| sizes.writable_bytes);
        let options = RemoveOptions {
            force: false,
            volumes: false,
        };
        match remove(engine, id.as_str(), options) {
            Ok(()) => {
                pruned.ids.push(id.to_string());
                pruned.bytes += bytes;
            }
            Err(error) if matches!(error.kind, ErrorKind::Conflict | ErrorKind::NotFound) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(pruned)
}
