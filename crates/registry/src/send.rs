//! A call on a registry: scheme, proof of identity, redirects, attempts.

use std::io::{self, Read};

use ketch_spec::Digest;
use serde::Deserialize;
use ureq::Body;
use ureq::http::{HeaderMap, HeaderName, Method, Response, StatusCode, header};

use crate::challenge::Challenge;
use crate::client::{Client, Registry};
use crate::error::{Error, Problem, Result};
use crate::options::RetryPolicy;
use crate::retry::{clean_text, is_transient_status, pause, retry_after};
use crate::route::Endpoint;
use crate::token::Scope;
use crate::transport::{Exchange, Outgoing, is_transient};
use crate::url::Url;

/// Redirects in a row.
pub(crate) const REDIRECTS_MAX: u32 = 5;
/// Largest refusal that is read for its words, in bytes.
const WORDS_MAX: u64 = 64 << 10;

/// A request to a registry.
pub(crate) struct Call<'a, 'r> {
    pub method: Method,
    pub target: Target,
    pub scope: Scope,
    pub headers: Vec<(HeaderName, String)>,
    pub payload: Payload<'a, 'r>,
    pub wanted: Wanted,
}

/// Where to.
pub(crate) enum Target {
    /// A path of the registry.
    Path(String),
    /// Where the registry said to go on.
    Url(Url),
}

/// What to send. A stream is opened anew for each attempt.
pub(crate) enum Payload<'a, 'r> {
    None,
    Bytes(&'a [u8]),
    Stream {
        digest: &'a Digest,
        length: u64,
        open: &'a mut dyn FnMut() -> io::Result<Box<dyn Read + 'r>>,
    },
}

/// What to do with the body of a successful answer.
#[derive(Clone, Copy)]
pub(crate) enum Wanted {
    /// Read it whole; more bytes than this are an error.
    Document(u64),
    /// Leave it to the caller.
    Stream,
}

/// An answer of any status.
pub(crate) struct Answer {
    pub registry: String,
    /// Method and path, for messages.
    pub request: String,
    /// Where it came from in the end.
    pub url: Url,
    pub status: u16,
    pub headers: HeaderMap,
    /// The document, where one was wanted, or the words of a refusal.
    pub document: Vec<u8>,
    /// The stream, where one was wanted.
    pub body: Option<Body>,
}

/// Repeats `attempt` by the policy while what it gives may pass.
pub(crate) fn retry(
    policy: &RetryPolicy,
    mut attempt: impl FnMut() -> Result<Answer>,
) -> Result<Answer> {
    let mut failed = 1;
    loop {
        let result = attempt();
        let asked = match &result {
            Ok(answer) if is_transient_status(answer.status) => {
                retry_after(answer.header(&header::RETRY_AFTER), jiff::Timestamp::now())
            }
            Err(error) if error.is_transient() => None,
            _ => return result,
        };
        if failed >= policy.attempts {
            return result;
        }
        pause(policy, failed, asked);
        failed += 1;
    }
}

impl Client {
    /// Makes a call, with attempts by the policy.
    pub(crate) fn call(&self, registry: &Registry, call: &mut Call<'_, '_>) -> Result<Answer> {
        retry(&self.shared.options.retry, || {
            self.call_once(registry, call)
        })
    }

    /// Makes a call that reads at one of several places: where there is another, one attempt is enough.
    pub(crate) fn read_at(&self, place: &Endpoint, call: &mut Call<'_, '_>) -> Result<Answer> {
        if place.mirror {
            self.call_once(&place.registry, call)
        } else {
            self.call(&place.registry, call)
        }
    }

    /// Makes a call with a single attempt. An unsettled registry is tried in https, then in http.
    pub(crate) fn call_once(&self, registry: &Registry, call: &mut Call<'_, '_>) -> Result<Answer> {
        let path = match &call.target {
            Target::Url(url) => {
                let url = url.clone();
                return self.follow(registry, call, url);
            }
            Target::Path(path) => path.clone(),
        };
        let url = |secure| Url::new(secure, &registry.authority, path.clone());
        if let Some(secure) = registry.secure() {
            return self.follow(registry, call, url(secure));
        }
        match self.follow(registry, call, url(true)) {
            Err(Error::Tls { .. } | Error::Unreachable { .. }) => {
                // It has to be known before the call: credentials go to this very origin.
                registry.settle(false);
                let answer = self.follow(registry, call, url(false));
                if matches!(answer, Err(Error::Unreachable { .. })) {
                    registry.unsettle();
                }
                answer
            }
            other => {
                registry.settle(true);
                other
            }
        }
    }

    fn follow(&self, registry: &Registry, call: &mut Call<'_, '_>, mut url: Url) -> Result<Answer> {
        for _ in 0..=REDIRECTS_MAX {
            let answer = self.authorised(registry, call, &url)?;
            let keeps_method = matches!(answer.status, 307 | 308);
            let reads = call.method == Method::GET || call.method == Method::HEAD;
            let redirects = keeps_method || (reads && matches!(answer.status, 301..=303));
            if !redirects {
                return Ok(answer);
            }
            let next = answer.location()?;
            if url.secure && !next.secure {
                return Err(answer.wrong(Problem::Downgrade {
                    origin: next.origin(),
                }));
            }
            url = next;
        }
        Err(Error::Protocol {
            registry: registry.host.clone(),
            request: format!("{} {}", call.method, url.path()),
            problem: Problem::Redirects,
        })
    }

    /// Sends to one URL; at the registry itself with a proof of identity, which is renewed once.
    fn authorised(
        &self,
        registry: &Registry,
        call: &mut Call<'_, '_>,
        url: &Url,
    ) -> Result<Answer> {
        if !url.same_origin(&registry.root()) {
            return self.exchange(registry, call, url, None);
        }
        let proof = self.authorization(registry, &call.scope)?;
        let answer = self.exchange(registry, call, url, proof.as_deref())?;
        if answer.status != 401 {
            return Ok(answer);
        }
        let headers = answer.headers.get_all(header::WWW_AUTHENTICATE);
        let challenge = Challenge::from_headers(headers.iter().filter_map(|v| v.to_str().ok()))
            .map_err(|scheme| answer.wrong(Problem::Challenge(clean_text(&scheme))))?;
        registry.challenged(challenge, &call.scope.words());
        let with_credentials = self.credentials(registry)?.is_some();
        let Some(proof) = self.authorization(registry, &call.scope)? else {
            return Err(answer.refusal(&call.scope, with_credentials));
        };
        let answer = self.exchange(registry, call, url, Some(&proof))?;
        if answer.status == 401 {
            return Err(answer.refusal(&call.scope, with_credentials));
        }
        Ok(answer)
    }

    pub(crate) fn exchange(
        &self,
        registry: &Registry,
        call: &mut Call<'_, '_>,
        url: &Url,
        authorization: Option<&str>,
    ) -> Result<Answer> {
        let request = format!("{} {}", call.method, url.path());
        let mut source = None;
        let body = match &mut call.payload {
            Payload::None => Outgoing::None,
            Payload::Bytes(bytes) => Outgoing::Bytes(bytes),
            Payload::Stream {
                digest,
                length,
                open,
            } => {
                let reader = open().map_err(|source| source_error(digest, source))?;
                let reader = source.insert(Source {
                    reader,
                    failure: None,
                });
                Outgoing::Stream(*length, reader)
            }
        };
        let exchange = Exchange {
            kind: self.kind(url),
            method: &call.method,
            url,
            headers: &call.headers,
            authorization,
            body,
        };
        let result = self.shared.transport.run(exchange);
        let response = result.map_err(|error| {
            match (source.and_then(|source| source.failure), &call.payload) {
                (Some(failure), Payload::Stream { digest, .. }) => source_error(digest, failure),
                _ => self
                    .shared
                    .transport
                    .failure(&registry.host, &request, url, error),
            }
        })?;
        Answer::read(registry, request, url, response, call.wanted)
    }
}

fn source_error(digest: &Digest, source: io::Error) -> Error {
    Error::Source {
        digest: digest.clone(),
        source,
    }
}

/// Tells failures of what is read from failures of the connection.
struct Source<'r> {
    reader: Box<dyn Read + 'r>,
    failure: Option<io::Error>,
}

impl Read for Source<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.reader.read(buffer).map_err(|error| {
            let kind = error.kind();
            if kind != io::ErrorKind::Interrupted {
                self.failure = Some(error);
            }
            kind.into()
        })
    }
}

#[derive(Deserialize)]
struct Refusals {
    #[serde(default)]
    errors: Vec<Refusal>,
    /// What Docker Hub's token service says instead.
    #[serde(default)]
    details: String,
}

#[derive(Deserialize)]
struct Refusal {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

impl Answer {
    /// Reads what is wanted of a successful answer, and the words of another.
    pub fn read(
        registry: &Registry,
        request: String,
        url: &Url,
        response: Response<Body>,
        wanted: Wanted,
    ) -> Result<Self> {
        let (head, body) = response.into_parts();
        let mut answer = Self {
            registry: registry.host.clone(),
            request,
            url: url.clone(),
            status: head.status.as_u16(),
            headers: head.headers,
            document: Vec::new(),
            body: None,
        };
        match wanted {
            Wanted::Stream if head.status.is_success() => answer.body = Some(body),
            Wanted::Document(limit) if head.status.is_success() => {
                let mut reader = body.into_reader().take(limit + 1);
                if let Err(error) = reader.read_to_end(&mut answer.document) {
                    return Err(Error::Unreachable {
                        registry: answer.registry,
                        reason: format!("{}: {error}", url.origin()),
                        transient: is_transient(&error),
                    });
                }
                if answer.document.len() as u64 > limit {
                    return Err(answer.wrong(Problem::TooLarge { limit }));
                }
            }
            // The status matters, the words only help: what of them arrives is enough.
            _ => {
                let _ = body
                    .into_reader()
                    .take(WORDS_MAX)
                    .read_to_end(&mut answer.document);
            }
        }
        Ok(answer)
    }

    /// A header that is visible ASCII.
    pub fn header(&self, name: &HeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// A header that holds a number.
    pub fn number(&self, name: &HeaderName) -> Option<u64> {
        self.header(name)?.trim().parse().ok()
    }

    /// The `Location`, resolved.
    pub fn location(&self) -> Result<Url> {
        let text = self
            .header(&header::LOCATION)
            .ok_or_else(|| self.wrong(Problem::NoHeader("Location")))?;
        self.url.join(text).ok_or_else(|| {
            self.wrong(Problem::BadHeader {
                name: "Location",
                value: clean_text(text),
            })
        })
    }

    /// The words of a refusal: `manifest unknown: manifest unknown`, or what stands there, or the status.
    pub fn words(&self) -> String {
        if let Ok(refusals) = serde_json::from_slice::<Refusals>(&self.document)
            && let Some(refusal) = refusals.errors.first()
        {
            let code = refusal.code.to_lowercase().replace('_', " ");
            return clean_text(&match (code.is_empty(), refusal.message.is_empty()) {
                (false, false) => format!("{code}: {}", refusal.message),
                (false, true) => code,
                _ => refusal.message.clone(),
            });
        }
        let status = StatusCode::from_u16(self.status)
            .ok()
            .and_then(|status| status.canonical_reason())
            .map_or_else(|| format!("status {}", self.status), str::to_lowercase);
        if let Ok(refusals) = serde_json::from_slice::<Refusals>(&self.document)
            && !refusals.details.is_empty()
        {
            return clean_text(&format!("{status}: {}", refusals.details));
        }
        let plain = self
            .header(&header::CONTENT_TYPE)
            .is_some_and(|t| t.starts_with("text/plain"));
        let text = clean_text(&String::from_utf8_lossy(&self.document));
        if plain && !text.is_empty() {
            return text;
        }
        status
    }

    /// The error of a status that the caller did not expect.
    pub fn refusal(&self, scope: &Scope, with_credentials: bool) -> Error {
        let registry = self.registry.clone();
        let repository = scope.repository.clone();
        let reason = self.words();
        match self.status {
            401 => Error::Unauthorised {
                registry,
                repository,
                reason,
                with_credentials,
            },
            403 => Error::Denied {
                registry,
                repository,
                reason,
            },
            429 => Error::RateLimited { registry, reason },
            status => Error::Status {
                registry,
                request: self.request.clone(),
                status,
                reason,
            },
        }
    }

    /// An answer that breaks the protocol.
    pub fn wrong(&self, problem: Problem) -> Error {
        Error::Protocol {
            registry: self.registry.clone(),
            request: self.request.clone(),
            problem,
        }
    }
}
