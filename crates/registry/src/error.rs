//! What can go wrong with a registry. Each message names the registry; [`Error::hint`] says what can be done.

use ketch_spec::Digest;

use crate::credentials::CredentialsError;

/// Results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failed exchange with a registry.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No connection, or it broke.
    #[error("cannot reach registry {registry}: {reason}")]
    Unreachable {
        /// Host of the references.
        registry: String,
        /// Endpoint and cause.
        reason: String,
        /// Whether another attempt may help.
        transient: bool,
    },
    /// The certificate or the protocol version was not acceptable.
    #[error("cannot reach registry {registry}: TLS failed: {reason}")]
    Tls {
        /// Host of the references.
        registry: String,
        /// Endpoint and cause.
        reason: String,
    },
    /// The registry wants credentials that we do not have, or refuses those we have.
    #[error("registry {registry} refused access to {repository}: {reason}")]
    Unauthorised {
        /// Host of the references.
        registry: String,
        /// What was to be accessed.
        repository: String,
        /// The server's words.
        reason: String,
        /// Whether we had credentials for it.
        with_credentials: bool,
    },
    /// The registry knows who we are and says no.
    #[error("registry {registry} denied access to {repository}: {reason}")]
    Denied {
        /// Host of the references.
        registry: String,
        /// What was to be accessed.
        repository: String,
        /// The server's words.
        reason: String,
    },
    /// No such manifest.
    #[error("registry {registry} has no manifest for {reference}: {reason}")]
    ManifestNotFound {
        /// Host of the references.
        registry: String,
        /// The reference, as users write it.
        reference: String,
        /// The server's words, such as `manifest unknown: manifest unknown`.
        reason: String,
    },
    /// No such blob.
    #[error("registry {registry} has no blob {digest} in {repository}: {reason}")]
    BlobNotFound {
        /// Host of the references.
        registry: String,
        /// Repository.
        repository: String,
        /// The blob.
        digest: Digest,
        /// The server's words.
        reason: String,
    },
    /// Too many requests, also after waiting.
    #[error("registry {registry} refuses further requests for now: {reason}")]
    RateLimited {
        /// Host of the references.
        registry: String,
        /// The server's words.
        reason: String,
    },
    /// An answer that none of the others describes.
    #[error("registry {registry} answered {request} with {status}: {reason}")]
    Status {
        /// Host of the references.
        registry: String,
        /// Method and path.
        request: String,
        /// HTTP status.
        status: u16,
        /// The server's words.
        reason: String,
    },
    /// An answer that the protocol does not allow.
    #[error("registry {registry} answered {request} wrongly: {problem}")]
    Protocol {
        /// Host of the references.
        registry: String,
        /// Method and path.
        request: String,
        /// What is wrong with it.
        problem: Problem,
    },
    /// Content that is not what its digest promises.
    #[error(
        "registry {registry} sent wrong content for {what}: expected digest {expected}, got {actual}"
    )]
    Digest {
        /// Host of the references.
        registry: String,
        /// What was asked for.
        what: String,
        /// Wanted.
        expected: Digest,
        /// Received.
        actual: Digest,
    },
    /// Content of another size than its descriptor says.
    #[error("registry {registry} sent {actual} bytes for {what} instead of {expected}")]
    Size {
        /// Host of the references.
        registry: String,
        /// What was asked for.
        what: String,
        /// Wanted, in bytes.
        expected: u64,
        /// Received or announced, in bytes.
        actual: u64,
    },
    /// A blob's stream broke again and again.
    #[error(
        "registry {registry} cut the download of {digest} at {position} of {size} bytes: {reason}"
    )]
    Cut {
        /// Host of the references.
        registry: String,
        /// The blob.
        digest: Digest,
        /// How much had arrived, in bytes.
        position: u64,
        /// All, in bytes.
        size: u64,
        /// The last cause.
        reason: String,
    },
    /// A manifest format that this program does not read.
    #[error("registry {registry} has {reference} as {media_type}, which is not supported")]
    MediaType {
        /// Host of the references.
        registry: String,
        /// The reference, as users write it.
        reference: String,
        /// The format.
        media_type: String,
    },
    /// Reading what was to be uploaded failed.
    #[error("cannot read {digest} for its upload")]
    Source {
        /// The blob.
        digest: Digest,
        /// Why.
        source: std::io::Error,
    },
    /// Credentials could not be had.
    #[error("cannot get credentials for registry {registry}")]
    Credentials {
        /// Host of the references.
        registry: String,
        /// Why.
        source: CredentialsError,
    },
    /// A log-in that was not accepted.
    #[error("login attempt to {url} failed with status: {status}: {reason}")]
    Login {
        /// Host of the references.
        registry: String,
        /// Where it was tried.
        url: String,
        /// The status and its meaning, such as `401 Unauthorized`.
        status: &'static str,
        /// The server's words, such as `unauthorized: incorrect username or password`.
        reason: String,
    },
    /// The registry has nothing to search with.
    #[error("registry {registry} cannot be searched: it has no /v1/search ({reason})")]
    NoSearch {
        /// Host of the references.
        registry: String,
        /// What came instead.
        reason: String,
    },
    /// Certificates for a host that cannot be read.
    #[error("the {what} for registry host {host} in {origin} cannot be read: PEM is expected")]
    Certificates {
        /// The host.
        host: String,
        /// Where they come from.
        origin: String,
        /// Which of them.
        what: &'static str,
    },
    /// The proxy's address is not one.
    #[error("invalid proxy {url:?}: expected http://[user:password@]host[:port]")]
    Proxy {
        /// Its address, without user and password.
        url: String,
    },
    /// A host that cannot be part of a URL.
    #[error("registry host {host:?} is not valid")]
    Host {
        /// The host.
        host: String,
    },
}

/// Ways to break the protocol.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// A header that has to be there.
    #[error("no {0} header")]
    NoHeader(&'static str),
    /// A header with a value that is none.
    #[error("unusable {name} header {value:?}")]
    BadHeader {
        /// Header name.
        name: &'static str,
        /// Its value, cut.
        value: String,
    },
    /// More redirects than anyone needs.
    #[error("too many redirects")]
    Redirects,
    /// A redirect from https to http.
    #[error("it redirects to {origin}, which is not encrypted")]
    Downgrade {
        /// Where to.
        origin: String,
    },
    /// The token service of an encrypted registry is not encrypted.
    #[error("its token service {origin} is not encrypted")]
    TokenDowngrade {
        /// The service.
        origin: String,
    },
    /// A challenge with a scheme other than Basic and Bearer.
    #[error("it wants the unknown authentication {0:?}")]
    Challenge(String),
    /// A document beyond its limit.
    #[error("the document is larger than {limit} bytes")]
    TooLarge {
        /// The limit in bytes.
        limit: u64,
    },
    /// A listing beyond its limit.
    #[error("the listing has more than {limit} entries or pages")]
    TooMany {
        /// The limit.
        limit: u64,
    },
    /// A document that is not the JSON it should be.
    #[error("the document cannot be read: {0}")]
    Document(String),
    /// A part of another range than was asked for.
    #[error("it sent bytes from {got} instead of {wanted}")]
    Range {
        /// First byte received.
        got: u64,
        /// First byte wanted.
        wanted: u64,
    },
}

impl Error {
    /// The registry that this is about, as references name it; None for local mistakes.
    pub fn registry(&self) -> Option<&str> {
        match self {
            Self::Unreachable { registry, .. }
            | Self::Tls { registry, .. }
            | Self::Unauthorised { registry, .. }
            | Self::Denied { registry, .. }
            | Self::ManifestNotFound { registry, .. }
            | Self::BlobNotFound { registry, .. }
            | Self::RateLimited { registry, .. }
            | Self::Status { registry, .. }
            | Self::Protocol { registry, .. }
            | Self::Digest { registry, .. }
            | Self::Size { registry, .. }
            | Self::Cut { registry, .. }
            | Self::MediaType { registry, .. }
            | Self::Login { registry, .. }
            | Self::NoSearch { registry, .. }
            | Self::Credentials { registry, .. } => Some(registry),
            Self::Source { .. }
            | Self::Proxy { .. }
            | Self::Certificates { .. }
            | Self::Host { .. } => None,
        }
    }

    /// What the user can do about it, a sentence.
    pub fn hint(&self) -> Option<String> {
        let text = match self {
            Self::Unreachable { registry, .. } => {
                format!("check the network, the name {registry} and the proxy settings")
            }
            Self::Tls { registry, .. } => format!(
                "check the clock and that this machine trusts the certificate of {registry} (package ca-certificates); a private authority belongs into /etc/docker/certs.d/{registry}/ca.crt or registries.toml"
            ),
            Self::Unauthorised {
                registry,
                with_credentials: true,
                ..
            } => {
                format!(
                    "the credentials for {registry} in Docker's config.json are not accepted: `ketch login {registry}` again"
                )
            }
            Self::Unauthorised { registry, .. } => {
                format!(
                    "if the repository is private: `ketch login {registry}`"
                )
            }
            Self::Denied { .. } => "check that the account may access this repository".into(),
            Self::RateLimited { registry, .. } if registry == "docker.io" => {
                "Docker Hub counts pulls by account, and by address where there is none: `ketch login` for a higher limit, wait (the count is per hours), or name a mirror of docker.io in registries.toml".into()
            }
            Self::RateLimited { registry, .. } => {
                format!("wait, or `ketch login {registry}`: accounts have higher limits")
            }
            Self::ManifestNotFound { .. } => "check the name and the tag".into(),
            Self::Login { .. } => {
                "check user name and password; many registries want an access token in the password's place".into()
            }
            Self::MediaType { .. } => "push the image again with a current tool".into(),
            Self::Digest { .. } | Self::Size { .. } => {
                "a proxy or the registry has damaged data: try again, or use another network".into()
            }
            Self::Cut { .. } => "run the command again: it continues where it stopped".into(),
            Self::Credentials { .. } => {
                "check credsStore and credHelpers in Docker's config.json".into()
            }
            _ => return None,
        };
        Some(text)
    }

    /// Whether another attempt may succeed.
    pub(crate) fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::Unreachable {
                transient: true,
                ..
            }
        )
    }
}
