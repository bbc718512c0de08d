//! `POST /containers/{id}/attach`: the connection becomes a container's standard streams.

use std::sync::Arc;

use hyper_util::rt::TokioIo;
use ketch_engine::container::{self, Attached, LogOptions};
use ketch_engine::{Engine, Error, ErrorKind, Result};
use tokio::io::AsyncWriteExt;
use tokio::sync::{mpsc, oneshot};

use super::framing::{self, Framing};
use super::pump::{self, Session};
use super::{QUEUED_SIZES, Streams, Upgrade, into_async, wanted};
use crate::call::Call;
use crate::server::{Answer, on_blocking_thread};
use crate::shared::{Shared, Waiting};

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
