//! `login`: whether a registry takes a user's word.

use ureq::http::Method;

use crate::client::Client;
use crate::credentials::Credentials;
use crate::error::{Error, Result};
use crate::send::{Call, Payload, Target, Wanted};
use crate::token::Scope;

/// Largest answer to the question whether we are known, in bytes.
const ANSWER_MAX: u64 = 1 << 20;

/// What refusals are called.
const UNAUTHORISED: &str = "401 Unauthorized";
const FORBIDDEN: &str = "403 Forbidden";

/// What a registry gave for a user's word.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct LoggedIn {
    /// A token to keep in the password's place, where the token service gives one.
    pub identity_token: Option<String>,
}

impl std::fmt::Debug for LoggedIn {
    /// Without the token.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LoggedIn")
            .field("identity_token", &self.identity_token.is_some())
            .finish()
    }
}

impl Client {
    /// Asks the registry `host` whether it takes this user name and password. The client goes on with them.
    ///
    /// # Errors
    /// [`Error::Login`] where it does not, and those of every call.
    pub fn login(&self, host: &str, user: &str, password: &str) -> Result<LoggedIn> {
        let registry = self.registry(host)?;
        registry.set_credentials(Some(Credentials::Password {
            user: user.into(),
            password: password.into(),
        }));
        self.check(host)
    }

    /// As [`Client::login`], with the credentials that the client finds for the host.
    ///
    /// # Errors
    /// As [`Client::login`]; where there are no credentials, too.
    pub fn check_login(&self, host: &str) -> Result<LoggedIn> {
        self.check(host)
    }

    fn check(&self, host: &str) -> Result<LoggedIn> {
        let registry = self.registry(host)?;
        let mut call = Call {
            method: Method::GET,
            target: Target::Path("/v2/".into()),
            scope: Scope::login(),
            headers: vec![],
            payload: Payload::None,
            wanted: Wanted::Document(ANSWER_MAX),
        };
        let refused = |status, reason: String| Error::Login {
            registry: host.into(),
            url: registry
                .root()
                .join("/v2/")
                .map_or_else(String::new, |url| url.to_string()),
            status,
            reason,
        };
        let answer = match self.call(&registry, &mut call) {
            Err(Error::Unauthorised { reason, .. }) => return Err(refused(UNAUTHORISED, reason)),
            Err(Error::Denied { reason, .. }) => return Err(refused(FORBIDDEN, reason)),
            answer => answer?,
        };
        match answer.status {
            200 => Ok(LoggedIn {
                identity_token: registry.identity(),
            }),
            404 => {
                let reason = "it is no registry: there is no /v2/";
                Err(refused("404 Not Found", reason.into()))
            }
            401 => Err(refused(UNAUTHORISED, answer.words())),
            403 => Err(refused(FORBIDDEN, answer.words())),
            _ => Err(answer.refusal(&call.scope, true)),
        }
    }
}
