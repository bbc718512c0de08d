//! `kill`: a signal for a container's init.

use std::time::{Duration, Instant};

use ketch_spec::Id;

use super::channel;
use super::control::Request;
use super::load::{self, is_live};
use super::state::ExitRecord;
use super::watch::Watch;
use crate::event::{self, Event};
use crate::{Engine, Error, ErrorKind, Result};

const SIGKILL: i32 = 9;
/// How long a container that was killed may take to end before we no longer wait for it.
const KILL_LIMIT: Duration = Duration::from_secs(10);

/// Sends a signal to init. SIGKILL cannot be survived: the container has ended when this returns, as with Docker.
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
    let watch = Watch::container(engine, &id)?;
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
    if signal == SIGKILL {
        until_ended(engine, &id, &watch, state.exit.as_ref())?;
    }
    Ok(())
}

/// Waits until the container does not run, or has been started anew since `before`.
fn until_ended(engine: &Engine, id: &Id, watch: &Watch, before: Option<&ExitRecord>) -> Result<()> {
    let end = Instant::now() + KILL_LIMIT;
    loop {
        match load::load(engine, id) {
            Ok((_, state)) if is_live(state.status) && state.exit.as_ref() == before => {}
            Ok(_) => return Ok(()),
            Err(error) if error.kind == ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        }
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        watch.wait(left)?;
    }
}
