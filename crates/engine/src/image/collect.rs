//! Freeing what no image, container or cache record needs.

use std::fs;
use std::path::PathBuf;

use ketch_spec::Digest;
use ketch_store::Freed;
use serde::Deserialize;

use super::ImageError;
use crate::{Engine, Error, ErrorKind, Result, layer};

/// Removes what nothing needs. If pulls, builds or starts are at work now, nothing is removed and a note is left, by
/// which the last of them, or any later call, does it.
///
/// # Errors
/// A container's or cache's record cannot be read (nothing is removed then); something cannot be removed.
pub fn collect(engine: &Engine) -> Result<Freed> {
    let note = pending_note(engine);
    let Some(exclusive) = engine
        .store()
        .try_lock_exclusive()
        .map_err(ImageError::from)?
    else {
        leave_note(engine)?;
        return Ok(Freed::default());
    };
    // Whoever wants a collection from here on finds the store held and leaves the note anew.
    match fs::remove_file(&note) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(source) => {
            return Err(ImageError::Io {
                call: "unlink",
                path: note,
                source,
            }
            .into());
        }
    }
    // What a killed user left mounted would keep its space.
    layer::sweep(engine)?;
    let mut roots = layer::cache_sweep(engine)?;
    let users = container_images(engine)?;
    roots
        .layers
        .extend(users.iter().flat_map(|user| user.layers.iter().cloned()));
    if !users.is_empty() {
        let images = super::read_all(engine)?;
        if users.iter().any(|user| {
            !images
                .iter()
                .any(|image| Some(&image.id) == user.id.as_ref())
        }) {
            // Only that container keeps its layers: its removal will look for this.
            leave_note(engine)?;
        }
    }
    Ok(engine
        .store()
        .collect(&roots, exclusive)
        .map_err(ImageError::from)?)
}

/// Leaves the note that something will be free once those at work are done, or once a container is removed.
fn leave_note(engine: &Engine) -> Result<()> {
    let note = pending_note(engine);
    Ok(fs::write(&note, b"").map_err(|source| ImageError::Io {
        call: "write",
        path: note,
        source,
    })?)
}

/// Does a collection that had to wait, or that is due because a process was killed or the machine went down. Pulls, loads and builds call it after they let go of the store lock, and removals
/// of containers when they are done.
///
/// # Errors
/// As [`collect`].
pub fn collect_if_pending(engine: &Engine) -> Result<()> {
    if pending_note(engine).exists() || engine.store().has_garbage().map_err(ImageError::from)? {
        collect(engine)?;
    }
    Ok(())
}

fn pending_note(engine: &Engine) -> PathBuf {
    engine.paths().ingest_dir().join("collect-pending")
}

/// The part of a container's config that matters here; it is read as it is, whatever the container's state, because
/// hidden and half-made containers need their layers too.
#[derive(Deserialize)]
struct Needs {
    image: NeedsImage,
}

#[derive(Deserialize)]
pub(super) struct NeedsImage {
    /// The image it was made from.
    pub(super) id: Option<Digest>,
    /// The layers it needs, whatever becomes of the image.
    pub(super) layers: Vec<Digest>,
}

/// What every container needs, hidden ones too.
pub(super) fn container_images(engine: &Engine) -> Result<Vec<NeedsImage>> {
    let directory = engine.paths().containers_dir();
    let listing = match fs::read_dir(&directory) {
        Ok(listing) => listing,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => {
            return Err(ImageError::Io {
                call: "readdir",
                path: directory,
                source,
            }
            .into());
        }
    };
    let mut images = Vec::new();
    for entry in listing {
        let entry = entry.map_err(|source| ImageError::Io {
            call: "readdir",
            path: directory.clone(),
            source,
        })?;
        let Some(id) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        let path = engine.paths().container_config(&id);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            // Being made (then its maker holds the store lock, and we would not be here) or being removed.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(source) => {
                return Err(ImageError::Io {
                    call: "read",
                    path,
                    source,
                }
                .into());
            }
        };
        let needs: Needs = serde_json::from_slice(&bytes).map_err(|error| {
            Error::caused(
                ErrorKind::Internal,
                format!("damaged record {}", path.display()),
                &error,
            )
            .hint("nothing was removed, because this container may need it")
        })?;
        images.push(needs.image);
    }
    Ok(images)
}
