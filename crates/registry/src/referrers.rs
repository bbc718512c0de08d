//! What refers to a manifest (signatures, attestations, lists of parts): distribution specification, "Listing
//! Referrers", and the tag that stands for the list where a registry has none.

use ketch_spec::image::{Descriptor, Index, media_type};
use ketch_spec::{Digest, Reference};
use serde::Deserialize;
use ureq::http::HeaderName;

use crate::client::Client;
use crate::error::{Error, Problem, Result};
use crate::route::Endpoint;
use crate::send::{Answer, Target};
use crate::tags::next;
use crate::url::encode_into;

/// Says that the registry lists the manifest among its subject's referrers.
const SUBJECT: HeaderName = HeaderName::from_static("oci-subject");
/// Says which filters an answer went through.
const FILTERS: HeaderName = HeaderName::from_static("oci-filters-applied");
/// Pages of one listing, and entries of a list that we keep.
const PAGES_MAX: usize = 100;
const ENTRIES_MAX: usize = 10_000;

/// What a list of referrers says of a manifest.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Referring {
    #[serde(default)]
    subject: Option<Descriptor>,
    #[serde(default)]
    artifact_type: Option<String>,
    #[serde(default)]
    config: Option<Config>,
    #[serde(default)]
    annotations: serde_json::Map<String, serde_json::Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Config {
    media_type: String,
}

impl Client {
    /// The manifests that refer to `subject`, those of one `artifact_type` where one is given. Empty where there are
    /// none, also for a subject that is not there.
    ///
    /// # Errors
    /// Those of every call.
    pub fn referrers(
        &self,
        reference: &Reference,
        subject: &Digest,
        artifact_type: Option<&str>,
    ) -> Result<Vec<Descriptor>> {
        let place = self.origin(reference)?;
        let mut path = format!("/v2/{}/referrers/{subject}", place.repository);
        if let Some(wanted) = artifact_type {
            path.push_str("?artifactType=");
            encode_into(wanted, &mut path);
        }
        let mut found = Vec::new();
        let mut target = Some(Target::Path(path));
        let mut pages = 0;
        while let Some(page) = target.take() {
            let answer = self.page(&place, page, &[])?;
            if answer.status == 404 && pages == 0 {
                let listed = self.fallback(reference, &place, subject)?;
                return Ok(of_type(
                    listed.map_or(vec![], |list| list.manifests),
                    artifact_type,
                ));
            }
            let index: Index = self.read_page(&place, &answer)?;
            let filtered = answer.header(&FILTERS).is_some_and(|applied| {
                applied.split(',').any(|name| name.trim() == "artifactType")
            });
            found.extend(if filtered {
                index.manifests
            } else {
                of_type(index.manifests, artifact_type)
            });
            pages += 1;
            if pages >= PAGES_MAX || found.len() > ENTRIES_MAX {
                let limit = ENTRIES_MAX as u64;
                return Err(answer.wrong(Problem::TooMany { limit }));
            }
            target = next(&answer)?;
        }
        Ok(found)
    }

    /// After a manifest was stored: names it in its subject's list, where the registry did not say that it does.
    pub(crate) fn after_put(
        &self,
        reference: &Reference,
        place: &Endpoint,
        answer: &Answer,
        media_type: &str,
        bytes: &[u8],
    ) -> Result<()> {
        // What is not read here is the registry's to refuse.
        let Ok(referring) = serde_json::from_slice::<Referring>(bytes) else {
            return Ok(());
        };
        let Some(subject) = &referring.subject else {
            return Ok(());
        };
        if answer.header(&SUBJECT).is_some() {
            return Ok(());
        }
        let entry = entry(media_type, bytes, &referring);
        let mut list = self
            .fallback(reference, place, &subject.digest)?
            .unwrap_or_else(|| Index {
                schema_version: 2,
                media_type: Some(media_type::INDEX.into()),
                manifests: Vec::new(),
                other: Default::default(),
            });
        if list
            .manifests
            .iter()
            .any(|known| known.digest == entry.digest)
        {
            return Ok(());
        }
        list.manifests.push(entry);
        let tag = tag_of(&subject.digest);
        let document = serde_json::to_vec(&list)
            .map_err(|error| answer.wrong(Problem::Document(error.to_string())))?;
        self.put_at(place, &tag, media_type::INDEX, &document)?;
        Ok(())
    }

    /// The list that the tag of a subject names, if there is one.
    fn fallback(
        &self,
        reference: &Reference,
        place: &Endpoint,
        subject: &Digest,
    ) -> Result<Option<Index>> {
        let fetched = match self.fetch_at(reference, &tag_of(subject), None, place) {
            Err(Error::ManifestNotFound { .. }) => return Ok(None),
            fetched => fetched?,
        };
        // A tag of this name that is no index is somebody else's, and stays what it is.
        let list = serde_json::from_slice(&fetched.bytes).map_err(|error| Error::Protocol {
            registry: place.registry.host.clone(),
            request: format!("GET /v2/{}/manifests/{}", place.repository, tag_of(subject)),
            problem: Problem::Document(error.to_string()),
        })?;
        Ok(Some(list))
    }
}

/// `sha256-<hex>`.
fn tag_of(subject: &Digest) -> String {
    subject.as_str().replace(':', "-")
}

/// How a list names a manifest that refers.
fn entry(media_type: &str, bytes: &[u8], referring: &Referring) -> Descriptor {
    let config = referring.config.as_ref().map(|config| &config.media_type);
    let kind = referring
        .artifact_type
        .as_ref()
        .filter(|kind| !kind.is_empty())
        .or(config);
    let mut other = serde_json::Map::new();
    if let Some(kind) = kind {
        other.insert("artifactType".into(), kind.as_str().into());
    }
    let annotations = referring.annotations.iter();
    Descriptor {
        media_type: media_type.into(),
        digest: Digest::of(bytes),
        size: bytes.len() as u64,
        platform: None,
        annotations: annotations
            .filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())))
            .collect(),
        other,
    }
}

fn of_type(mut entries: Vec<Descriptor>, wanted: Option<&str>) -> Vec<Descriptor> {
    if let Some(wanted) = wanted {
        entries.retain(|entry| {
            entry
                .other
                .get("artifactType")
                .and_then(|kind| kind.as_str())
                == Some(wanted)
        });
    }
    entries
}
