//! `rm`: the container's directory is moved aside (the commit point), then its claims, volumes and files go. A removal
//! that was cut short after the commit point is finished by the next command that lists containers.

use std::fs;
use std::path::Path;

use ketch_spec::Id;
use ketch_spec::mount::MountSource;

use super::channel::{self, Reached};
use super::config::ContainerConfig;
use super::control::{Reply, Request};
use super::load::{self, is_live};
use super::state::Status;
use super::tear_down;
use crate::event::{self, Event};
use crate::lock::OwnerLock;
use crate::paths::{REMOVING, REMOVING_WITH_VOLUMES};
use crate::{Engine, Error, ErrorKind, Result, image, names, record, volume};

/// How often a directory is removed into which others put a lock at the same time.
const REMOVAL_ATTEMPTS: usize = 64;

/// How to remove.
#[derive(Debug, Clone, Copy, Default)]
pub struct RemoveOptions {
    /// Kill it first if it runs.
    pub force: bool,
    /// Its anonymous volumes too.
    pub volumes: bool,
}

/// Removes a container.
///
/// # Errors
/// `NotFound`; `Conflict` in Docker's words if it runs and `force` is not set.
pub fn remove(engine: &Engine, wanted: &str, options: RemoveOptions) -> Result<()> {
    let id = load::resolve(engine, wanted)?;
    let (config, state) = load::load(engine, &id)?;
    if is_live(state.status) && !options.force {
        return Err(refuse(&config, state.status));
    }
    let request = Request::Remove {
        force: options.force,
        volumes: options.volumes,
    };
    match channel::reach(engine, &id, &request)? {
        Reached::Answered(Reply::Failed(error)) => return Err(error),
        Reached::Answered(_) => {}
        Reached::Owned { lock, config, .. } => {
            commit(engine, &config, options.volumes || config.auto_remove)?;
            drop(lock);
        }
    }
    // Layers that only this container kept go now. The container is gone either way.
    let _ = image::collect_if_pending(engine);
    Ok(())
}

fn refuse(config: &ContainerConfig, status: Status) -> Error {
    let what = if status == Status::Paused {
        "paused"
    } else {
        "running"
    };
    let hint = match status {
        Status::Paused => "unpause and then stop the container before removal or force remove",
        _ => "stop the container before removal or force remove",
    };
    Error::new(
        ErrorKind::Conflict,
        format!(
            "cannot remove container {:?}: container is {what}: {hint}",
            format!("/{}", config.name)
        ),
    )
}

/// Removes a container whose run is torn down. For whoever holds the owner lock, which stays held throughout.
///
/// # Errors
/// Input and output. After the commit point the container is gone, and what is left is finished later.
pub fn commit(engine: &Engine, config: &ContainerConfig, volumes: bool) -> Result<()> {
    let place = engine.paths().container_dir(&config.id);
    let aside = engine.paths().container_removing(&config.id, volumes);
    // Commit point: the container is gone.
    fs::rename(&place, &aside).map_err(|error| io_error("rename", &place, &error))?;
    finish_dir(engine, &config.id, &aside, Some(config), volumes)?;
    if !config.hidden {
        let _ = event::publish(engine, &Event::of_container("destroy", config));
    }
    Ok(())
}

/// Finishes the removal whose directory is `name`, unless somebody alive is at it. Other names are left alone.
pub(super) fn finish(engine: &Engine, name: &str) -> Result<()> {
    let (text, volumes) = match (
        name.strip_prefix(REMOVING_WITH_VOLUMES),
        name.strip_prefix(REMOVING),
    ) {
        (Some(text), _) => (text, true),
        (None, Some(text)) => (text, false),
        (None, None) => return Ok(()),
    };
    let Ok(id) = text.parse::<Id>() else {
        return Ok(());
    };
    let aside = engine.paths().container_removing(&id, volumes);
    let Ok(Some(_lock)) = OwnerLock::take(&aside.join("owner.lock")) else {
        return Ok(());
    };
    let config =
        record::read_if_there::<ContainerConfig>(&aside.join("config.json")).unwrap_or_default();
    finish_dir(engine, &id, &aside, config.as_ref(), volumes)
}

/// Removes what a killed `create` left: a directory without a state that nobody owns.
pub(super) fn sweep_unfinished(engine: &Engine, id: &Id) -> Result<()> {
    let place = engine.paths().container_dir(id);
    // A missing directory must not be made again by the lock's file: `take` never makes directories.
    let Ok(Some(_lock)) = OwnerLock::take(&engine.paths().owner_lock(id)) else {
        return Ok(());
    };
    if load::exists(engine, id) {
        return Ok(());
    }
    let aside = engine.paths().container_removing(id, true);
    fs::rename(&place, &aside).map_err(|error| io_error("rename", &place, &error))?;
    let config =
        record::read_if_there::<ContainerConfig>(&aside.join("config.json")).unwrap_or_default();
    if config.is_none() {
        names::release_all(engine, names::CONTAINER, id)?;
    }
    finish_dir(engine, id, &aside, config.as_ref(), true)
}

/// Takes back a container whose `create` failed before its commit point. The caller holds its owner lock.
pub(super) fn discard(engine: &Engine, config: &ContainerConfig) -> Result<()> {
    let place = engine.paths().container_dir(&config.id);
    let aside = engine.paths().container_removing(&config.id, true);
    fs::rename(&place, &aside).map_err(|error| io_error("rename", &place, &error))?;
    finish_dir(engine, &config.id, &aside, Some(config), true)
}

/// What comes after the commit point, in an order that can be repeated: the config goes last with the files. The run
/// directory goes before them, because nobody would know of it without them.
fn finish_dir(
    engine: &Engine,
    id: &Id,
    aside: &Path,
    config: Option<&ContainerConfig>,
    volumes: bool,
) -> Result<()> {
    tear_down::run_dir(engine, id)?;
    if let Some(config) = config {
        names::release(engine, names::CONTAINER, &config.name, &config.id)?;
        for mount in &config.mounts {
            let MountSource::Volume {
                name: Some(name),
                anonymous,
                ..
            } = &mount.source
            else {
                continue;
            };
            volume::detach_user(engine, name, &config.id)?;
            if *anonymous && volumes {
                match volume::remove(engine, name, true) {
                    // Another container may have taken it over with --volumes-from.
                    Err(error) if error.kind == ErrorKind::Conflict => {}
                    other => other?,
                }
            }
        }
    }
    // Another command that finishes the same removal makes the lock's file anew when we have just removed it: whoever
    // comes last removes the directory.
    let mut result = ketch_sys::fs::remove_tree(aside);
    for _ in 0..REMOVAL_ATTEMPTS {
        match &result {
            Err(error) if error.errno == rustix::io::Errno::NOTEMPTY => {
                result = ketch_sys::fs::remove_tree(aside);
            }
            _ => break,
        }
    }
    result.map_err(|error| {
        Error::caused(
            ErrorKind::Internal,
            "cannot remove the container's files",
            &error,
        )
    })
}

fn io_error(call: &str, path: &Path, error: &std::io::Error) -> Error {
    Error::caused(
        ErrorKind::Internal,
        format!("{call} {}", path.display()),
        error,
    )
}
