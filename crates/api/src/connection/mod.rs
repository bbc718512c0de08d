//! Connections that stop being HTTP and carry a process's standard streams ("hijacked", in Docker's words).

mod detach;
pub mod framing;
mod pump;

use std::sync::Arc;

use hyper::header::{CONNECTION, CONTENT_TYPE, HeaderValue, UPGRADE};
use hyper::upgrade::OnUpgrade;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use ketch_engine::container::{self, AttachStreams, Attached, LogOptions};
use ketch_engine::{Engine, Error, ErrorKind, Result};
use serde::Deserialize;
use tokio::io::AsyncWriteExt;
use tokio::sync::{mpsc, oneshot};

use self::framing::Framing;
use self::pump::{Ended, Session};
use crate::call::Call;
use crate::reply::{Reply, ReplyBody, response};
use crate::server::{Answer, on_blocking_thread};
use crate::shared::{Progress, Shared, Waiting};

/// Sizes of a terminal that wait to be passed on.
const QUEUED_SIZES: usize = 8;

/// Which streams a client wants, and how it leaves.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Streams {
    /// Feed standard input.
    pub stdin: bool,
    /// Receive standard output.
    pub stdout: bool,
    /// Receive standard error.
    pub stderr: bool,
    /// The keys that detach, where there is a terminal.
    pub detach_keys: Vec<u8>,
}

impl Streams {
    /// The keys as clients write them; an empty text means the default.
    ///
    /// # Errors
    /// `Invalid` in Docker's words.
    pub fn parse_detach_keys(text: &str) -> Result<Vec<u8>> {
        if text.is_empty() {
            return Ok(detach::DEFAULT.to_vec());
        }
        detach::parse(text).map_err(|message| {
            Error::new(
                ErrorKind::Invalid,
                format!("Invalid detach keys ({text}) provided: {message}"),
            )
        })
    }

    fn of(call: &Call) -> Result<Self> {
        let query = &call.query;
        Ok(Self {
            stdin: query.flag("stdin"),
            stdout: query.flag("stdout"),
            stderr: query.flag("stderr"),
            detach_keys: Self::parse_detach_keys(query.get("detachKeys").unwrap_or_default())?,
        })
    }
}

impl From<Streams> for AttachStreams {
    fn from(streams: Streams) -> Self {
        Self {
            stdin: streams.stdin,
            stdout: streams.stdout,
            stderr: streams.stderr,
        }
    }
}

/// A connection that its client wants to take over.
pub struct Upgrade(OnUpgrade);

impl Upgrade {
    /// The upgrade that a request asks for, if it does.
    pub fn of<B>(request: &mut Request<B>) -> Option<Self> {
        request
            .headers()
            .contains_key(UPGRADE)
            .then(|| Self(hyper::upgrade::on(request)))
    }

    /// The head that hands the connection over.
    fn accept(content_type: &'static str) -> Response<ReplyBody> {
        let reply = Reply::empty(StatusCode::SWITCHING_PROTOCOLS)
            .with(CONTENT_TYPE, content_type)
            .with(UPGRADE, "tcp");
        let (mut response, _) = response(reply);
        response
            .headers_mut()
            .insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        response
    }
}

fn wanted(upgrade: Option<Upgrade>) -> Result<Upgrade> {
    upgrade.ok_or_else(|| {
        Error::new(
            ErrorKind::Unsupported,
            "attaching without the headers 'Connection: Upgrade' and 'Upgrade: tcp' is not supported",
        )
    })
}

/// `POST /containers/{id}/attach`. To a container that does not run: joined by its next start through this server.
pub async fn attach(shared: &Arc<Shared>, call: Call, upgrade: Option<Upgrade>) -> Result<Answer> {
    let streams = Streams::of(&call)?;
    let (stream, logs) = (call.query.flag("stream"), call.query.flag("logs"));
    if !stream && !logs {
        return Err(Error::new(
            ErrorKind::Invalid,
            "Bad parameters: choose stream or logs",
        ));
    }
    let upgrade = wanted(upgrade)?;
    let (engine, name) = (shared.engine.clone(), call.name.clone());
    let joined = {
        let (shared, streams) = (Arc::clone(shared), streams.clone());
        on_blocking_thread(move || join(&shared, &name, &streams, stream)).await?
    };
    let content_type = Framing::of(joined.tty).content_type(call.version);
    tokio::spawn(async move {
        let Ok(client) = upgrade.0.await else {
            return;
        };
        let mut client = TokioIo::new(client);
        if logs
            && replay(engine, &joined, &streams, &mut client)
                .await
                .is_err()
        {
            return;
        }
        let attached = match joined.connection {
            Connection::None => None,
            Connection::Now(attached) => Some(attached),
            Connection::Later(receiver) => receiver.await.ok(),
        };
        let Some(attached) = attached else {
            let _ = client.shutdown().await;
            return;
        };
        // Sizes come by the container's own route.
        let (_, sizes) = mpsc::channel(1);
        let session = Session {
            tty: attached.tty,
            streams,
            sizes,
        };
        let Ok(monitor) = into_async(attached) else {
            return;
        };
        pump::run(session, client, monitor).await;
    });
    Ok(Answer::Response(Upgrade::accept(content_type)))
}

/// A container found, and the connection to it.
struct Joined {
    id: ketch_spec::Id,
    tty: bool,
    connection: Connection,
}

enum Connection {
    /// Only the log is wanted.
    None,
    /// It runs.
    Now(Attached),
    /// It will run, perhaps.
    Later(oneshot::Receiver<Attached>),
}

fn join(shared: &Shared, name: &str, streams: &Streams, stream: bool) -> Result<Joined> {
    let engine = &shared.engine;
    let id = container::resolve(engine, name)?;
    let (config, state) = container::load(engine, &id)?;
    let connection = if !stream {
        Connection::None
    } else if container::load::is_live(state.status) {
        Connection::Now(container::attach(
            engine,
            id.as_str(),
            streams.clone().into(),
        )?)
    } else {
        let (sender, receiver) = oneshot::channel();
        let streams = streams.clone();
        shared.wait_for_start(&id, Waiting { streams, sender })?;
        Connection::Later(receiver)
    };
    Ok(Joined {
        id,
        tty: config.process.tty,
        connection,
    })
}

/// Writes what the container has written until now.
async fn replay(
    engine: Engine,
    joined: &Joined,
    streams: &Streams,
    client: &mut (impl tokio::io::AsyncWrite + Unpin),
) -> std::io::Result<()> {
    let (framing, id) = (Framing::of(joined.tty), joined.id.clone());
    let (sender, mut pieces) = mpsc::channel::<Vec<u8>>(QUEUED_SIZES);
    let (stdout, stderr) = (streams.stdout, streams.stderr);
    tokio::task::spawn_blocking(move || {
        let Ok(reader) = container::logs(&engine, id.as_str(), LogOptions::default()) else {
            return;
        };
        for line in reader.map_while(std::result::Result::ok) {
            let kind = crate::container::logs::kind(line.stream);
            let is_wanted = if kind == framing::STDOUT {
                stdout
            } else {
                stderr
            };
            if is_wanted
                && sender
                    .blocking_send(framing.wrap(kind, &line.bytes))
                    .is_err()
            {
                return;
            }
        }
    });
    while let Some(piece) = pieces.recv().await {
        client.write_all(&piece).await?;
    }
    client.flush().await
}

fn into_async(attached: Attached) -> std::io::Result<tokio::net::UnixStream> {
    attached.stream.set_nonblocking(true)?;
    tokio::net::UnixStream::from_std(attached.stream)
}

/// The body of a start of an exec session.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct ExecStartBody {
    detach: bool,
    console_size: Option<(u16, u16)>,
}

/// `POST /exec/{id}/start`.
pub async fn start_exec(
    shared: &Arc<Shared>,
    call: Call,
    upgrade: Option<Upgrade>,
) -> Result<Answer> {
    let body: ExecStartBody = call.json_or_default()?;
    let upgrade = if body.detach {
        None
    } else {
        Some(wanted(upgrade)?)
    };
    let (sender, sizes) = mpsc::channel(QUEUED_SIZES);
    let (container, mut config, streams) = shared.exec(&call.name, |id, session| {
        if !matches!(session.progress, Progress::Created) {
            return Err(Error::new(
                ErrorKind::Conflict,
                format!("exec instance {id} has already started"),
            ));
        }
        session.progress = Progress::Running(sender);
        Ok((
            session.container.clone(),
            session.config.clone(),
            session.streams.clone(),
        ))
    })??;
    config.size = body
        .console_size
        .filter(|size| *size != (0, 0))
        .or(config.size);
    config.stdin &= !body.detach;
    let tty = config.tty;
    let engine = shared.engine.clone();
    let started =
        on_blocking_thread(move || container::exec(&engine, container.as_str(), config)).await;
    let attached = match (started, upgrade) {
        (Ok(Some(attached)), upgrade) => Ok((attached, upgrade)),
        (Ok(None), _) => return Ok(Answer::Reply(Reply::empty(StatusCode::OK))),
        (Err(error), Some(upgrade)) if failed_in_container(&error) => Err((error, upgrade)),
        (Err(error), _) => {
            end_exec(shared, &call.name, exit_code(&error));
            return Err(error);
        }
    };
    let (shared, name) = (Arc::clone(shared), call.name.clone());
    match attached {
        Ok((attached, Some(upgrade))) => {
            let session = Session {
                tty,
                streams,
                sizes,
            };
            tokio::spawn(async move {
                let code = carry(session, attached, upgrade).await;
                end_exec(&shared, &name, code);
            });
        }
        Ok((attached, None)) => {
            let streams = Streams::default();
            let session = Session {
                tty,
                streams,
                sizes,
            };
            tokio::spawn(async move {
                let code = match into_async(attached) {
                    Ok(monitor) => code_of(pump::run(session, tokio::io::empty(), monitor).await),
                    Err(_) => LOST_CODE,
                };
                end_exec(&shared, &name, code);
            });
            return Ok(Answer::Reply(Reply::empty(StatusCode::OK)));
        }
        // Clients read the code of a command that is not there from the session, as of one that ran.
        Err((error, upgrade)) => {
            end_exec(&shared, &name, exit_code(&error));
            tokio::spawn(async move {
                if let Ok(client) = upgrade.0.await {
                    let mut client = TokioIo::new(client);
                    let text = format!("{error}\r\n");
                    let piece = Framing::of(tty).wrap(framing::STDERR, text.as_bytes());
                    let _ = client.write_all(&piece).await;
                    let _ = client.shutdown().await;
                }
            });
        }
    }
    let content_type = Framing::of(tty).content_type(call.version);
    Ok(Answer::Response(Upgrade::accept(content_type)))
}

/// The code of a session whose end nobody told.
const LOST_CODE: i32 = 255;

async fn carry(session: Session, attached: Attached, upgrade: Upgrade) -> i32 {
    let (Ok(client), Ok(monitor)) = (upgrade.0.await, into_async(attached)) else {
        return LOST_CODE;
    };
    code_of(pump::run(session, TokioIo::new(client), monitor).await)
}

fn code_of(ended: Ended) -> i32 {
    match ended {
        Ended::Exited(exit) => exit.code,
        Ended::Left | Ended::Lost => LOST_CODE,
    }
}

fn end_exec(shared: &Shared, name: &str, code: i32) {
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

    #[test]
    fn keys_have_a_default() {
        assert_eq!(Streams::parse_detach_keys("").unwrap(), [16, 17]);
        assert_eq!(Streams::parse_detach_keys("ctrl-a").unwrap(), [1]);
        assert!(Streams::parse_detach_keys("nonsense").is_err());
    }
}
