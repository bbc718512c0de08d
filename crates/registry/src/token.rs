//! Proofs of identity: Basic, and tokens from a registry's token service.

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use ureq::http::{Method, header};

use crate::challenge::Challenge;
use crate::client::{Client, Registry};
use crate::credentials::Credentials;
use crate::error::{Error, Problem, Result};
use crate::send::{Answer, Wanted, retry};
use crate::transport::{Exchange, Outgoing};
use crate::url::{Url, encode_into};

/// Our name to token services.
const CLIENT_ID: &str = "ketch";
/// Largest answer of a token service, in bytes.
const TOKEN_MAX: u64 = 1 << 20;
/// What a token without `expires_in` lives, by the specification.
const DEFAULT_LIFE: Duration = Duration::from_secs(60);
/// A token is not used in its last seconds: the request has to arrive too.
const MARGIN: Duration = Duration::from_secs(10);

/// What a request needs access to.
#[derive(Debug, Clone)]
pub(crate) struct Scope {
    /// Repository.
    pub repository: String,
    /// Whether to write.
    pub push: bool,
    /// Repository to mount a blob from.
    pub from: Option<String>,
}

impl Scope {
    pub fn pull(repository: &str) -> Self {
        Self {
            repository: repository.into(),
            push: false,
            from: None,
        }
    }

    pub fn push(repository: &str) -> Self {
        Self {
            repository: repository.into(),
            push: true,
            from: None,
        }
    }

    /// Access to nothing: who we are is all that is asked, and a token to be kept instead of the password.
    pub fn login() -> Self {
        Self::pull("")
    }

    fn is_login(&self) -> bool {
        self.repository.is_empty()
    }

    /// In the words of token services, separated by spaces.
    pub fn words(&self) -> String {
        if self.is_login() {
            return String::new();
        }
        let actions = if self.push { "pull,push" } else { "pull" };
        let mut words = format!("repository:{}:{actions}", self.repository);
        if let Some(from) = &self.from {
            words.push_str(&format!(" repository:{from}:pull"));
        }
        words
    }
}

/// A token and when it runs out.
pub(crate) struct Token {
    text: String,
    expires: Instant,
}

impl Token {
    /// Its text, if it has not run out.
    pub fn valid(&self) -> Option<String> {
        (Instant::now() < self.expires).then(|| self.text.clone())
    }
}

#[derive(Deserialize)]
struct TokenAnswer {
    #[serde(default)]
    token: Option<String>,
    #[serde(default)]
    access_token: Option<String>,
    #[serde(default)]
    refresh_token: Option<String>,
    #[serde(default)]
    expires_in: Option<u64>,
}

impl Client {
    /// The `Authorization` header for a scope; None as long as the registry asked for none, or where it wants a
    /// password that the user does not have.
    pub(crate) fn authorization(
        &self,
        registry: &Registry,
        scope: &Scope,
    ) -> Result<Option<String>> {
        match registry.challenge() {
            None => Ok(None),
            Some(Challenge::Basic) => Ok(match self.credentials(registry)? {
                Some(Credentials::Password { user, password }) => Some(basic(user, password)),
                _ => None,
            }),
            Some(Challenge::Bearer { realm, service }) => {
                if let Some(Credentials::Registry(token)) = self.credentials(registry)? {
                    return Ok(Some(format!("Bearer {token}")));
                }
                let words = scope.words();
                if let Some(token) = registry.token(&words) {
                    return Ok(Some(format!("Bearer {token}")));
                }
                let token = self.fetch_token(registry, &realm, &service, scope)?;
                let text = token.text.clone();
                registry.keep_token(&words, token);
                Ok(Some(format!("Bearer {text}")))
            }
        }
    }

    fn fetch_token(
        &self,
        registry: &Registry,
        realm: &str,
        service: &str,
        scope: &Scope,
    ) -> Result<Token> {
        let mut url = Url::parse(realm).ok_or_else(|| {
            let value = crate::retry::clean_text(realm);
            protocol(
                registry,
                "/v2/",
                Problem::BadHeader {
                    name: "WWW-Authenticate",
                    value,
                },
            )
        })?;
        if registry.root().secure && !url.secure {
            let problem = Problem::TokenDowngrade {
                origin: url.origin(),
            };
            return Err(protocol(registry, "/v2/", problem));
        }
        let credentials = self.credentials(registry)?;
        let mut form = String::new();
        let mut authorization = None;
        let words = scope.words();
        if let Some(Credentials::Identity(refresh)) = credentials {
            let fields = [
                ("grant_type", "refresh_token"),
                ("service", service),
                ("client_id", CLIENT_ID),
                ("scope", &words),
                ("refresh_token", refresh),
            ];
            for (name, value) in fields {
                let separator = if form.is_empty() { "" } else { "&" };
                form.push_str(&format!("{separator}{name}="));
                encode_into(value, &mut form);
            }
        } else {
            if !service.is_empty() {
                url.query("service", service);
            }
            for scope in words.split(' ').filter(|scope| !scope.is_empty()) {
                url.query("scope", scope);
            }
            if scope.is_login() {
                url.query("client_id", CLIENT_ID);
                url.query("offline_token", "true");
            }
            if let Some(Credentials::Password { user, password }) = credentials {
                url.query("account", user);
                authorization = Some(basic(user, password));
            }
        }
        let answer = retry(&self.shared.options.retry, || {
            self.ask_token_service(registry, &url, &form, authorization.as_deref())
        })?;
        token_from(registry, &url, scope, credentials.is_some(), answer)
    }

    fn ask_token_service(
        &self,
        registry: &Registry,
        url: &Url,
        form: &str,
        authorization: Option<&str>,
    ) -> Result<Answer> {
        let (method, body) = if form.is_empty() {
            (Method::GET, Outgoing::None)
        } else {
            (Method::POST, Outgoing::Bytes(form.as_bytes()))
        };
        let form_type = (
            header::CONTENT_TYPE,
            "application/x-www-form-urlencoded".to_owned(),
        );
        let headers = if form.is_empty() {
            vec![]
        } else {
            vec![form_type]
        };
        let request = format!("{method} {}{}", url.origin(), url.path());
        let exchange = Exchange {
            kind: self.kind(url),
            method: &method,
            url,
            headers: &headers,
            authorization,
            body,
        };
        let response = self.shared.transport.run(exchange).map_err(|error| {
            self.shared
                .transport
                .failure(&registry.host, &request, url, error)
        })?;
        Answer::read(
            registry,
            request,
            url,
            response,
            Wanted::Document(TOKEN_MAX),
        )
    }
}

pub(crate) fn token_from(
    registry: &Registry,
    url: &Url,
    scope: &Scope,
    with_credentials: bool,
    answer: Answer,
) -> Result<Token> {
    if matches!(answer.status, 400 | 401 | 403) {
        return Err(Error::Unauthorised {
            registry: registry.host.clone(),
            repository: scope.repository.clone(),
            reason: answer.words(),
            with_credentials,
        });
    }
    if answer.status != 200 {
        return Err(answer.refusal(scope, with_credentials));
    }
    let read: TokenAnswer = serde_json::from_slice(&answer.document)
        .map_err(|error| protocol(registry, url.path(), Problem::Document(error.to_string())))?;
    let text = [read.token, read.access_token]
        .into_iter()
        .flatten()
        .find(|text| !text.is_empty());
    let text = text
        .filter(|text| text.bytes().all(|b| b.is_ascii_graphic()))
        .ok_or_else(|| {
            protocol(
                registry,
                url.path(),
                Problem::Document("there is no token in it".into()),
            )
        })?;
    if scope.is_login()
        && let Some(identity) = read.refresh_token.filter(|text| !text.is_empty())
    {
        registry.keep_identity(identity);
    }
    let life = read
        .expires_in
        .map_or(DEFAULT_LIFE, Duration::from_secs)
        .clamp(DEFAULT_LIFE, DAY);
    Ok(Token {
        text,
        expires: Instant::now() + (life - MARGIN),
    })
}

/// Longest life believed.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}

fn protocol(registry: &Registry, path: &str, problem: Problem) -> Error {
    Error::Protocol {
        registry: registry.host.clone(),
        request: format!("GET {path}"),
        problem,
    }
}
