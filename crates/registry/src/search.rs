//! Searching, as Docker Hub offers it (`/v1/search`, the one thing left of the first registry protocol).

use ketch_spec::reference::DEFAULT_HOST;
use serde::Deserialize;
use ureq::http::Method;

use crate::client::Client;
use crate::error::{Error, Result};
use crate::send::{Call, Payload, Target, Wanted};
use crate::token::Scope;
use crate::url::Url;

/// Where Docker Hub answers.
const HUB_INDEX: &str = "index.docker.io";
/// Largest answer, in bytes.
const ANSWER_MAX: u64 = 4 << 20;

/// A repository that a search found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Found {
    /// Its name, as users write it.
    pub name: String,
    /// What it is about.
    pub description: String,
    /// How many users like it.
    pub star_count: i64,
    /// Whether the registry's own people care for it.
    pub is_official: bool,
    /// Whether it is built by the registry.
    pub is_automated: bool,
}

#[derive(Deserialize)]
struct Results {
    results: Option<Vec<Found>>,
}

impl Client {
    /// Asks the registry `host` for repositories with `term` in name or description, at most `limit` of them.
    ///
    /// # Errors
    /// [`Error::NoSearch`] where the registry does not search, and those of every call.
    pub fn search(&self, host: &str, term: &str, limit: u32) -> Result<Vec<Found>> {
        let index = if host == DEFAULT_HOST {
            HUB_INDEX
        } else {
            host
        };
        let registry = self.registry(index)?;
        let mut target = Url::new(true, "", "/v1/search");
        target.query("q", term);
        target.query("n", &limit.to_string());
        let mut call = Call {
            method: Method::GET,
            target: Target::Path(target.target),
            scope: Scope::login(),
            headers: vec![],
            payload: Payload::None,
            wanted: Wanted::Document(ANSWER_MAX),
        };
        let answer = self.call(&registry, &mut call)?;
        let none = |reason: String| Error::NoSearch {
            registry: host.into(),
            reason,
        };
        match answer.status {
            200 => {}
            404 | 405 | 410 | 501 => return Err(none(answer.words())),
            _ => return Err(answer.refusal(&call.scope, self.credentials(&registry)?.is_some())),
        }
        // Some registries answer every path with their web page.
        let read: Results = serde_json::from_slice(&answer.document)
            .map_err(|error| none(format!("its answer is none: {error}")))?;
        let mut results = read.results.unwrap_or_default();
        results.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        Ok(results)
    }
}
