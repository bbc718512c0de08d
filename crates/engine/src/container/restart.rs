//! `restart`: stop, if it runs, and start.

use super::load;
use super::start::{self, StartOptions};
use super::stop::{self, StopOptions};
use crate::event::{self, Event};
use crate::{Engine, Error, ErrorKind, Result};

/// Stops a container as [`stop::stop`] does, and starts it again.
///
/// # Errors
/// As stop and start; `Unsupported` for a running container that removes itself at its exit.
pub fn restart(engine: &Engine, wanted: &str, options: StopOptions) -> Result<()> {
    let id = load::resolve(engine, wanted)?;
    let (config, state) = load::load(engine, &id)?;
    if config.auto_remove && load::is_live(state.status) {
        // Stopping it would remove it.
        return Err(Error::new(
            ErrorKind::Unsupported,
            format!(
                "restart of container {wanted}, which removes itself at its exit (--rm), is not supported by this version"
            ),
        ));
    }
    match stop::stop(engine, id.as_str(), options) {
        Err(error) if error.kind == ErrorKind::NotModified => {}
        other => other?,
    }
    start::start(engine, id.as_str(), StartOptions::default())?;
    let _ = event::publish(engine, &Event::of_container("restart", &config));
    Ok(())
}
