//! What the caller decides for a client.

use std::path::PathBuf;
use std::time::Duration;

/// Settings of a [`crate::Client`].
#[derive(Debug, Clone)]
pub struct ClientOptions {
    /// Docker's `config.json`, where credentials and credential helpers are named. It need not exist.
    pub credentials: Option<PathBuf>,
    /// The `User-Agent` header.
    pub user_agent: String,
    /// Hosts (with port, as in references) that may be spoken to without a verified certificate, or in plain
    /// HTTP. `localhost`, 127.0.0.0/8 and `[::1]` are such without being listed.
    pub insecure: Vec<String>,
    /// The proxy for hosts other than the loopback ones; None connects directly.
    pub proxy: Option<Proxy>,
    /// What happens after failures that may pass.
    pub retry: RetryPolicy,
    /// Limit of a connection's set-up, TLS included.
    pub connect_timeout: Duration,
    /// Limit of the wait for an answer and of each read of a body.
    pub read_timeout: Duration,
}

/// An HTTP proxy, reached by CONNECT.
#[derive(Debug, Clone)]
pub struct Proxy {
    /// `http://[user:password@]host[:port]`.
    pub url: String,
    /// Hosts to reach directly: `example.com`, `.example.com`, `*`.
    pub except: Vec<String>,
}

/// How often and how soon a request is sent again after 429, 5xx, and broken or silent connections.
#[derive(Debug, Clone, Copy)]
pub struct RetryPolicy {
    /// Requests in all, the first included; at least 1.
    pub attempts: u32,
    /// Pause after the first failure; it doubles with each further one.
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
            user_agent: concat!("ketch/", env!("CARGO_PKG_VERSION")).into(),
            insecure: Vec::new(),
            proxy: None,
            retry: RetryPolicy::default(),
            connect_timeout: Duration::from_secs(10),
            read_timeout: Duration::from_secs(60),
        }
    }
}
