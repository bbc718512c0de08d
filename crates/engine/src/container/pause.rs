//! `pause` and `unpause`: freeze and thaw all processes of a container.

use super::channel;
use super::control::Request;
use super::load;
use super::state::Status;
use crate::event::{self, Event};
use crate::{Engine, Error, ErrorKind, Result};

/// Freezes a container.
///
/// # Errors
/// `NotFound`; `Conflict` in Docker's words if it does not run or is paused already.
pub fn pause(engine: &Engine, wanted: &str) -> Result<()> {
    let id = load::resolve(engine, wanted)?;
    let (config, state) = load::load(engine, &id)?;
    match state.status {
        Status::Running => {}
        Status::Paused => return Err(conflict(format!("container {id} is already paused"))),
        Status::Restarting => return Err(conflict(format!("container {id} is restarting"))),
        _ => return Err(channel::not_running(&id)),
    }
    channel::command(engine, &id, &Request::Pause)?;
    let _ = event::publish(engine, &Event::of_container("pause", &config));
    Ok(())
}

/// Thaws a container.
///
/// # Errors
/// `NotFound`; `Conflict` in Docker's words if it is not paused.
pub fn unpause(engine: &Engine, wanted: &str) -> Result<()> {
    let id = load::resolve(engine, wanted)?;
    let (config, state) = load::load(engine, &id)?;
    if state.status != Status::Paused {
        return Err(conflict(format!("Container {id} is not paused")));
    }
    channel::command(engine, &id, &Request::Unpause)?;
    let _ = event::publish(engine, &Event::of_container("unpause", &config));
    Ok(())
}

fn conflict(message: String) -> Error {
    Error::new(ErrorKind::Conflict, message)
}
