//! What the caller decides for a client.

use std::path::PathBuf;
use std::time::Duration;

use crate::credentials::Credentials;

/// Settings of a [`crate::Client`].
#[derive(Debug, Clone)]
pub struct ClientOptions {
    /// Docker's `config.json`, where credentials and credential helpers are named. It need not exist.
    pub credentials: Option<PathBuf>,
    /// Credentials of single hosts (as in references), which stand before those of the file. The first of a host counts.
    pub given: Vec<(String, Credentials)>,
    /// The `User-Agent` header.
    pub user_agent: String,
    /// Hosts (with port, as in references) or blocks of addresses (`10.0.0.0/8`) that may be spoken to without a
    /// verified certificate, or in plain HTTP. `localhost`, 127.0.0.0/8 and `[::1]` are such without being listed,
    /// unless [`ClientOptions::trust`] has authorities for them.
    pub insecure: Vec<String>,
    /// Where references really are, and where they may be had besides. The longest prefix that fits counts.
    pub rules: Vec<Rule>,
    /// Certificates of single hosts.
    pub trust: Vec<HostTrust>,
    /// The proxies for hosts other than the loopback ones.
    pub proxies: Proxies,
    /// What happens after failures that may pass.
    pub retry: RetryPolicy,
    /// Limit of a connection's set-up, TLS included.
    pub connect_timeout: Duration,
    /// Limit of the wait for an answer and of each read of a body.
    pub read_timeout: Duration,
}

/// What a group of references gets instead of its own host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rule {
    /// `host[:port][/path]`: references that are in this host or below this path; `*.example.com` is every host below.
    pub prefix: String,
    /// What stands in the place of the prefix; None leaves it.
    pub location: Option<String>,
    /// What is asked first, in this order, when something is read: each stands in the place of the prefix. Nothing is
    /// ever written to one.
    pub mirrors: Vec<String>,
}

/// Whom to trust at a host, and who we are there.
#[derive(Clone, Default)]
pub struct HostTrust {
    /// `host[:port]`, as in references.
    pub host: String,
    /// Where the certificates come from, for messages.
    pub origin: String,
    /// Authorities in PEM, beside those that this machine trusts.
    pub authorities: Vec<Vec<u8>>,
    /// The client's certificate chain and key, in PEM.
    pub identity: Option<(Vec<u8>, Vec<u8>)>,
}

impl std::fmt::Debug for HostTrust {
    /// Without the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HostTrust")
            .field("host", &self.host)
            .field("origin", &self.origin)
            .field("authorities", &self.authorities.len())
            .field("identity", &self.identity.is_some())
            .finish()
    }
}

/// HTTP proxies: asked for a tunnel (CONNECT) to what speaks TLS, handed requests for what does not.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Proxies {
    /// For `http` URLs: `http://[user:password@]host[:port]`; `https://` speaks TLS to the proxy itself.
    pub http: Option<String>,
    /// For `https` URLs.
    pub https: Option<String>,
    /// What to reach directly: `*`, `example.com` (and all below), `.example.com` (only what is below), addresses and
    /// blocks of them (`10.0.0.0/8`), each but the blocks with an optional `:port`.
    pub except: Vec<String>,
}

impl std::fmt::Debug for Proxies {
    /// Without the URLs, which may hold passwords.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Proxies")
            .field("http", &self.http.is_some())
            .field("https", &self.https.is_some())
            .field("except", &self.except)
            .finish()
    }
}

/// How often and how soon a request is sent again after 429, 5xx, and broken or silent connections.
#[derive(Debug, Clone, Copy)]
pub struct RetryPolicy {
    /// Requests in all, the first included; at least 1.
    pub attempts: u32,
    /// Pause after the first failure; it doubles with each further one. Up to a quarter of it is left out by chance,
    /// so that clients that failed together do not return together.
    pub first_delay: Duration,
    /// Longest pause, also where the server asks for a longer one.
    pub longest_delay: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            attempts: 4,
            first_delay: Duration::from_millis(250),
            longest_delay: Duration::from_secs(10),
        }
    }
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            credentials: None,
            given: Vec::new(),
            user_agent: concat!("ketch/", env!("CARGO_PKG_VERSION")).into(),
            insecure: Vec::new(),
            rules: Vec::new(),
            trust: Vec::new(),
            proxies: Proxies::default(),
            retry: RetryPolicy::default(),
            connect_timeout: Duration::from_secs(10),
            read_timeout: Duration::from_secs(60),
        }
    }
}
