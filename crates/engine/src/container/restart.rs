//! `restart`: stop, if it runs, and start.

use super::load;
use super::start::{self, StartOptions};
use super::stop::{self, StopOptions};
use crate::event::{self, Event};
use crate::{Engine, ErrorKind, Result};

/// Stops a container as [`stop::stop`] does, and starts it again.
///
/// # Errors
/// As stop and start. A container that removes itself at its exit cannot be restarted: it is gone then.
pub fn restart(engine: &Engine, wanted: &str, options: StopOptions) -> Result<()> {
    let id = load::resolve(engine, wanted)?;
    let (config, _) = load::load(engine, &id)?;
    match stop::stop(engine, id.as_str(), options) {
        Err(error) if error.kind == ErrorKind::NotModified => {}
        other => other?,
    }
    start::start(engine, id.as_str(), StartOptions::default())?;
    let _ = event::publish(
        engine,
        &Event::now("container", "restart", id.as_str()).with("name", &config.name),
    );
    Ok(())
}
