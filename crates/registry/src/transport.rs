//! One HTTP exchange: agents, time limits, and what transport failures mean.

use std::collections::HashMap;
use std::io::{self, Read};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use ureq::http::{HeaderName, Method, Request, Response, header};
use ureq::tls::{RootCerts, TlsConfig};
use ureq::{Agent, Body, SendBody, Timeout};

use crate::error::{Error, Problem, Result};
use crate::forward;
use crate::network::{Via, Ways};
use crate::options::ClientOptions;
use crate::trust::Trust;
use crate::url::Url;

/// Largest response header, in bytes.
const HEADER_MAX: usize = 64 << 10;
/// A registry digests and moves a whole layer before it answers the end of an upload.
const UPLOAD_PATIENCE: u32 = 5;

/// Connections of all kinds, each kind's agent made when it is first needed.
pub(crate) struct Transport {
    agents: Mutex<HashMap<Kind, Agent>>,
    pub ways: Ways,
    trust: Vec<Trust>,
    user_agent: String,
    connect_timeout: Duration,
    read_timeout: Duration,
}

/// What distinguishes agents.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Kind {
    /// Whether certificates are checked.
    pub verify: bool,
    /// The proxy, if any.
    pub via: Option<Via>,
    /// The host's own certificates: an index of [`Transport::trust`].
    pub trust: Option<usize>,
}

/// The parts of a request.
pub(crate) struct Exchange<'a> {
    pub kind: Kind,
    pub method: &'a Method,
    pub url: &'a Url,
    pub headers: &'a [(HeaderName, String)],
    pub authorization: Option<&'a str>,
    pub body: Outgoing<'a>,
}

/// What is sent.
pub(crate) enum Outgoing<'a> {
    None,
    Bytes(&'a [u8]),
    /// A stream of a known length in bytes.
    Stream(u64, &'a mut dyn Read),
}

impl Transport {
    pub fn new(options: &ClientOptions) -> Result<Self> {
        let trust = options.trust.iter().map(Trust::read);
        Ok(Self {
            agents: Mutex::default(),
            ways: Ways::new(&options.proxies)?,
            trust: trust.collect::<Result<_>>()?,
            user_agent: options.user_agent.clone(),
            connect_timeout: options.connect_timeout,
            read_timeout: options.read_timeout,
        })
    }

    /// The certificates for a host, if it has its own.
    pub fn trust(&self, authority: &str) -> Option<usize> {
        self.trust.iter().position(|trust| trust.is_for(authority))
    }

    fn agent(&self, kind: Kind) -> Agent {
        let mut agents = self.agents.lock().unwrap_or_else(PoisonError::into_inner);
        let made = agents.entry(kind).or_insert_with(|| self.new_agent(kind));
        made.clone()
    }

    fn new_agent(&self, kind: Kind) -> Agent {
        let trust = kind.trust.and_then(|at| self.trust.get(at));
        let tls = TlsConfig::builder()
            .root_certs(trust.map_or(RootCerts::PlatformVerifier, Trust::roots))
            .client_cert(trust.and_then(|trust| trust.identity.clone()))
            .disable_verification(!kind.verify)
            .build();
        let proxy = kind.via.and_then(|via| self.ways.get(via));
        // Tunnels lead to TLS; what is plain is handed to the proxy itself.
        let plain = proxy.filter(|_| kind.via == Some(Via::Http));
        let tunnel = proxy.filter(|_| plain.is_none());
        let config = Agent::config_builder()
            .http_status_as_error(false)
            // Redirects are followed by us, who know which credentials belong where.
            .max_redirects(0)
            .max_redirects_will_error(false)
            .proxy(tunnel.cloned())
            .tls_config(tls)
            .user_agent(&self.user_agent)
            .accept_encoding("identity")
            .max_response_header_size(HEADER_MAX)
            .input_buffer_size(256 << 10)
            .output_buffer_size(256 << 10)
            .timeout_resolve(Some(self.connect_timeout))
            .timeout_connect(Some(self.connect_timeout))
            .timeout_recv_response(Some(self.read_timeout))
            .timeout_per_read(Some(self.read_timeout))
            .timeout_per_write(Some(self.read_timeout));
        match plain {
            // One request a connection: only its first bytes are the head of one.
            Some(proxy) => {
                let config = config.max_idle_connections(0).build();
                forward::agent(config, proxy)
            }
            None => config.build().new_agent(),
        }
    }

    /// Sends one request and reads the head of the answer.
    pub fn run(&self, exchange: Exchange<'_>) -> Result<Response<Body>, ureq::Error> {
        let mut request = Request::builder()
            .method(exchange.method)
            .uri(exchange.url.to_string());
        for (name, value) in exchange.headers {
            request = request.header(name, value);
        }
        if let Some(value) = exchange.authorization {
            request = request.header(header::AUTHORIZATION, value);
        }
        if exchange.kind.via == Some(Via::Http)
            && let Some(proxy) = self.ways.get(Via::Http)
            && let Some(value) = forward::authorization(proxy)
        {
            request = request.header(header::PROXY_AUTHORIZATION, value);
        }
        let agent = &self.agent(exchange.kind);
        match exchange.body {
            Outgoing::None if takes_body(exchange.method) => {
                let request = request.header(header::CONTENT_LENGTH, 0);
                self.run_patiently(
                    agent,
                    request.body(SendBody::from_reader(&mut io::empty()))?,
                )
            }
            Outgoing::None => agent.run(request.body(())?),
            Outgoing::Bytes(bytes) => {
                let request = request.header(header::CONTENT_LENGTH, bytes.len());
                let mut reader = bytes;
                self.run_patiently(agent, request.body(SendBody::from_reader(&mut reader))?)
            }
            Outgoing::Stream(length, reader) => {
                let request = request.header(header::CONTENT_LENGTH, length);
                self.run_patiently(agent, request.body(SendBody::from_reader(reader))?)
            }
        }
    }

    /// Registries digest what they were sent before they answer: here a silent minute is no failure.
    fn run_patiently(
        &self,
        agent: &Agent,
        request: Request<SendBody<'_>>,
    ) -> Result<Response<Body>, ureq::Error> {
        let patience = Some(self.read_timeout * UPLOAD_PATIENCE);
        let request = agent
            .configure_request(request)
            .timeout_recv_response(patience)
            .timeout_per_read(patience)
            .build();
        agent.run(request)
    }

    /// What a failed exchange means to the user.
    pub fn failure(&self, registry: &str, request: &str, url: &Url, error: ureq::Error) -> Error {
        let origin = url.origin();
        let unreachable = |reason: String, transient: bool| Error::Unreachable {
            registry: registry.into(),
            reason: format!("{origin}: {reason}"),
            transient,
        };
        let tls = |reason: String| Error::Tls {
            registry: registry.into(),
            reason: format!("{origin}: {reason}"),
        };
        match error {
            ureq::Error::HostNotFound => unreachable("no such host".into(), false),
            ureq::Error::Timeout(Timeout::Resolve) => {
                let limit_s = self.connect_timeout.as_secs();
                unreachable(
                    format!("the host name was not resolved within {limit_s} s"),
                    false,
                )
            }
            ureq::Error::Timeout(Timeout::Connect) => {
                let limit_s = self.connect_timeout.as_secs();
                unreachable(format!("no connection within {limit_s} s"), false)
            }
            ureq::Error::Timeout(_) => {
                let limit_s = self.read_timeout.as_secs();
                unreachable(format!("no answer for {limit_s} s"), true)
            }
            // What rustls says comes wrapped like this.
            ureq::Error::Io(error) if url.secure && error.kind() == io::ErrorKind::InvalidData => {
                tls(certificate_words(&error.to_string()))
            }
            ureq::Error::Io(error) => unreachable(error.to_string(), is_transient(&error)),
            ureq::Error::Rustls(error) => tls(certificate_words(&error.to_string())),
            ureq::Error::Tls(reason) => tls(reason.into()),
            ureq::Error::LargeResponseHeader(..) => Error::Protocol {
                registry: registry.into(),
                request: request.into(),
                problem: Problem::TooLarge {
                    limit: HEADER_MAX as u64,
                },
            },
            ureq::Error::ConnectProxyFailed(reason) => {
                unreachable(format!("the proxy refused: {reason}"), false)
            }
            ureq::Error::Protocol(reason) => unreachable(format!("not HTTP: {reason}"), false),
            other => unreachable(other.to_string(), false),
        }
    }
}

const NO_CLIENT_CERTIFICATE: &str = "it wants a client certificate, or another one (client.cert and client.key in certs.d, client-cert and client-key in registries.toml)";

/// Says what the most common of rustls's words mean.
fn certificate_words(reason: &str) -> String {
    let meaning = [
        (
            "UnknownIssuer",
            "this machine does not trust who signed its certificate",
        ),
        ("NotValidForName", "its certificate is for another name"),
        ("Expired", "its certificate has run out"),
        ("NotValidYet", "its certificate is not valid yet"),
        ("alert: CertificateRequired", NO_CLIENT_CERTIFICATE),
        // What Go's servers say instead.
        ("alert: BadCertificate", NO_CLIENT_CERTIFICATE),
        (
            "CaUsedAsEndEntity",
            "its certificate is one of an authority, not of a server",
        ),
        ("InvalidContentType", "it does not speak TLS at this port"),
    ];
    match meaning.iter().find(|(word, _)| reason.contains(word)) {
        Some((_, meaning)) => format!("{meaning} ({reason})"),
        None => reason.to_owned(),
    }
}

fn takes_body(method: &Method) -> bool {
    matches!(*method, Method::POST | Method::PUT | Method::PATCH)
}

/// Failures of a connection that had been made. Refusals and unknown names stay what they are.
pub(crate) fn is_transient(error: &io::Error) -> bool {
    use io::ErrorKind::{
        BrokenPipe, ConnectionAborted, ConnectionReset, Interrupted, NotConnected, TimedOut,
        UnexpectedEof,
    };
    matches!(
        error.kind(),
        BrokenPipe
            | ConnectionAborted
            | ConnectionReset
            | Interrupted
            | NotConnected
            | TimedOut
            | UnexpectedEof
    )
}
