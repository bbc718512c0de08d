//! The client and what it learned about each registry.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use ketch_spec::Reference;

use crate::challenge::Challenge;
use crate::credentials::{self, Credentials};
use crate::error::{Error, Result};
use crate::options::ClientOptions;
use crate::token::Token;
use crate::transport::{Kind, Transport};
use crate::url::{Url, is_loopback};

/// Where Docker Hub's registry is.
const HUB_ENDPOINT: &str = "registry-1.docker.io";

/// A client of any number of registries. Clones share connections and tokens.
#[derive(Clone)]
pub struct Client {
    pub(crate) shared: Arc<Shared>,
}

pub(crate) struct Shared {
    pub options: ClientOptions,
    pub transport: Transport,
    registries: Mutex<HashMap<String, Arc<Registry>>>,
}

/// One registry, for the life of the client.
pub(crate) struct Registry {
    /// As in references.
    pub host: String,
    /// Where it is: host and port.
    pub authority: String,
    /// Unverified certificates and plain HTTP are acceptable.
    pub relaxed: bool,
    known: Mutex<Known>,
    credentials: OnceLock<Option<Credentials>>,
}

#[derive(Default)]
struct Known {
    /// Whether it speaks https, once an answer came.
    secure: Option<bool>,
    challenge: Option<Challenge>,
    tokens: HashMap<String, Token>,
}

impl Client {
    /// A client with these settings; connects to nothing and reads no file yet.
    ///
    /// # Errors
    /// [`Error::Proxy`] for an unusable proxy.
    pub fn new(options: ClientOptions) -> Result<Self> {
        let transport = Transport::new(&options)?;
        let registries = Mutex::default();
        Ok(Self {
            shared: Arc::new(Shared {
                options,
                transport,
                registries,
            }),
        })
    }

    pub(crate) fn registry(&self, reference: &Reference) -> Result<Arc<Registry>> {
        let host = &reference.host;
        let mut registries = lock(&self.shared.registries);
        if let Some(registry) = registries.get(host) {
            return Ok(registry.clone());
        }
        let authority = if host == "docker.io" {
            HUB_ENDPOINT
        } else {
            host.as_str()
        };
        if Url::parse(&format!("https://{authority}/")).is_none() {
            return Err(Error::Host { host: host.clone() });
        }
        let registry = Arc::new(Registry {
            host: host.clone(),
            authority: authority.into(),
            relaxed: self.is_relaxed(authority),
            known: Mutex::default(),
            credentials: OnceLock::new(),
        });
        registries.insert(host.clone(), registry.clone());
        Ok(registry)
    }

    fn is_relaxed(&self, authority: &str) -> bool {
        is_loopback(authority)
            || self
                .shared
                .options
                .insecure
                .iter()
                .any(|host| host == authority)
    }

    /// How a URL is to be reached.
    pub(crate) fn kind(&self, url: &Url) -> Kind {
        Kind {
            verify: !self.is_relaxed(&url.authority),
            proxied: !is_loopback(&url.authority),
        }
    }

    /// The user's credentials for a registry, looked for once.
    pub(crate) fn credentials<'a>(
        &self,
        registry: &'a Registry,
    ) -> Result<Option<&'a Credentials>> {
        if let Some(found) = registry.credentials.get() {
            return Ok(found.as_ref());
        }
        let found = match &self.shared.options.credentials {
            Some(path) => {
                credentials::find(path, &registry.host).map_err(|source| Error::Credentials {
                    registry: registry.host.clone(),
                    source,
                })?
            }
            None => None,
        };
        Ok(registry.credentials.get_or_init(|| found).as_ref())
    }
}

impl Registry {
    /// Whether it speaks https; None while that is open.
    pub fn secure(&self) -> Option<bool> {
        if self.relaxed {
            lock(&self.known).secure
        } else {
            Some(true)
        }
    }

    pub fn settle(&self, secure: bool) {
        lock(&self.known).secure = Some(secure);
    }

    pub fn unsettle(&self) {
        lock(&self.known).secure = None;
    }

    /// Its root, in the scheme known so far.
    pub fn root(&self) -> Url {
        Url::new(self.secure().unwrap_or(true), &self.authority, "/")
    }

    pub fn challenge(&self) -> Option<Challenge> {
        lock(&self.known).challenge.clone()
    }

    /// Remembers what it asks for and forgets a token that it did not take.
    pub fn challenged(&self, challenge: Challenge, scope: &str) {
        let mut known = lock(&self.known);
        known.challenge = Some(challenge);
        known.tokens.remove(scope);
    }

    /// A token for a scope that has not run out.
    pub fn token(&self, scope: &str) -> Option<String> {
        lock(&self.known).tokens.get(scope).and_then(Token::valid)
    }

    pub fn keep_token(&self, scope: &str, token: Token) {
        lock(&self.known).tokens.insert(scope.into(), token);
    }
}

/// What the locks guard is whole at any moment, also after a panic of another thread.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
