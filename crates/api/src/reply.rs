//! Answers: what a handler gives back, and the HTTP of it.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::{Body, Bytes, Frame};
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue, SERVER};
use hyper::{Response, StatusCode};
use ketch_engine::{Error, ErrorKind};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::error::status;
use crate::version::NEWEST;

/// The body of every response.
pub type ReplyBody = BoxBody<Bytes, Cut>;

/// A stream ended before its end: the connection is broken off, so that the client knows.
#[derive(Debug, thiserror::Error)]
#[error("the stream is not whole")]
pub struct Cut;

/// Content type of JSON documents.
pub const JSON: &str = "application/json";
/// Content type of bytes as a program wrote them.
pub const RAW_STREAM: &str = "application/vnd.docker.raw-stream";
/// Content type of output in frames that tell its stream.
pub const MULTIPLEXED_STREAM: &str = "application/vnd.docker.multiplexed-stream";

/// Pieces of a stream that wait for a slow client: then its producer waits.
const QUEUED_PIECES: usize = 16;

/// What a handler gives back.
pub struct Reply {
    /// The status.
    pub status: StatusCode,
    /// Headers besides those that every response has.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The content.
    pub content: Content,
}

/// The content of a reply.
pub enum Content {
    /// None.
    Empty,
    /// A document.
    Json(Value),
    /// Plain text.
    Text(String),
    /// Produced piece by piece on a blocking thread, after the head has been sent.
    Stream(Produce),
}

/// Produces a stream.
pub type Produce = Box<dyn FnOnce(&Sink) + Send>;

impl Reply {
    /// No content.
    pub fn empty(status: StatusCode) -> Self {
        Self::new(status, Content::Empty)
    }

    /// 204.
    pub fn done() -> Self {
        Self::empty(StatusCode::NO_CONTENT)
    }

    /// 200 with a document.
    pub fn json(value: Value) -> Self {
        Self::new(StatusCode::OK, Content::Json(value))
    }

    /// 201 with a document.
    pub fn created(value: Value) -> Self {
        Self::new(StatusCode::CREATED, Content::Json(value))
    }

    /// 200 with text.
    pub fn text(text: impl Into<String>) -> Self {
        Self::new(StatusCode::OK, Content::Text(text.into()))
    }

    /// 200 with a stream.
    pub fn stream(
        content_type: &'static str,
        produce: impl FnOnce(&Sink) + Send + 'static,
    ) -> Self {
        Self::new(StatusCode::OK, Content::Stream(Box::new(produce)))
            .with(CONTENT_TYPE, content_type)
    }

    /// Docker's error document. 304 has no body.
    pub fn failed(error: &Error) -> Self {
        match status(error.kind) {
            StatusCode::NOT_MODIFIED => Self::empty(StatusCode::NOT_MODIFIED),
            status => Self::new(status, Content::Json(json!({"message": error.to_string()}))),
        }
    }

    /// The answer to a path or method that nobody knows.
    pub fn page_not_found() -> Self {
        Self::failed(&Error::new(ErrorKind::NotFound, "page not found"))
    }

    /// The same reply with one more header.
    #[must_use]
    pub fn with(mut self, name: HeaderName, value: &'static str) -> Self {
        self.headers.push((name, HeaderValue::from_static(value)));
        self
    }

    fn new(status: StatusCode, content: Content) -> Self {
        Self {
            status,
            headers: Vec::new(),
            content,
        }
    }
}

/// The HTTP response of a reply; what produces its stream, if it is one, is for the caller to run.
pub fn response(reply: Reply) -> (Response<ReplyBody>, Option<(Produce, Sink)>) {
    let mut running = None;
    let (content_type, body) = match reply.content {
        Content::Empty => (None, Empty::new().map_err(never).boxed()),
        Content::Json(value) => {
            let mut text = value.to_string();
            text.push('\n');
            (
                Some(JSON),
                Full::new(Bytes::from(text)).map_err(never).boxed(),
            )
        }
        Content::Text(text) => (
            Some("text/plain; charset=utf-8"),
            Full::new(Bytes::from(text)).map_err(never).boxed(),
        ),
        Content::Stream(produce) => {
            let (sender, receiver) = mpsc::channel(QUEUED_PIECES);
            running = Some((produce, Sink(sender)));
            (None, Pieces(receiver).boxed())
        }
    };
    let mut response = Response::new(body);
    *response.status_mut() = reply.status;
    let headers = response.headers_mut();
    if let Some(content_type) = content_type {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    }
    for (name, value) in reply.headers {
        headers.insert(name, value);
    }
    (with_common_headers(response), running)
}

/// Adds the headers that every response has.
pub fn with_common_headers(mut response: Response<ReplyBody>) -> Response<ReplyBody> {
    let headers = response.headers_mut();
    let server = format!("ketch/{} (linux)", crate::PROGRAM_VERSION);
    for (name, text) in [
        (HeaderName::from_static("api-version"), NEWEST.to_string()),
        (
            HeaderName::from_static("docker-experimental"),
            "false".into(),
        ),
        (HeaderName::from_static("ostype"), "linux".into()),
        (SERVER, server),
    ] {
        if let Ok(value) = HeaderValue::from_str(&text) {
            headers.insert(name, value);
        }
    }
    response
}

fn never(error: Infallible) -> Cut {
    match error {}
}

/// Where a producer puts its pieces.
pub struct Sink(mpsc::Sender<Result<Bytes, Cut>>);

impl Sink {
    /// Hands a piece over, waiting for the client if need be; false if it has gone.
    pub fn send(&self, piece: impl Into<Bytes>) -> bool {
        self.0.blocking_send(Ok(piece.into())).is_ok()
    }

    /// Breaks the connection off.
    pub fn abort(&self) {
        // A client that has gone knows already.
        let _ = self.0.blocking_send(Err(Cut));
    }

    /// Whether the client has gone.
    pub fn is_closed(&self) -> bool {
        self.0.is_closed()
    }

    /// Hands a document over, with a newline.
    pub fn send_json(&self, value: &Value) -> bool {
        self.send(format!("{value}\r\n"))
    }
}

/// A body of pieces as they come.
struct Pieces(mpsc::Receiver<Result<Bytes, Cut>>);

impl Body for Pieces {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        self.0
            .poll_recv(context)
            .map(|piece| piece.map(|piece| piece.map(Frame::data)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_dockers_documents() {
        let error = Error::new(ErrorKind::NotFound, "No such container: x");
        let reply = Reply::failed(&error);
        assert_eq!(reply.status, 404);
        let Content::Json(value) = reply.content else {
            panic!("a document");
        };
        assert_eq!(value, json!({"message": "No such container: x"}));
        let already = Reply::failed(&Error::new(ErrorKind::NotModified, "it runs"));
        assert_eq!(already.status, 304);
        assert!(matches!(already.content, Content::Empty));
    }

    #[test]
    fn every_response_tells_the_version() {
        let (response, _) = response(Reply::done());
        assert_eq!(response.headers()["api-version"], "1.51");
        assert_eq!(response.headers()["ostype"], "linux");
        assert!(
            response.headers()["server"]
                .to_str()
                .unwrap()
                .starts_with("ketch/")
        );
    }
}
