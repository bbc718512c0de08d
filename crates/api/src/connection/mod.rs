//! Connections that stop being HTTP and carry a process's standard streams ("hijacked", in Docker's words).

mod attach;
mod exec;
pub mod framing;
mod pump;

use hyper::header::{CONNECTION, CONTENT_TYPE, HeaderValue, UPGRADE};
use hyper::upgrade::OnUpgrade;
use hyper::{Request, Response, StatusCode};
use ketch_engine::container::{AttachStreams, Attached};
use ketch_engine::{Error, ErrorKind, Result};
use ketch_spec::detach_keys;

use crate::call::Call;
use crate::reply::{Reply, ReplyBody, response};

pub use attach::attach;
pub use exec::start as start_exec;

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
            return Self::parse_detach_keys(detach_keys::DEFAULT);
        }
        detach_keys::parse(text).map_err(|error| {
            Error::new(
                ErrorKind::Invalid,
                format!("Invalid detach keys ({text}) provided: {error}"),
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

fn into_async(attached: Attached) -> std::io::Result<tokio::net::UnixStream> {
    attached.stream.set_nonblocking(true)?;
    tokio::net::UnixStream::from_std(attached.stream)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_a_default() {
        assert_eq!(Streams::parse_detach_keys("").unwrap(), [16, 17]);
        assert_eq!(Streams::parse_detach_keys("ctrl-a").unwrap(), [1]);
        assert!(Streams::parse_detach_keys("nonsense").is_err());
    }
}
