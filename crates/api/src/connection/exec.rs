//! `POST /exec/{id}/start`: the connection becomes an exec session's standard streams.

use std::sync::Arc;

use hyper::StatusCode;
use hyper_util::rt::TokioIo;
use ketch_engine::container::{self, Attached, ExecConfig};
use ketch_engine::{Error, ErrorKind, Result};
use ketch_spec::Id;
use serde::Deserialize;
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;

use super::framing::{self, Framing};
use super::pump::{self, Ended, Session};
use super::{QUEUED_SIZES, Streams, Upgrade, into_async, wanted};
use crate::call::Call;
use crate::reply::Reply;
use crate::server::{Answer, on_blocking_thread};
use crate::shared::{Progress, Shared};

/// The body of a start of an exec session.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct ExecStartBody {
    detach: bool,
    console_size: Option<(u16, u16)>,
}

/// Starts the session. Of a detached one the exit code is kept, too.
pub async fn start(shared: &Arc<Shared>, call: Call, upgrade: Option<Upgrade>) -> Result<Answer> {
    let body: ExecStartBody = call.json_or_default()?;
    let upgrade = if body.detach {
        None
    } else {
        Some(wanted(upgrade)?)
    };
    let (sender, sizes) = mpsc::channel(QUEUED_SIZES);
    let (container, config, streams) = begin(shared, &call.name, &body, sender)?;
    let tty = config.tty;
    let engine = shared.engine.clone();
    let started =
        on_blocking_thread(move || container::exec(&engine, container.as_str(), config)).await;
    let session = Session {
        tty,
        streams,
        sizes,
    };
    let (shared, name) = (Arc::clone(shared), call.name);
    match (started, upgrade) {
        (Ok(Some(attached)), Some(upgrade)) => {
            tokio::spawn(async move {
                let code = carry(session, attached, upgrade).await;
                end(&shared, &name, code);
            });
        }
        (Ok(Some(attached)), None) => {
            tokio::spawn(async move {
                let code = follow(session, attached).await;
                end(&shared, &name, code);
            });
            return Ok(Answer::Reply(Reply::empty(StatusCode::OK)));
        }
        // The engine was not asked to let go of it, so this does not happen; if it does, nobody will tell its end.
        (Ok(None), _) => {
            end(&shared, &name, LOST_CODE);
            return Ok(Answer::Reply(Reply::empty(StatusCode::OK)));
        }
        // Clients read the code of a command that is not there from the session, as of one that ran.
        (Err(error), Some(upgrade)) if failed_in_container(&error) => {
            end(&shared, &name, exit_code(&error));
            tokio::spawn(tell(error, tty, upgrade));
        }
        (Err(error), _) => {
            end(&shared, &name, exit_code(&error));
            return Err(error);
        }
    }
    let content_type = Framing::of(tty).content_type(call.version);
    Ok(Answer::Response(Upgrade::accept(content_type)))
}

/// Takes a session that has not been started.
fn begin(
    shared: &Shared,
    name: &str,
    body: &ExecStartBody,
    sizes: mpsc::Sender<(u16, u16)>,
) -> Result<(Id, ExecConfig, Streams)> {
    shared.exec(name, |id, session| {
        if !matches!(session.progress, Progress::Created) {
            return Err(Error::new(
                ErrorKind::Conflict,
                format!("exec instance {id} has already started"),
            ));
        }
        session.progress = Progress::Running(sizes);
        let mut config = session.config.clone();
        let size = body.console_size.filter(|size| *size != (0, 0));
        config.size = size.or(config.size);
        config.stdin &= !body.detach;
        Ok((session.container.clone(), config, session.streams.clone()))
    })?
}

/// The code of a session whose end nobody told.
const LOST_CODE: i32 = 255;

async fn carry(session: Session, attached: Attached, upgrade: Upgrade) -> i32 {
    let (Ok(client), Ok(monitor)) = (upgrade.0.await, into_async(attached)) else {
        return LOST_CODE;
    };
    code_of(pump::run(session, TokioIo::new(client), monitor).await)
}

/// Waits for the end of a session that has no client.
async fn follow(session: Session, attached: Attached) -> i32 {
    let session = Session {
        streams: Streams::default(),
        ..session
    };
    match into_async(attached) {
        Ok(monitor) => code_of(pump::run(session, tokio::io::empty(), monitor).await),
        Err(_) => LOST_CODE,
    }
}

/// Tells a client why its command did not start, where its output would have been.
async fn tell(error: Error, tty: bool, upgrade: Upgrade) {
    let Ok(client) = upgrade.0.await else {
        return;
    };
    let mut client = TokioIo::new(client);
    let text = format!("{error}\r\n");
    let piece = Framing::of(tty).wrap(framing::STDERR, text.as_bytes());
    // A client that has gone does not read it.
    let _ = client.write_all(&piece).await;
    let _ = client.shutdown().await;
}

fn code_of(ended: Ended) -> i32 {
    match ended {
        Ended::Exited(exit) => exit.code,
        Ended::Left | Ended::Lost => LOST_CODE,
    }
}

fn end(shared: &Shared, name: &str, code: i32) {
    // Forgotten already: then nobody asks for it.
    let _ = shared.exec(name, |_, session| session.progress = Progress::Ended(code));
}

/// Whether the program of an exec could not be executed, as opposed to the container not being able to run any.
fn failed_in_container(error: &Error) -> bool {
    exit_code(error) != LOST_CODE
}

/// 127 for a program that is not there, 126 for one that cannot be executed, by the words of the error.
fn exit_code(error: &Error) -> i32 {
    let text = error.to_string().to_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| text.contains(word));
    if error.kind == ErrorKind::Conflict {
        LOST_CODE
    } else if has(&["executable file not found", "no such file or directory"]) {
        127
    } else if has(&["permission denied", "is a directory", "exec format error"]) {
        126
    } else {
        LOST_CODE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_a_failed_start_decide_its_code() {
        let code = |text: &str| exit_code(&Error::new(ErrorKind::Invalid, text));
        assert_eq!(code("exec: \"x\": executable file not found in $PATH"), 127);
        assert_eq!(code("exec: \"/etc/passwd\": permission denied"), 126);
        assert_eq!(code("something else"), LOST_CODE);
    }
}
