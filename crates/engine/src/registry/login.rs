//! `login` and `logout`.

use std::path::PathBuf;

use ketch_registry::{CredentialFile, CredentialsError, Error as RegistryError, Kept, Login};
use ketch_spec::reference::DEFAULT_HOST;

use super::{Credentials, RegistryAccess, failed};
use crate::{Error, ErrorKind, Result};

/// Who wants to log in where.
#[derive(Clone)]
pub struct LoginRequest {
    /// The registry, as [`host_of_server`] gives it.
    pub host: String,
    /// User name and password; None checks what is kept already.
    pub user: Option<(String, String)>,
}

/// What came of a log-in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoginResult {
    /// Where it is kept; None where it was kept already.
    pub saved: Option<Saved>,
}

/// Where a log-in is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Saved {
    /// In this file, unencrypted.
    File(PathBuf),
    /// With this helper program.
    Helper(String),
}

/// The registry that a server argument means: empty, `docker.io` and the old address of the Hub's index are the Hub;
/// scheme and path count for nothing.
///
/// # Errors
/// `Invalid` for what holds no host.
pub fn host_of_server(server: &str) -> Result<String> {
    let bare = server.split_once("://").map_or(server, |(_, rest)| rest);
    let host = bare.split('/').next().unwrap_or_default();
    if server.is_empty() {
        return Ok(DEFAULT_HOST.into());
    }
    let is_valid = !host.is_empty()
        && !host.starts_with(['.', '-'])
        && host
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b".-_:[]".contains(&b));
    if !is_valid {
        let message = format!("{server:?} is not a registry: host[:port] is expected");
        return Err(Error::new(ErrorKind::Invalid, message));
    }
    Ok(match host {
        "index.docker.io" | "registry-1.docker.io" => DEFAULT_HOST.into(),
        _ => host.to_ascii_lowercase(),
    })
}

/// The user name that is kept for a registry; empty where a token is kept, None where nothing is.
///
/// # Errors
/// `Invalid` for a `config.json` or helper that cannot be used.
pub fn known_user(access: &RegistryAccess, host: &str) -> Result<Option<String>> {
    match &access.credentials {
        Some(path) => CredentialFile::new(path)
            .user(host)
            .map_err(|error| credentials_failed(host, &error)),
        None => Ok(None),
    }
}

/// Asks a registry whether it takes what the user says, and keeps it.
///
/// # Errors
/// `Unauthorised` if it does not, `Unavailable` if it cannot be reached, `Invalid` if it cannot be kept.
pub fn login(access: &RegistryAccess, request: &LoginRequest) -> Result<LoginResult> {
    let host = &request.host;
    let client = access.client(host)?;
    let Some((user, password)) = &request.user else {
        client.check_login(host).map_err(|error| refused(&error))?;
        return Ok(LoginResult { saved: None });
    };
    let Some(path) = &access.credentials else {
        let message = "there is no place to keep credentials";
        return Err(Error::new(ErrorKind::Invalid, message)
            .hint("set HOME or DOCKER_CONFIG, or give --config"));
    };
    let answer = client
        .login(host, user, password)
        .map_err(|error| refused(&error))?;
    let kept = CredentialFile::new(path)
        .keep(
            host,
            &Login {
                user: user.clone(),
                password: password.clone(),
                identity_token: answer.identity_token,
            },
        )
        .map_err(|error| credentials_failed(host, &error))?;
    let saved = match kept {
        Kept::File(path) => Saved::File(path),
        Kept::Helper(program) => Saved::Helper(program),
    };
    Ok(LoginResult { saved: Some(saved) })
}

/// As [`login`], but nothing is kept: for who keeps it elsewhere. Gives the token to keep in the password's place, where
/// the registry has such.
///
/// # Errors
/// As [`login`].
pub fn check_login(
    access: &RegistryAccess,
    host: &str,
    credentials: &Credentials,
) -> Result<Option<String>> {
    let access = access
        .clone()
        .with_given(host.to_owned(), credentials.clone());
    let checked = access.client(host)?.check_login(host);
    Ok(checked.map_err(|error| refused(&error))?.identity_token)
}

/// Forgets what is kept for a registry; whether there was anything.
///
/// # Errors
/// `Invalid` for a `config.json` or helper that cannot be used.
pub fn logout(access: &RegistryAccess, host: &str) -> Result<bool> {
    match &access.credentials {
        Some(path) => CredentialFile::new(path)
            .forget(host)
            .map_err(|error| credentials_failed(host, &error)),
        None => Ok(false),
    }
}

/// The registry's words stand alone: they are all that the user needs.
fn refused(error: &RegistryError) -> Error {
    match error {
        RegistryError::Login { .. } => {
            let mut refused = Error::new(ErrorKind::Unauthorised, error.to_string());
            refused.hints.extend(error.hint());
            refused
        }
        _ => failed("login attempt failed".into(), error),
    }
}

fn credentials_failed(host: &str, error: &CredentialsError) -> Error {
    let message = format!("cannot use the credentials for {host}");
    let failed = Error::caused(ErrorKind::Invalid, message, error);
    let hint = match error {
        CredentialsError::Helper { program, .. } => format!(
            "{program} is named in config.json (credsStore or credHelpers): install it, or take it out there"
        ),
        _ => "see credsStore and credHelpers in Docker's config.json".into(),
    };
    failed.hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_hosts() {
        let host = |server: &str| host_of_server(server).unwrap();
        assert_eq!(host(""), "docker.io");
        assert_eq!(host("https://index.docker.io/v1/"), "docker.io");
        assert_eq!(host("registry-1.docker.io"), "docker.io");
        assert_eq!(host("https://R.example:5000/v2/"), "r.example:5000");
        assert_eq!(host("r.example/team"), "r.example");
        for wrong in ["https://", "a b", "..", "u:p@h"] {
            assert!(host_of_server(wrong).is_err(), "{wrong}");
        }
    }
}
