//! Exec sessions: made by one request, started by another. Their start is in [`crate::connection`].

use ketch_engine::container::{self, ExecConfig, Status};
use ketch_engine::{Error, ErrorKind, Result, names};
use serde::Deserialize;
use serde_json::json;

use super::verbs::size;
use crate::call::Call;
use crate::connection::Streams;
use crate::reply::Reply;
use crate::shared::{ExecSession, Progress, Shared};

/// The body of a create.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct ExecBody {
    attach_stdin: bool,
    attach_stdout: bool,
    attach_stderr: bool,
    tty: bool,
    cmd: Option<Vec<String>>,
    env: Option<Vec<String>>,
    user: String,
    working_dir: String,
    privileged: bool,
    detach_keys: String,
    console_size: Option<(u16, u16)>,
}

/// `POST /containers/{id}/exec`.
pub fn create(shared: &Shared, call: &Call) -> Result<Reply> {
    let body: ExecBody = call.json()?;
    let id = container::resolve(&shared.engine, &call.name)?;
    let (_, state) = container::load(&shared.engine, &id)?;
    let conflict = |message: String| Err(Error::new(ErrorKind::Conflict, message));
    match state.status {
        Status::Running => {}
        Status::Paused => {
            return conflict(format!(
                "container {id} is paused, unpause the container before exec"
            ));
        }
        _ => return conflict(format!("container {id} is not running")),
    }
    let session = session(id, body)?;
    let exec = names::draw_id()?;
    shared.add_exec(exec.clone(), session)?;
    Ok(Reply::created(json!({"Id": exec})))
}

fn session(container: ketch_spec::Id, body: ExecBody) -> Result<ExecSession> {
    let command = body.cmd.unwrap_or_default();
    if command.first().is_none_or(String::is_empty) {
        return Err(Error::new(ErrorKind::Invalid, "No exec command specified"));
    }
    let streams = Streams {
        stdin: body.attach_stdin,
        stdout: body.attach_stdout,
        stderr: body.attach_stderr,
        detach_keys: Streams::parse_detach_keys(&body.detach_keys)?,
    };
    let given = |text: String| Some(text).filter(|text| !text.is_empty());
    Ok(ExecSession {
        container,
        config: ExecConfig {
            command,
            env: body.env.unwrap_or_default(),
            working_dir: given(body.working_dir),
            user: given(body.user),
            tty: body.tty,
            privileged: body.privileged,
            stdin: body.attach_stdin,
            // Its exit is told by its connection, which stays open for a detached one too.
            detach: false,
            size: body.console_size.filter(|size| *size != (0, 0)),
        },
        streams,
        progress: Progress::Created,
        number: 0,
    })
}

/// `POST /exec/{id}/resize`.
pub fn resize(shared: &Shared, call: &Call) -> Result<Reply> {
    let size = size(call)?;
    let sizes = shared.exec(&call.name, |_, session| match &session.progress {
        Progress::Running(sizes) => Some(sizes.clone()),
        _ => None,
    })?;
    match sizes {
        Some(sizes) => {
            // One that ended just now has no terminal any more.
            let _ = sizes.blocking_send(size);
            Ok(Reply::text(""))
        }
        None => Err(Error::new(
            ErrorKind::Conflict,
            format!("exec process {} is not started", call.name),
        )),
    }
}

/// `GET /exec/{id}/json`.
pub fn inspect(shared: &Shared, call: &Call) -> Result<Reply> {
    let value = shared.exec(&call.name, |id, session| {
        let config = &session.config;
        let code = match session.progress {
            Progress::Ended(code) => Some(code),
            _ => None,
        };
        json!({
            "ID": id,
            "Running": matches!(session.progress, Progress::Running(_)),
            "ExitCode": code,
            "ProcessConfig": {
                "tty": config.tty,
                "entrypoint": config.command.first(),
                "arguments": config.command.get(1..),
                "privileged": config.privileged,
                "user": config.user,
            },
            "OpenStdin": session.streams.stdin,
            "OpenStdout": session.streams.stdout,
            "OpenStderr": session.streams.stderr,
            "CanRemove": code.is_some(),
            "ContainerID": session.container,
            "DetachKeys": "",
            "Pid": 0,
        })
    })?;
    Ok(Reply::json(value))
}
