//! `exec`: another process in a running container.

use super::attach::Attached;
use super::channel;
use super::control::{ExecConfig, Reply, Request};
use super::load::{self, is_live};
use super::state::Status;
use crate::{Engine, Error, ErrorKind, Result};

/// Starts a process beside a container's init. None for a detached one, which runs when this returns.
///
/// # Errors
/// `NotFound`; `Conflict` in Docker's words if the container does not run or is paused; the start's own error, with
/// exit code 126 or 127 in its words.
pub fn exec(engine: &Engine, wanted: &str, exec: ExecConfig) -> Result<Option<Attached>> {
    let id = load::resolve(engine, wanted)?;
    if exec.command.first().is_none_or(String::is_empty) {
        return Err(Error::new(ErrorKind::Invalid, "No exec command specified"));
    }
    let (_, state) = load::load(engine, &id)?;
    match state.status {
        Status::Paused => {
            return Err(Error::new(
                ErrorKind::Conflict,
                format!("container {id} is paused, unpause the container before exec"),
            ));
        }
        Status::Restarting => {
            return Err(Error::new(
                ErrorKind::Conflict,
                format!("Container {id} is restarting, wait until the container is running"),
            ));
        }
        status if !is_live(status) => return Err(channel::not_running(&id)),
        _ => {}
    }
    let (tty, detach) = (exec.tty, exec.detach);
    match channel::open(engine, &id, &Request::Exec(exec))? {
        Some((Reply::Failed(error), _)) => Err(error),
        Some((_, stream)) => Ok((!detach).then_some(Attached { stream, tty, id })),
        None => Err(channel::not_running(&id)),
    }
}
