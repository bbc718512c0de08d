//! Credentials from Docker's `config.json`: `auths`, `credHelpers`, `credsStore`.

mod edit;
mod helper;

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use serde::Deserialize;

pub use edit::{CredentialFile, Kept, Login};

/// The key under which Docker keeps the credentials of docker.io.
const HUB_KEY: &str = "https://index.docker.io/v1/";
/// Largest `config.json`, and largest answer of a helper, in bytes.
const FILE_MAX: u64 = 4 << 20;

/// Who we are to a registry.
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    /// User name and password.
    Password {
        /// User.
        user: String,
        /// Password or access token.
        password: String,
    },
    /// A refresh token for the token service.
    Identity(String),
    /// A token for the registry itself.
    Registry(String),
}

impl std::fmt::Debug for Credentials {
    /// Without secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (name, user) = match self {
            Self::Password { user, .. } => ("Password", user.as_str()),
            Self::Identity(_) => ("Identity", ""),
            Self::Registry(_) => ("Registry", ""),
        };
        f.debug_struct(name)
            .field("user", &user)
            .finish_non_exhaustive()
    }
}

/// Why credentials cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// The file is there and cannot be read.
    #[error("read {path}: {source}")]
    Read {
        /// `config.json`.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not what Docker writes.
    #[error("{path} is not valid: {source}")]
    Format {
        /// `config.json`.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// The file is JSON, but of another shape.
    #[error("{path} is not valid: {what} is not an object")]
    Shape {
        /// `config.json`.
        path: PathBuf,
        /// `it`, or the name of a field.
        what: &'static str,
    },
    /// The file could not be replaced.
    #[error("{call} {path}: {source}")]
    Write {
        /// What was tried.
        call: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// An `auth` field that is not base64 of `user:password`.
    #[error("the auth entry of {key} in {path} is not base64 of user:password")]
    Auth {
        /// `config.json`.
        path: PathBuf,
        /// The entry.
        key: String,
    },
    /// A helper name that is not the end of a program name.
    #[error("credential helper name {name:?} is not valid")]
    HelperName {
        /// The name.
        name: String,
    },
    /// The helper could not be run or spoken to.
    #[error("run {program}: {source}")]
    Helper {
        /// The program.
        program: String,
        /// Why.
        source: std::io::Error,
    },
    /// The helper said no.
    #[error("{program} failed: {message}")]
    HelperFailed {
        /// The program.
        program: String,
        /// Its words.
        message: String,
    },
    /// The helper did not answer.
    #[error("{program} did not answer within {} s", helper::TIMEOUT.as_secs())]
    HelperTimeout {
        /// The program.
        program: String,
    },
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ConfigFile {
    auths: BTreeMap<String, AuthEntry>,
    creds_store: String,
    cred_helpers: BTreeMap<String, String>,
}

#[derive(Clone, Default, Deserialize)]
#[serde(default)]
struct AuthEntry {
    auth: String,
    username: String,
    password: String,
    identitytoken: String,
    registrytoken: String,
}

/// Looks for the credentials of `host`; None where the user has none.
pub(crate) fn find(path: &Path, host: &str) -> Result<Option<Credentials>, CredentialsError> {
    let Some(config) = read_config(path)? else {
        return Ok(None);
    };
    let key = key_of(host);
    // A helper of the host stands before the store for all, which stands before the file.
    if let Some(helper) = config
        .cred_helpers
        .get(host)
        .or_else(|| config.cred_helpers.get(key))
    {
        return helper::get(helper, key);
    }
    if !config.creds_store.is_empty()
        && let Some(found) = helper::get(&config.creds_store, key)?
    {
        return Ok(Some(found));
    }
    let exact = config.auths.get_key_value(key);
    let by_host = || {
        config
            .auths
            .iter()
            .find(|(entry, _)| host_of(entry) == host)
    };
    match exact.or_else(by_host) {
        Some((key, entry)) => entry.clone().credentials(path, key),
        None => Ok(None),
    }
}

/// The credentials in a text like `config.json` that is no file (Docker's `DOCKER_AUTH_CONFIG`): only `auths` counts.
/// `origin` is what messages call the text.
///
/// # Errors
/// [`CredentialsError::Format`] and [`CredentialsError::Auth`].
pub fn read_auths(
    text: &str,
    origin: &Path,
) -> Result<Vec<(String, Credentials)>, CredentialsError> {
    let config: ConfigFile =
        serde_json::from_str(text).map_err(|source| CredentialsError::Format {
            path: origin.into(),
            source,
        })?;
    let mut found = Vec::new();
    for (key, entry) in config.auths {
        if let Some(credentials) = entry.credentials(origin, &key)? {
            found.push((host_of(&key).to_owned(), credentials));
        }
    }
    Ok(found)
}

/// The key that Docker keeps a host under.
fn key_of(host: &str) -> &str {
    if host == "docker.io" { HUB_KEY } else { host }
}

fn read_config(path: &Path) -> Result<Option<ConfigFile>, CredentialsError> {
    let failed = |source| CredentialsError::Read {
        path: path.into(),
        source,
    };
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let mut text = Vec::new();
    file.take(FILE_MAX).read_to_end(&mut text).map_err(failed)?;
    if text.trim_ascii().is_empty() {
        return Ok(None);
    }
    serde_json::from_slice(&text)
        .map(Some)
        .map_err(|source| CredentialsError::Format {
            path: path.into(),
            source,
        })
}

/// Keys may be written as URLs: `https://host/v1/` means `host`.
fn host_of(key: &str) -> &str {
    let bare = key.split_once("://").map_or(key, |(_, rest)| rest);
    match bare.split('/').next().unwrap_or_default() {
        "index.docker.io" | "registry-1.docker.io" => "docker.io",
        host => host,
    }
}

impl AuthEntry {
    fn credentials(self, path: &Path, key: &str) -> Result<Option<Credentials>, CredentialsError> {
        if !self.identitytoken.is_empty() {
            return Ok(Some(Credentials::Identity(self.identitytoken)));
        }
        if !self.registrytoken.is_empty() {
            return Ok(Some(Credentials::Registry(self.registrytoken)));
        }
        if !self.auth.is_empty() {
            let wrong = || CredentialsError::Auth {
                path: path.into(),
                key: key.into(),
            };
            let bytes = STANDARD
                .decode(&self.auth)
                .or_else(|_| STANDARD_NO_PAD.decode(&self.auth))
                .map_err(|_| wrong())?;
            let text = String::from_utf8(bytes).map_err(|_| wrong())?;
            let (user, password) = text.split_once(':').ok_or_else(wrong)?;
            // Docker pads what it writes with zero bytes.
            let password = password.trim_matches('\0').to_owned();
            return Ok(Some(Credentials::Password {
                user: user.into(),
                password,
            }));
        }
        if self.username.is_empty() {
            return Ok(None);
        }
        Ok(Some(Credentials::Password {
            user: self.username,
            password: self.password,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_config(text: &str, host: &str) -> Result<Option<Credentials>, CredentialsError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        std::fs::write(&path, text).unwrap();
        find(&path, host)
    }

    fn password(user: &str, password: &str) -> Option<Credentials> {
        Some(Credentials::Password {
            user: user.into(),
            password: password.into(),
        })
    }

    #[test]
    fn reads_auth_entries() {
        let text = r#"{"auths": {
            "https://index.docker.io/v1/": {"auth": "bWU6c2VjOnJldA=="},
            "https://r.example/v2/": {"username": "u", "password": "p"},
            "localhost:5000": {"identitytoken": "idt"},
            "other.example": {}
        }, "HttpHeaders": {}}"#;
        assert!(with_config(text, "docker.io").unwrap() == password("me", "sec:ret"));
        assert!(with_config(text, "r.example").unwrap() == password("u", "p"));
        let identity = with_config(text, "localhost:5000").unwrap();
        assert!(identity == Some(Credentials::Identity("idt".into())));
        assert!(with_config(text, "other.example").unwrap().is_none());
        assert!(with_config(text, "evil-r.example").unwrap().is_none());
        assert!(with_config("", "docker.io").unwrap().is_none());
        assert!(
            find(Path::new("/nonexistent/config.json"), "x")
                .unwrap()
                .is_none()
        );
    }

    #[test]
    fn texts_hold_credentials_as_files_do() {
        let origin = Path::new("DOCKER_AUTH_CONFIG");
        let text = r#"{"auths": {"https://index.docker.io/v1/": {"auth": "bWU6c2VjOnJldA=="}, "none.example": {}}}"#;
        let found = read_auths(text, origin).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].0, "docker.io");
        assert!(Some(&found[0].1) == password("me", "sec:ret").as_ref());
        assert!(!format!("{found:?}").contains("sec:ret"));
        let error = read_auths("{", origin).unwrap_err().to_string();
        assert!(
            error.starts_with("DOCKER_AUTH_CONFIG is not valid"),
            "{error}"
        );
        let wrong = r#"{"auths": {"x": {"auth": "???"}}}"#;
        let error = read_auths(wrong, origin).unwrap_err().to_string();
        assert!(
            error.contains("entry of x in DOCKER_AUTH_CONFIG"),
            "{error}"
        );
    }

    #[test]
    fn broken_files_are_named() {
        assert!(matches!(
            with_config("{", "x"),
            Err(CredentialsError::Format { .. })
        ));
        let auth = r#"{"auths": {"x": {"auth": "???"}}}"#;
        assert!(matches!(
            with_config(auth, "x"),
            Err(CredentialsError::Auth { .. })
        ));
        let helper = r#"{"credHelpers": {"x": "../../bin/sh"}}"#;
        assert!(matches!(
            with_config(helper, "x"),
            Err(CredentialsError::HelperName { .. })
        ));
        let helper = r#"{"credHelpers": {"x": "ketch-test-nonexistent"}}"#;
        assert!(matches!(
            with_config(helper, "x"),
            Err(CredentialsError::Helper { .. })
        ));
    }
}
