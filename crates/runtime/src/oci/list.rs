//! `list`.

use super::error::Result;
use super::state::{FullState, full};
use super::store::Root;

/// The states of all containers, sorted by id; those that are being made are not among them.
///
/// # Errors
/// What the kernel says.
pub fn list(root: &Root) -> Result<Vec<FullState>> {
    let mut states = Vec::new();
    for id in root.ids()? {
        let entry = match root.entry(&id) {
            // Removed meanwhile, or a file.
            Err(error) if error.is_not_found() => continue,
            other => other?,
        };
        if let Some(record) = entry.record()? {
            states.push(full(&entry, record)?);
        }
    }
    Ok(states)
}
