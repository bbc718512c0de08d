//! The client and what it learned about each registry.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use ketch_spec::reference::DEFAULT_HOST;

use crate::challenge::Challenge;
use crate::credentials::{self, Credentials};
use crate::error::{Error, Result};
use crate::network::is_listed;
use crate::options::ClientOptions;
use crate::token::Token;
use crate::transport::{Kind, Transport};
use crate::url::{Url, is_loopback};

/// Where Docker Hub's registry is.
pub(crate) const HUB_ENDPOINT: &str = "registry-1.docker.io";

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
    /// A mirror that could not be reached is not asked again.
    down: AtomicBool,
}

#[derive(Default)]
struct Known {
    /// Whether it speaks https, once an answer came.
    secure: Option<bool>,
    challenge: Option<Challenge>,
    tokens: HashMap<String, Token>,
    /// A token that stands for the password, where the token service gave one.
    identity: Option<String>,
}

impl Client {
    /// A client with these settings; connects to nothing and reads no file yet.
    ///
    /// # Errors
    /// [`Error::Proxy`] and [`Error::Certificates`] for what cannot be used.
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

    /// The registry that references name so.
    pub(crate) fn registry(&self, host: &str) -> Result<Arc<Registry>> {
        let mut registries = lock(&self.shared.registries);
        if let Some(registry) = registries.get(host) {
            return Ok(registry.clone());
        }
        let authority = if host == DEFAULT_HOST {
            HUB_ENDPOINT
        } else {
            host
        };
        if Url::parse(&format!("https://{authority}/")).is_none() {
            return Err(Error::Host { host: host.into() });
        }
        let relaxed = self.is_relaxed(authority);
        let registry = Arc::new(Registry::new(host, authority, relaxed));
        registries.insert(host.into(), registry.clone());
        Ok(registry)
    }

    /// Whether plain HTTP and certificates that nobody vouches for will do. Who names an authority for a loopback host
    /// wants it to be checked.
    fn is_relaxed(&self, authority: &str) -> bool {
        let near = is_loopback(authority) && self.shared.transport.trust(authority).is_none();
        near || is_listed(&self.shared.options.insecure, authority)
    }

    /// How a URL is to be reached.
    pub(crate) fn kind(&self, url: &Url) -> Kind {
        let transport = &self.shared.transport;
        Kind {
            verify: !self.is_relaxed(&url.authority),
            via: transport.ways.choose(url),
            trust: transport.trust(&url.authority),
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
        let given = &self.shared.options.given;
        if let Some((_, given)) = given.iter().find(|(host, _)| *host == registry.host) {
            let given = Some(given.clone());
            return Ok(registry.credentials.get_or_init(|| given).as_ref());
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
    /// One of which nothing is known yet.
    pub fn new(host: &str, authority: &str, relaxed: bool) -> Self {
        Self {
            host: host.into(),
            authority: authority.into(),
            relaxed,
            known: Mutex::default(),
            credentials: OnceLock::new(),
            down: AtomicBool::new(false),
        }
    }

    /// Uses these credentials and looks for no others; without effect once some were looked for.
    pub fn set_credentials(&self, credentials: Option<Credentials>) {
        let _ = self.credentials.set(credentials);
    }

    pub fn is_down(&self) -> bool {
        self.down.load(Ordering::Relaxed)
    }

    pub fn set_down(&self) {
        self.down.store(true, Ordering::Relaxed);
    }

    /// What the token service gave to be kept instead of the password.
    pub fn identity(&self) -> Option<String> {
        lock(&self.known).identity.clone()
    }

    pub fn keep_identity(&self, token: String) {
        lock(&self.known).identity = Some(token);
    }

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
