//! Registries: how they are reached, and the verbs on them that are not about an image of ours.
//!
//! [`RegistryAccess`] is all that a client needs to know; it needs no [`crate::Engine`], so that `login` and `search`
//! work for users who may not open the data root.

mod certificates;
pub(crate) mod file;
mod login;
pub mod manifest;
mod search;

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use ketch_registry as registry;
use ketch_spec::Reference;

pub use certificates::CertificatesError;
pub use file::FileError;
pub use login::{
    LoginRequest, LoginResult, Saved, check_login, host_of_server, known_user, login, logout,
};
pub use registry::{Credentials, Found, Proxies};
pub use search::{SearchFilter, search, search_host, search_limit};

use crate::{Error, ErrorKind, Result};

/// Longest file of settings, certificate or key, in bytes.
const FILE_MAX: u64 = 1 << 20;

/// Reads a file of settings, a certificate or a key.
fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = File::open(path)?
        .take(FILE_MAX + 1)
        .read_to_end(&mut bytes)?;
    match read as u64 > FILE_MAX {
        true => Err(io::ErrorKind::FileTooLarge.into()),
        false => Ok(bytes),
    }
}

/// How registries are reached.
#[derive(Debug, Clone, Default)]
pub struct RegistryAccess {
    /// Docker's `config.json`, where credentials are (`~/.docker/config.json`), if anywhere.
    pub credentials: Option<PathBuf>,
    /// Credentials that stand before those of the file: a text like `config.json`'s.
    pub environment: Option<AuthText>,
    /// Credentials of single hosts, which stand before all others.
    pub given: Vec<(String, Credentials)>,
    /// Files like `/etc/ketch/registries.toml`; the first that is there counts.
    pub files: Vec<PathBuf>,
    /// Directories like `/etc/docker/certs.d`; the first that has one for a host counts.
    pub certificates: Vec<PathBuf>,
    /// Proxies.
    pub proxies: Proxies,
    /// Hosts that may be spoken to without a verified certificate, besides those of the file (`manifest --insecure`).
    pub insecure: Vec<String>,
}

/// A text like that of `config.json`, of which `auths` counts, and where it comes from: a variable's name, for messages.
#[derive(Clone)]
pub struct AuthText {
    /// Where it comes from.
    pub origin: &'static str,
    /// The text.
    pub text: String,
}

impl std::fmt::Debug for AuthText {
    /// Without the text, which holds secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AuthText")
            .field("origin", &self.origin)
            .finish_non_exhaustive()
    }
}

impl RegistryAccess {
    /// The same with credentials for one host, before all others.
    #[must_use]
    pub fn with_given(mut self, host: String, credentials: Credentials) -> Self {
        self.given.insert(0, (host, credentials));
        self
    }

    /// What is given, then what the environment has.
    fn all_given(&self) -> Result<Vec<(String, Credentials)>> {
        let mut all = self.given.clone();
        if let Some(AuthText { origin, text }) = &self.environment {
            let read = registry::read_auths(text, Path::new(origin)).map_err(|error| {
                Error::caused(
                    ErrorKind::Invalid,
                    "cannot use the credentials of the environment",
                    &error,
                )
            })?;
            all.extend(read);
        }
        Ok(all)
    }

    /// A client for references of `host`.
    ///
    /// # Errors
    /// `Invalid` for a settings file or certificates that cannot be used; the error names file and line.
    pub fn client(&self, host: &str) -> Result<registry::Client> {
        let settings = file::read_first(&self.files).map_err(|error| {
            Error::caused(
                ErrorKind::Invalid,
                "cannot use the registry settings",
                &error,
            )
        })?;
        let mut trust = settings.trust;
        let mut hosts = vec![host.to_owned()];
        hosts.extend(settings.hosts);
        hosts.sort();
        hosts.dedup();
        for host in hosts {
            // What the file says about a host stands before what the directories have.
            if trust.iter().any(|known| known.host == host) {
                continue;
            }
            let found = certificates::find(&self.certificates, &host).map_err(|error| {
                Error::caused(
                    ErrorKind::Invalid,
                    format!("cannot use the certificates for registry {host}"),
                    &error,
                )
            })?;
            trust.extend(found);
        }
        let mut insecure = settings.insecure;
        insecure.extend(self.insecure.iter().cloned());
        registry::Client::new(registry::ClientOptions {
            credentials: self.credentials.clone(),
            given: self.all_given()?,
            insecure,
            rules: settings.rules,
            trust,
            proxies: self.proxies.clone(),
            ..registry::ClientOptions::default()
        })
        .map_err(|error| failed("cannot use the registry settings".into(), &error))
    }

    /// A client for one reference.
    pub(crate) fn client_for(&self, reference: &Reference) -> Result<registry::Client> {
        self.client(&reference.host)
    }
}

/// A registry's failure in a verb that has no words of Docker's for it.
pub(crate) fn failed(message: String, error: &registry::Error) -> Error {
    let mut failed = Error::caused(kind(error), message, error);
    failed.hints.extend(error.hint());
    failed
}

/// The class of a registry's failure.
pub(crate) fn kind(error: &registry::Error) -> ErrorKind {
    use registry::Error as E;
    match error {
        E::Unauthorised { .. } | E::Login { .. } => ErrorKind::Unauthorised,
        E::Denied { .. } => ErrorKind::Forbidden,
        E::ManifestNotFound { .. } => ErrorKind::NotFound,
        E::MediaType { .. } | E::NoSearch { .. } => ErrorKind::Unsupported,
        E::Credentials { .. } | E::Proxy { .. } | E::Host { .. } | E::Certificates { .. } => {
            ErrorKind::Invalid
        }
        E::Source { .. } => ErrorKind::Internal,
        _ => ErrorKind::Unavailable,
    }
}
