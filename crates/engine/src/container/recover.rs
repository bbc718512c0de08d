//! What a lost monitor left undone, done by the next command that meets it.

use jiff::Timestamp;
use ketch_spec::Id;

use super::config::ContainerConfig;
use super::state::{ContainerState, ExitRecord};
use super::{load, remove, tear_down};
use crate::event::{self, Event};
use crate::lock::OwnerLock;
use crate::{Engine, Result, layer};

/// The exit code of a container whose monitor was lost.
pub const LOST_EXIT_CODE: i32 = 255;

/// Undoes the run of a container whose monitor was lost, records that, and removes the container if it was to remove
/// itself. The caller has taken the owner lock and seen a live state under it.
///
/// # Errors
/// What could not be undone; the state then still says running, and the next command tries again.
pub fn recover(engine: &Engine, id: &Id, lock: OwnerLock) -> Result<()> {
    let (config, mut state) = load::load_record(engine, id)?;
    tear_down::all(engine, id, &state)?;
    state.exited(ExitRecord {
        code: LOST_EXIT_CODE,
        signal: None,
        out_of_memory: false,
        at: Timestamp::now(),
        error: "the container's monitor was lost".into(),
    });
    // Commit point: the run has ended.
    load::write_state(engine, &config, &state)?;
    let _ = event::publish(
        engine,
        &Event::of_container("die", &config).with("exitCode", LOST_EXIT_CODE.to_string()),
    );
    if config.auto_remove || config.hidden {
        remove::commit(engine, &config, true)?;
    }
    drop(lock);
    // The monitor kept them mounted. Another user's end, or a collection, does it where this fails.
    let _ = layer::sweep(engine);
    Ok(())
}

/// Removes a build step's container that nobody works on: its builder was killed.
///
/// # Errors
/// Input and output.
pub(super) fn forget_hidden(
    engine: &Engine,
    config: &ContainerConfig,
    state: &ContainerState,
) -> Result<()> {
    if load::is_live(state.status) {
        return Ok(());
    }
    if let Ok(Some(_lock)) = OwnerLock::take(&engine.paths().owner_lock(&config.id)) {
        remove::commit(engine, config, true)?;
    }
    Ok(())
}
