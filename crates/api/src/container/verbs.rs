//! Verbs on one container that need no more than a name and a few parameters.

use ketch_engine::container::control::{Reply as MonitorReply, Request};
use ketch_engine::container::{self, AttachStreams, RemoveOptions, StartOptions, StopOptions};
use ketch_engine::{Error, ErrorKind, Result};
use ketch_spec::signal;
use serde_json::json;

use crate::call::Call;
use crate::reply::Reply;
use crate::shared::Shared;

/// `GET /containers/{id}/json`.
pub fn inspect(shared: &Shared, call: &Call) -> Result<Reply> {
    let mut value = container::inspect(&shared.engine, &call.name)?;
    if call.query.flag("size") {
        let id = container::resolve(&shared.engine, &call.name)?;
        let sizes = container::size(&shared.engine, &id)?;
        value["SizeRw"] = json!(sizes.writable_bytes);
        value["SizeRootFs"] = json!(sizes.total_bytes);
    }
    Ok(Reply::json(value))
}

/// `GET /containers/{id}/top`.
pub fn top(shared: &Shared, call: &Call) -> Result<Reply> {
    let arguments = call.query.get("ps_args").unwrap_or_default();
    let words: Vec<String> = arguments.split_whitespace().map(str::to_owned).collect();
    let top = container::top(&shared.engine, &call.name, &words)?;
    Ok(Reply::json(
        json!({"Titles": top.titles, "Processes": top.processes}),
    ))
}

/// `POST /containers/{id}/start`. Clients that attached before are joined to the first byte of output.
pub fn start(shared: &Shared, call: &Call) -> Result<Reply> {
    call.query.refuse("checkpoint")?;
    let engine = &shared.engine;
    let id = container::resolve(engine, &call.name)?;
    let mut waiting = shared.take_waiting(&id);
    let first = if waiting.is_empty() {
        None
    } else {
        Some(waiting.remove(0))
    };
    let streams = first
        .as_ref()
        .map(|first| AttachStreams::from(first.streams.clone()));
    let options = StartOptions {
        attach: streams,
        size: None,
    };
    // An error drops the waiting clients' senders: their connections end.
    let attached = container::start(engine, id.as_str(), options)?;
    if let (Some(first), Some(attached)) = (first, attached) {
        // A client that has gone meanwhile has nothing to be told.
        let _ = first.sender.send(attached);
    }
    for other in waiting {
        // It may have ended already: then they are told by the end of their connections.
        if let Ok(attached) = container::attach(engine, id.as_str(), other.streams.into()) {
            let _ = other.sender.send(attached);
        }
    }
    Ok(Reply::done())
}

/// `POST /containers/{id}/stop`.
pub fn stop(shared: &Shared, call: &Call) -> Result<Reply> {
    container::stop(&shared.engine, &call.name, stop_options(call)?)?;
    Ok(Reply::done())
}

/// `POST /containers/{id}/restart`.
pub fn restart(shared: &Shared, call: &Call) -> Result<Reply> {
    container::restart(&shared.engine, &call.name, stop_options(call)?)?;
    Ok(Reply::done())
}

fn stop_options(call: &Call) -> Result<StopOptions> {
    Ok(StopOptions {
        signal: call.query.get("signal").map(parse_signal).transpose()?,
        timeout_s: call.query.number("t")?,
    })
}

fn parse_signal(text: &str) -> Result<i32> {
    signal::parse(text).map_err(|error| Error::new(ErrorKind::Invalid, error.to_string()))
}

/// `POST /containers/{id}/kill`.
pub fn kill(shared: &Shared, call: &Call) -> Result<Reply> {
    let signal = parse_signal(call.query.get("signal").unwrap_or("KILL"))?;
    container::kill(&shared.engine, &call.name, signal)?;
    Ok(Reply::done())
}

/// `POST /containers/{id}/pause`.
pub fn pause(shared: &Shared, call: &Call) -> Result<Reply> {
    container::pause(&shared.engine, &call.name)?;
    Ok(Reply::done())
}

/// `POST /containers/{id}/unpause`.
pub fn unpause(shared: &Shared, call: &Call) -> Result<Reply> {
    container::unpause(&shared.engine, &call.name)?;
    Ok(Reply::done())
}

/// `POST /containers/{id}/rename`.
pub fn rename(shared: &Shared, call: &Call) -> Result<Reply> {
    let name = call.query.get("name").unwrap_or_default();
    container::rename(&shared.engine, &call.name, name)?;
    Ok(Reply::done())
}

/// `DELETE /containers/{id}`.
pub fn remove(shared: &Shared, call: &Call) -> Result<Reply> {
    call.query.refuse("link")?;
    let options = RemoveOptions {
        force: call.query.flag("force"),
        volumes: call.query.flag("v"),
    };
    container::remove(&shared.engine, &call.name, options)?;
    Ok(Reply::done())
}

/// `POST /containers/{id}/resize`.
pub fn resize(shared: &Shared, call: &Call) -> Result<Reply> {
    let (rows, columns) = size(call)?;
    let id = container::resolve(&shared.engine, &call.name)?;
    match container::reach(&shared.engine, &id, &Request::Resize { rows, columns })? {
        container::Reached::Answered(MonitorReply::Failed(error)) => Err(error),
        container::Reached::Answered(_) => Ok(Reply::text("")),
        container::Reached::Owned { .. } => Err(Error::new(
            ErrorKind::Conflict,
            format!("container {id} is not running"),
        )),
    }
}

/// The parameters `h` and `w`.
///
/// # Errors
/// `Invalid` without them.
pub fn size(call: &Call) -> Result<(u16, u16)> {
    let wanted = |key: &str| {
        call.query.number::<u16>(key)?.ok_or_else(|| {
            Error::new(
                ErrorKind::Invalid,
                format!("invalid resize {key}: it is missing"),
            )
        })
    };
    Ok((wanted("h")?, wanted("w")?))
}
