//! Reading containers: which one a user means, and the truth about it from state and lock together.
//!
//! | `state.json` says | lock | meaning |
//! |---|---|---|
//! | running, paused, restarting | held | so it is |
//! | running, paused, restarting | free | the monitor was lost: recover |
//! | created, exited, dead | either | so it is; if held, a verb is at work; if free and a run directory is there, a start was cut short: undo |
//! | nothing (no such file) | held | it is being created: not there yet |
//! | nothing (no such file) | free | its `create` was killed: garbage |

use std::fs;
use std::io;
use std::path::Path;

use ketch_spec::Id;

use super::config::{self, ContainerConfig};
use super::state::{self, ContainerState, Status};
use super::{recover, remove, tear_down};
use crate::lock::OwnerLock;
use crate::record::{self, Durability};
use crate::{Engine, Error, ErrorKind, Result, names};

/// How often a state that changes under our hands is read again before we say so.
const MAX_ROUNDS: usize = 100;

/// A container: what the user asked for and what is.
#[derive(Debug, Clone)]
pub struct Container {
    /// What the user asked for.
    pub config: ContainerConfig,
    /// What is.
    pub state: ContainerState,
}

/// The container that a name, an id or a unique prefix of an id means. A leading slash is allowed before a name.
///
/// # Errors
/// `NotFound` ("No such container: x"), `Invalid` for a prefix of several ids.
pub fn resolve(engine: &Engine, wanted: &str) -> Result<Id> {
    if let Ok(id) = wanted.parse::<Id>()
        && exists(engine, &id)
    {
        return Ok(id);
    }
    let name = wanted.strip_prefix('/').unwrap_or(wanted);
    if let Some(id) = names::lookup(engine, names::CONTAINER, name)?
        && exists(engine, &id)
    {
        return Ok(id);
    }
    match by_prefix(engine, wanted) {
        Err(error) if error.kind == ErrorKind::NotFound => {
            by_lost_claim(engine, name)?.ok_or(error)
        }
        other => other,
    }
}

/// A power cut can lose a claim whose container it leaves, since a claim is not synchronised: the container's own
/// record then still has the name, which is claimed again.
fn by_lost_claim(engine: &Engine, name: &str) -> Result<Option<Id>> {
    if names::check(names::CONTAINER, name).is_err() {
        return Ok(None);
    }
    for id in ids(engine)? {
        let Ok((config, _)) = load_record(engine, &id) else {
            continue;
        };
        if config.name == name {
            let claimed = names::claim(engine, names::CONTAINER, name, &id, |other| {
                exists_or_is_made(engine, other)
            });
            return Ok(claimed.is_ok().then_some(id));
        }
    }
    Ok(None)
}

/// Config and truthful state of one container; recovers it first if its monitor was lost.
///
/// # Errors
/// `NotFound` if it is not there, or not yet, or not any more; otherwise as recovery and reading.
pub fn load(engine: &Engine, id: &Id) -> Result<(ContainerConfig, ContainerState)> {
    let lock_path = engine.paths().owner_lock(id);
    for _ in 0..MAX_ROUNDS {
        let (config, state) = load_record(engine, id)?;
        // A run directory beside a state that is not live is a start under way, or what a start has left whose monitor
        // was lost before its commit point.
        let settled = !is_live(state.status) && !engine.paths().run_dir(id).exists();
        if settled || OwnerLock::is_held(&lock_path)? {
            return Ok((config, state));
        }
        if let Some(lock) = OwnerLock::take(&lock_path)? {
            // Asked again under the lock: the monitor may have written its last state just before it let go.
            let (config, state) = load_record(engine, id)?;
            if is_live(state.status) {
                recover(engine, id, lock)?;
                return load_record(engine, id);
            }
            settle(engine, id, &state)?;
            return Ok((config, state));
        }
    }
    Err(Error::new(
        ErrorKind::Unavailable,
        format!("the state of container {} changes too quickly", id.short()),
    ))
}

/// Undoes what a start has left whose monitor was lost before its commit point: its run directory tells of it. For
/// whoever holds the owner lock of a container that does not run.
///
/// # Errors
/// What could not be undone.
pub(super) fn settle(engine: &Engine, id: &Id, state: &ContainerState) -> Result<()> {
    match engine.paths().run_dir(id).exists() {
        true => tear_down::all(engine, id, state),
        false => Ok(()),
    }
}

/// Config and state as the files say, without asking who holds the lock: for whoever holds it.
///
/// # Errors
/// `NotFound` if it is not there; `Internal` for damaged records, `Unsupported` for later ones.
pub fn load_record(engine: &Engine, id: &Id) -> Result<(ContainerConfig, ContainerState)> {
    let state: ContainerState = read(&engine.paths().container_state(id), id)?;
    let config: ContainerConfig = read(&engine.paths().container_config(id), id)?;
    record::check_version(
        &engine.paths().container_state(id),
        state.version,
        state::VERSION,
    )?;
    record::check_version(
        &engine.paths().container_config(id),
        config.version,
        config::VERSION,
    )?;
    Ok((config, state))
}

/// All containers but hidden ones, newest first. Finishes removals and sweeps creations that were cut short.
///
/// # Errors
/// Input and output; a container that goes meanwhile is left out.
pub fn list(engine: &Engine) -> Result<Vec<Container>> {
    let mut containers = Vec::new();
    for id in ids(engine)? {
        match load(engine, &id) {
            Ok((config, state)) if !config.hidden => containers.push(Container { config, state }),
            Ok((config, state)) => recover::forget_hidden(engine, &config, &state)?,
            Err(error) if error.kind == ErrorKind::NotFound => {
                remove::sweep_unfinished(engine, &id)?
            }
            Err(error) => {
                return Err(error.context(format!("cannot read container {}", id.short())));
            }
        }
    }
    containers.sort_by(|a, b| {
        b.config
            .created
            .cmp(&a.config.created)
            .then_with(|| a.config.id.cmp(&b.config.id))
    });
    Ok(containers)
}

/// Ids of all container directories, in no order, half-made ones included. Finishes removals that were cut short.
///
/// # Errors
/// Input and output.
pub fn ids(engine: &Engine) -> Result<Vec<Id>> {
    let dir = engine.paths().containers_dir();
    let mut found = Vec::new();
    for entry in fs::read_dir(&dir).map_err(|error| io_error("read", &dir, &error))? {
        let entry = entry.map_err(|error| io_error("read", &dir, &error))?;
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        match name.parse::<Id>() {
            Ok(id) => found.push(id),
            Err(_) => remove::finish(engine, &name)?,
        }
    }
    Ok(found)
}

/// Whether an id has a container: made, or being made by someone alive. For [`names::claim`].
pub fn exists_or_is_made(engine: &Engine, id: &Id) -> bool {
    exists(engine, id) || OwnerLock::is_held(&engine.paths().owner_lock(id)).unwrap_or(true)
}

/// Whether an id has a container whose `create` has happened.
pub fn exists(engine: &Engine, id: &Id) -> bool {
    engine.paths().container_state(id).exists()
}

/// Whether a container in this state has a monitor.
pub fn is_live(status: Status) -> bool {
    matches!(
        status,
        Status::Running | Status::Paused | Status::Restarting
    )
}

/// Replaces the state record. Only for whoever holds the owner lock.
///
/// # Errors
/// Input and output; the old record then still stands.
pub fn write_state(
    engine: &Engine,
    config: &ContainerConfig,
    state: &ContainerState,
) -> Result<()> {
    Ok(record::write(
        &engine.paths().container_state(&config.id),
        state,
        config.durability(),
    )?)
}

/// Replaces the config record. Only for whoever holds the owner lock.
///
/// # Errors
/// Input and output; the old record then still stands.
pub fn write_config(engine: &Engine, config: &ContainerConfig) -> Result<()> {
    Ok(record::write(
        &engine.paths().container_config(&config.id),
        config,
        config.durability(),
    )?)
}

impl ContainerConfig {
    /// Whether this container's records must outlive a power cut: not those of `--rm` and of build steps.
    pub fn durability(&self) -> Durability {
        if self.auto_remove || self.hidden {
            Durability::Volatile
        } else {
            Durability::Synced
        }
    }
}

/// "No such container: x".
pub fn not_found(wanted: &str) -> Error {
    Error::new(ErrorKind::NotFound, format!("No such container: {wanted}"))
}

fn by_prefix(engine: &Engine, wanted: &str) -> Result<Id> {
    if wanted.is_empty() || !wanted.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(not_found(wanted));
    }
    let mut found = ids(engine)?
        .into_iter()
        .filter(|id| id.as_str().starts_with(wanted) && exists(engine, id));
    match (found.next(), found.next()) {
        (Some(id), None) => Ok(id),
        (None, _) => Err(not_found(wanted)),
        (Some(_), Some(_)) => Err(Error::new(
            ErrorKind::Invalid,
            format!("multiple IDs found with provided prefix: {wanted}"),
        )),
    }
}

fn read<T: serde::de::DeserializeOwned>(path: &Path, id: &Id) -> Result<T> {
    match record::read(path) {
        Ok(record) => Ok(record),
        Err(error) if error.is_not_found() => Err(not_found(id.as_str())),
        Err(error) => Err(error.into()),
    }
}

fn io_error(call: &str, path: &Path, error: &io::Error) -> Error {
    Error::caused(
        ErrorKind::Internal,
        format!("{call} {}", path.display()),
        error,
    )
}
