//! `attach`: join the standard streams of a running container.

use std::os::unix::net::UnixStream;

use ketch_spec::Id;

use super::channel;
use super::control::{AttachStreams, Reply, Request};
use super::load::{self, is_live};
use super::state::Status;
use crate::{Engine, Error, ErrorKind, Result};

/// A connection that carries frames (see [`super::stream`]) until the process has ended or the caller drops it.
#[derive(Debug)]
pub struct Attached {
    /// The connection.
    pub stream: UnixStream,
    /// Whether the process has a terminal.
    pub tty: bool,
    /// The container.
    pub id: Id,
}

/// Joins the standard streams of a container's init.
///
/// # Errors
/// `NotFound`; `Conflict` in Docker's words if it does not run or is paused.
pub fn attach(engine: &Engine, wanted: &str, streams: AttachStreams) -> Result<Attached> {
    let id = load::resolve(engine, wanted)?;
    let (config, state) = load::load(engine, &id)?;
    match state.status {
        Status::Paused => {
            return Err(refuse(
                "container %s is paused, unpause the container before attach",
                &id,
            ));
        }
        Status::Restarting => {
            return Err(refuse(
                "container %s is restarting, wait until the container is running",
                &id,
            ));
        }
        status if !is_live(status) => return Err(channel::not_running(&id)),
        _ => {}
    }
    match channel::open(engine, &id, &Request::Attach(streams))? {
        Some((Reply::Failed(error), _)) => Err(error),
        Some((_, stream)) => Ok(Attached {
            stream,
            tty: config.process.tty,
            id,
        }),
        None => Err(channel::not_running(&id)),
    }
}

fn refuse(words: &str, id: &Id) -> Error {
    Error::new(ErrorKind::Conflict, words.replace("%s", id.as_str()))
}
