//! Listing the tags of a repository.

use ketch_spec::Reference;
use serde::Deserialize;
use ureq::http::{HeaderName, Method, header};

use crate::client::Client;
use crate::error::{Error, Problem, Result};
use crate::route::Endpoint;
use crate::send::{Answer, Call, Payload, Target, Wanted};
use crate::token::Scope;

/// Largest page of a listing, in bytes.
const PAGE_MAX: u64 = 4 << 20;
/// Pages of one listing.
const PAGES_MAX: usize = 1000;
/// Entries of one listing.
const TAGS_MAX: usize = 100_000;

#[derive(Deserialize)]
struct Page {
    /// Go writes an empty list as `null`.
    #[serde(default)]
    tags: Option<Vec<String>>,
}

impl Client {
    /// All tags of the reference's repository, in the registry's order. What is no tag by the grammar is left out.
    ///
    /// # Errors
    /// [`Error::ManifestNotFound`] for a repository that is not there, and those of every call.
    pub fn tags(&self, reference: &Reference) -> Result<Vec<String>> {
        let place = self.origin(reference)?;
        let mut tags = Vec::new();
        let mut target = Target::Path(format!("/v2/{}/tags/list?n=1000", place.repository));
        for _ in 0..PAGES_MAX {
            let answer = self.page(&place, target, &[])?;
            if answer.status == 404 {
                return Err(Error::ManifestNotFound {
                    registry: answer.registry.clone(),
                    reference: reference.familiar_name(),
                    reason: answer.words(),
                });
            }
            let page: Page = self.read_page(&place, &answer)?;
            tags.extend(
                page.tags
                    .unwrap_or_default()
                    .into_iter()
                    .filter(|tag| ketch_spec::reference::is_tag(tag)),
            );
            if tags.len() > TAGS_MAX {
                let limit = TAGS_MAX as u64;
                return Err(answer.wrong(Problem::TooMany { limit }));
            }
            match next(&answer)? {
                Some(further) => target = further,
                None => return Ok(tags),
            }
        }
        Err(Error::Protocol {
            registry: place.registry.host.clone(),
            request: format!("GET /v2/{}/tags/list", place.repository),
            problem: Problem::TooMany {
                limit: PAGES_MAX as u64,
            },
        })
    }

    /// One page of a listing.
    pub(crate) fn page(
        &self,
        place: &Endpoint,
        target: Target,
        headers: &[(HeaderName, String)],
    ) -> Result<Answer> {
        let mut call = Call {
            method: Method::GET,
            target,
            scope: Scope::pull(&place.repository),
            headers: headers.to_vec(),
            payload: Payload::None,
            wanted: Wanted::Document(PAGE_MAX),
        };
        self.call(&place.registry, &mut call)
    }

    pub(crate) fn read_page<T: serde::de::DeserializeOwned>(
        &self,
        place: &Endpoint,
        answer: &Answer,
    ) -> Result<T> {
        if answer.status != 200 {
            let known = self.credentials(&place.registry)?.is_some();
            return Err(answer.refusal(&Scope::pull(&place.repository), known));
        }
        serde_json::from_slice(&answer.document)
            .map_err(|error| answer.wrong(Problem::Document(error.to_string())))
    }
}

/// Where a listing goes on: `Link: </v2/x/tags/list?last=y>; rel="next"` (RFC 8288), at the same registry.
pub(crate) fn next(answer: &Answer) -> Result<Option<Target>> {
    let Some(text) = answer.header(&header::LINK) else {
        return Ok(None);
    };
    let wrong = || {
        answer.wrong(Problem::BadHeader {
            name: "Link",
            value: crate::retry::clean_text(text),
        })
    };
    let (address, parameters) = text
        .trim()
        .strip_prefix('<')
        .and_then(|rest| rest.split_once('>'))
        .ok_or_else(wrong)?;
    if !parameters.replace('"', "").contains("rel=next") {
        return Ok(None);
    }
    let url = answer.url.join(address).ok_or_else(wrong)?;
    // Behind a proxy a registry may not know its own address: only the path counts.
    Ok(Some(Target::Path(url.target)))
}
