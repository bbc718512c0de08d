//! The server: accepts connections, and takes each request to its handler.

use std::convert::Infallible;
use std::os::unix::net::UnixListener;
use std::sync::Arc;

use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::CONTENT_TYPE;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use ketch_engine::{Engine, Error, ErrorKind, Result};
use tokio::signal::unix::{SignalKind, signal};

use crate::call::{Call, Query};
use crate::connection;
use crate::error::ServeError;
use crate::listen::OwnSocket;
use crate::reply::{Content, Reply, ReplyBody, response};
use crate::route::{self, Action, Handler, Uploader};
use crate::shared::Shared;
use crate::upload::Upload;
use crate::version;

/// The longest body of a request that is a document.
const MAX_BODY_BYTES: usize = 4 << 20;
/// The largest head of a request: what hyper buffers of a connection.
const MAX_HEAD_BYTES: usize = 64 << 10;
/// How long a client may take to send the head of a request.
const HEAD_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(30);
/// Connections that are open at once; further ones wait to be accepted.
const MAX_CONNECTIONS: usize = 4096;
/// Where to serve.
#[derive(Debug)]
pub enum Options {
    /// On a socket that we make.
    Path(std::path::PathBuf),
    /// On a socket that was handed over.
    Inherited(UnixListener),
}

/// Serves until SIGINT or SIGTERM. Calls `ready` once clients can connect. Requests at work are cut off at the end: the
/// engine's verbs bear that at any moment.
///
/// # Errors
/// The socket cannot be made, or the runtime.
pub fn serve(engine: Engine, options: Options, ready: impl FnOnce()) -> Result<(), ServeError> {
    let runtime = |call: &'static str| move |source| ServeError::Runtime { call, source };
    let (listener, own) = match options {
        Options::Path(path) => {
            let (listener, own) = OwnSocket::bind(&path)?;
            (listener, Some(own))
        }
        Options::Inherited(listener) => (listener, None),
    };
    // One thread moves bytes; what takes time runs on blocking threads.
    let rt = tokio::runtime::Builder::new_current_thread()
        .thread_name("api")
        .enable_all()
        .build()
        .map_err(runtime("make the runtime"))?;
    let shared = Arc::new(Shared::new(engine));
    let served = rt.block_on(async {
        listener
            .set_nonblocking(true)
            .map_err(runtime("prepare the socket"))?;
        let listener =
            tokio::net::UnixListener::from_std(listener).map_err(runtime("prepare the socket"))?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(runtime("catch signals"))?;
        let mut terminate = signal(SignalKind::terminate()).map_err(runtime("catch signals"))?;
        ready();
        tokio::select! {
            () = accept(listener, shared) => {}
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        Ok(())
    });
    drop(own);
    // Threads that wait for containers end with the program.
    rt.shutdown_background();
    served
}

async fn accept(listener: tokio::net::UnixListener, shared: Arc<Shared>) {
    let places = Arc::new(tokio::sync::Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        let Ok((stream, _)) = listener.accept().await else {
            // Out of descriptors, mostly: others will end meanwhile.
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            continue;
        };
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let shared = Arc::clone(&shared);
                async move { Ok::<_, Infallible>(answer(shared, request).await) }
            });
            // A connection that breaks is its client's affair.
            let _ = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIMEOUT)
                .max_buf_size(MAX_HEAD_BYTES)
                .half_close(true)
                .serve_connection(TokioIo::new(stream), service)
                .with_upgrades()
                .await;
            drop(place);
        });
    }
}

async fn answer(shared: Arc<Shared>, request: Request<Incoming>) -> Response<ReplyBody> {
    let reply = match handle(&shared, request).await {
        Ok(Answer::Reply(reply)) => reply,
        Ok(Answer::Response(response)) => return response,
        Err(error) => Reply::failed(&error),
    };
    send(&shared, reply)
}

/// The response of a reply; starts what produces its stream.
fn send(shared: &Shared, reply: Reply) -> Response<ReplyBody> {
    let permit = match &reply.content {
        Content::Stream(_) => match Arc::clone(&shared.long).try_acquire_owned() {
            Ok(permit) => Some(permit),
            Err(_) => {
                let error = Error::new(ErrorKind::Unavailable, "too many streams are open");
                return response(Reply::failed(&error)).0;
            }
        },
        _ => None,
    };
    let (response, running) = response(reply);
    if let Some((produce, sink)) = running {
        tokio::task::spawn_blocking(move || {
            produce(&sink);
            drop(permit);
        });
    }
    response
}

/// What a request comes to.
pub enum Answer {
    /// A reply, to be made a response.
    Reply(Reply),
    /// The head of a connection that is not HTTP from here on.
    Response(Response<ReplyBody>),
}

async fn handle(shared: &Arc<Shared>, mut request: Request<Incoming>) -> Result<Answer> {
    let uri = request.uri().clone();
    let (version, path) = version::split(uri.path())?;
    let Some((route, name)) = route::find(request.method().as_str(), path) else {
        return Ok(Answer::Reply(Reply::page_not_found()));
    };
    let upgrade = match route.action {
        Action::NotServed => {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!("{} {} is not supported", route.method, route.pattern),
            ));
        }
        Action::Attach | Action::ExecStart => connection::Upgrade::of(&mut request),
        Action::Verb(_) | Action::Upload(_) => None,
    };
    let header = |name: &str| {
        let value = request.headers().get(name);
        let text = value.and_then(|value| value.to_str().ok());
        text.unwrap_or_default().to_owned()
    };
    let content_type = header(CONTENT_TYPE.as_str());
    let content_type = content_type.split(';').next().unwrap_or_default();
    let content_type = content_type.trim().to_lowercase();
    let registry_auth = header("x-registry-auth");
    let registry_config = header("x-registry-config");
    let mut upload = None;
    // What follows the head of an attach without an upgrade is its standard input, which does not end.
    let body = match route.action {
        Action::Attach => Bytes::new(),
        Action::Upload(uploader) => {
            upload = Some((uploader, Upload::new(request.into_body())));
            Bytes::new()
        }
        _ => read_body(request.into_body()).await?,
    };
    let call = Call {
        version,
        name,
        query: Query::parse(uri.query().unwrap_or_default()),
        content_type,
        registry_auth,
        registry_config,
        body,
    };
    if let Some((uploader, upload)) = upload {
        return run_upload(shared, uploader, call, upload)
            .await
            .map(Answer::Reply);
    }
    match route.action {
        Action::Verb(handler) => run(shared, handler, call).await.map(Answer::Reply),
        Action::Attach => connection::attach(shared, call, upgrade).await,
        Action::ExecStart => connection::start_exec(shared, call, upgrade).await,
        Action::NotServed | Action::Upload(_) => Ok(Answer::Reply(Reply::page_not_found())),
    }
}

/// As [`run`], as long as the client sends: so many at once as there may be streams.
async fn run_upload(
    shared: &Arc<Shared>,
    uploader: Uploader,
    call: Call,
    mut upload: Upload,
) -> Result<Reply> {
    let permit = Arc::clone(&shared.long)
        .try_acquire_owned()
        .map_err(|error| {
            Error::caused(ErrorKind::Unavailable, "too many streams are open", &error)
        })?;
    let shared = Arc::clone(shared);
    on_blocking_thread(move || {
        let reply = uploader(&shared, &call, &mut upload);
        if reply.is_err() {
            upload.drain();
        }
        drop(permit);
        reply
    })
    .await
}

async fn run(shared: &Arc<Shared>, handler: Handler, call: Call) -> Result<Reply> {
    let shared = Arc::clone(shared);
    on_blocking_thread(move || handler(&shared, &call)).await
}

/// Runs a verb where it may block.
///
/// # Errors
/// The verb's; `Internal` if it panicked.
pub async fn on_blocking_thread<T: Send + 'static>(
    verb: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    match tokio::task::spawn_blocking(verb).await {
        Ok(result) => result,
        Err(error) => Err(Error::caused(
            ErrorKind::Internal,
            "the request was not finished",
            &error,
        )),
    }
}

async fn read_body(body: Incoming) -> Result<Bytes> {
    match Limited::new(body, MAX_BODY_BYTES).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(Error::new(
            ErrorKind::Invalid,
            format!("the request body is longer than {MAX_BODY_BYTES} bytes"),
        )),
        Err(error) => Err(Error::caused(
            ErrorKind::Invalid,
            "cannot read the request body",
            error.as_ref(),
        )),
    }
}
