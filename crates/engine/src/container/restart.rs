//! `restart`: stop, if it runs, and start.

use super::load;
use super::start::{self, StartOptions};
use super::stop::{self, StopOptions};
use crate::event::{self, Event};
use crate::{Engine, ErrorKind, Result};

/// Stops a container as [`stop::stop`] does, and starts it again. One that removes itself at its exit (`--rm`) does not
/// do so at this one; killed between the two, this leaves it stopped.
///
/// # Errors
/// As stop and start.
pub fn restart(engine: &Engine, wanted: &str, options: StopOptions) -> Result<()> {
    let id = load::resolve(engine, wanted)?;
    let (config, _) = load::load(engine, &id)?;
    match stop::stop_as(engine, id.as_str(), options, true) {
        Err(error) if error.kind == ErrorKind::NotModified => {}
        other => other?,
    }
    start::start(engine, id.as_str(), StartOptions::default())?;
    let _ = event::publish(engine, &Event::of_container("restart", &config));
    Ok(())
}
