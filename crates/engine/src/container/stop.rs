//! `stop`: signal, wait, SIGKILL; done by the monitor.

use super::channel;
use super::control::Request;
use super::load::{self, is_live};
use crate::{Engine, Error, ErrorKind, Result};

/// How to stop.
#[derive(Debug, Clone, Copy, Default)]
pub struct StopOptions {
    /// Instead of the container's stop signal.
    pub signal: Option<i32>,
    /// Instead of the container's time-out, in seconds; -1 waits forever.
    pub timeout_s: Option<i64>,
}

/// Stops a container and waits until it has exited. Its restart policy leaves it alone then.
///
/// # Errors
/// `NotFound`; `NotModified` if it does not run.
pub fn stop(engine: &Engine, wanted: &str, options: StopOptions) -> Result<()> {
    stop_as(engine, wanted, options, false)
}

/// The same; `keep` says that a `--rm` container stays, because it will be started again.
///
/// # Errors
/// As [`stop`].
pub(super) fn stop_as(
    engine: &Engine,
    wanted: &str,
    options: StopOptions,
    keep: bool,
) -> Result<()> {
    let id = load::resolve(engine, wanted)?;
    let (_, state) = load::load(engine, &id)?;
    let already = || {
        Error::new(
            ErrorKind::NotModified,
            format!("container {wanted} is already stopped"),
        )
    };
    if !is_live(state.status) {
        return Err(already());
    }
    let request = Request::Stop {
        signal: options.signal,
        timeout_s: options.timeout_s,
        keep,
    };
    match channel::command(engine, &id, &request) {
        Ok(_) => Ok(()),
        // It ended by itself, or removed itself, just before.
        Err(error) if error.message == channel::not_running(&id).message => Ok(()),
        Err(error) if error.kind == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}
