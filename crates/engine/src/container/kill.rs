//! `kill`: a signal for a container's init.

use super::channel;
use super::control::Request;
use super::load::{self, is_live};
use crate::event::{self, Event};
use crate::{Engine, Error, ErrorKind, Result};

/// Sends a signal to init.
///
/// # Errors
/// `NotFound`; `Conflict` if it does not run: "cannot kill container: x: container ID is not running".
pub fn kill(engine: &Engine, wanted: &str, signal: i32) -> Result<()> {
    let id = load::resolve(engine, wanted)?;
    let refuse = || {
        Error::new(
            ErrorKind::Conflict,
            format!("cannot kill container: {wanted}: container {id} is not running"),
        )
    };
    let (config, state) = load::load(engine, &id)?;
    if !is_live(state.status) {
        return Err(refuse());
    }
    match channel::command(engine, &id, &Request::Kill { signal }) {
        Err(error)
            if error.kind == ErrorKind::Conflict
                && error.message == channel::not_running(&id).message =>
        {
            return Err(refuse());
        }
        other => other?,
    };
    let event = Event::of_container("kill", &config).with("signal", signal.to_string());
    let _ = event::publish(engine, &event);
    Ok(())
}
