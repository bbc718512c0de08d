//! Credentials that a client sends along: `X-Registry-Auth` for the registry of the image, `X-Registry-Config` for any.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use ketch_engine::registry::{Credentials, host_of_server};
use ketch_engine::{Engine, Error, ErrorKind, Result};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::call::Call;
use crate::shared::Shared;

/// Clients send base64 of either alphabet, with and without padding.
const LENIENT: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);

/// What clients send of one registry.
#[derive(Clone, Default, Deserialize)]
#[serde(default)]
pub struct Auth {
    username: String,
    password: String,
    /// base64 of `username:password`, from clients that send what their file holds.
    auth: String,
    identitytoken: String,
    registrytoken: String,
    /// Which registry.
    pub serveraddress: String,
}

impl Auth {
    /// Who the client is; None where it does not say.
    ///
    /// # Errors
    /// `Invalid` for an `auth` that is not base64 of user and password.
    pub fn credentials(&self) -> Result<Option<Credentials>> {
        if !self.identitytoken.is_empty() {
            return Ok(Some(Credentials::Identity(self.identitytoken.clone())));
        }
        if !self.registrytoken.is_empty() {
            return Ok(Some(Credentials::Registry(self.registrytoken.clone())));
        }
        if !self.username.is_empty() {
            return Ok(Some(Credentials::Password {
                user: self.username.clone(),
                password: self.password.clone(),
            }));
        }
        if self.auth.is_empty() {
            return Ok(None);
        }
        let text = decode(&self.auth).and_then(|bytes| String::from_utf8(bytes).ok());
        let pair = text.as_deref().and_then(|text| text.split_once(':'));
        let Some((user, password)) = pair else {
            let message = "auth in X-Registry-Auth is not base64 of user:password";
            return Err(Error::new(ErrorKind::Invalid, message));
        };
        Ok(Some(Credentials::Password {
            user: user.into(),
            password: password.into(),
        }))
    }
}

/// The engine as the client of a request may use it at the registry `host`. Where it sends no credentials, those of the
/// user that serves the API count, if that one has some.
///
/// # Errors
/// `Invalid` for headers that are not what they should be.
pub fn engine_for(shared: &Shared, call: &Call, host: &str) -> Result<Engine> {
    let mut access = shared.engine.registries().clone();
    let config: BTreeMap<String, Auth> = header("X-Registry-Config", &call.registry_config)?;
    for (server, auth) in config {
        if let Some(credentials) = auth.credentials()? {
            access = access.with_given(host_of_server(&server)?, credentials);
        }
    }
    let auth: Auth = header("X-Registry-Auth", &call.registry_auth)?;
    if let Some(credentials) = auth.credentials()? {
        access = access.with_given(host.to_owned(), credentials);
    }
    Ok(shared.engine.clone().with_registries(access))
}

/// Reads a header that holds base64 of JSON; one that is not there is the default.
fn header<T: DeserializeOwned + Default>(name: &str, text: &str) -> Result<T> {
    if text.is_empty() {
        return Ok(T::default());
    }
    let invalid = || Error::new(ErrorKind::Invalid, format!("invalid {name} header"));
    let bytes = decode(text).ok_or_else(invalid)?;
    // Some clients send what they have of nothing: `null`.
    let read: Option<T> = serde_json::from_slice(&bytes).map_err(|error| {
        Error::caused(ErrorKind::Invalid, format!("invalid {name} header"), &error)
    })?;
    Ok(read.unwrap_or_default())
}

fn decode(text: &str) -> Option<Vec<u8>> {
    let standard: String = text.trim().replace('-', "+").replace('_', "/");
    GeneralPurpose::new(&base64::alphabet::STANDARD, LENIENT)
        .decode(standard)
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Option<Credentials>> {
        header::<Auth>("X-Registry-Auth", text)?.credentials()
    }

    fn password(user: &str, password: &str) -> Option<Credentials> {
        Some(Credentials::Password {
            user: user.into(),
            password: password.into(),
        })
    }

    #[test]
    fn every_form_of_base64_is_read() {
        let json = r#"{"username":"u","password":"?>p"}"#;
        for engine in [
            &base64::engine::general_purpose::STANDARD,
            &base64::engine::general_purpose::STANDARD_NO_PAD,
            &base64::engine::general_purpose::URL_SAFE,
            &base64::engine::general_purpose::URL_SAFE_NO_PAD,
        ] {
            assert_eq!(read(&engine.encode(json)).unwrap(), password("u", "?>p"));
        }
        for nobody in ["", "e30=", "e30", "bnVsbA=="] {
            assert_eq!(read(nobody).unwrap(), None, "{nobody:?}");
        }
        let error = read("%").unwrap_err();
        assert_eq!(error.kind, ErrorKind::Invalid);
    }

    #[test]
    fn every_kind_of_credentials_is_read() {
        let of = |json: &str| serde_json::from_str::<Auth>(json).unwrap().credentials();
        let token = of(r#"{"identitytoken":"t","username":"u"}"#).unwrap();
        assert_eq!(token, Some(Credentials::Identity("t".into())));
        let token = of(r#"{"registrytoken":"t"}"#).unwrap();
        assert_eq!(token, Some(Credentials::Registry("t".into())));
        let auth = of(r#"{"auth":"bWU6c2VjOnJldA==","email":"x"}"#).unwrap();
        assert_eq!(auth, password("me", "sec:ret"));
        assert!(of(r#"{"auth":"bWU="}"#).is_err());
    }
}
