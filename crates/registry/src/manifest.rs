//! Manifests and indexes: by tag or digest, checked.

use ketch_spec::image::{Descriptor, media_type};
use ketch_spec::{Digest, Reference};
use serde::Deserialize;
use ureq::http::{HeaderName, Method, header};

use crate::client::Client;
use crate::error::{Error, Problem, Result};
use crate::route::Endpoint;
use crate::send::{Answer, Call, Payload, Target, Wanted};
use crate::token::Scope;

/// Largest manifest or index, in bytes: what registries have to accept (distribution specification).
const MANIFEST_MAX: u64 = 4 << 20;
/// Says which digest an answer has.
pub(crate) const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
/// What we understand.
const ACCEPTED: [&str; 4] = [
    media_type::INDEX,
    media_type::MANIFEST,
    media_type::DOCKER_LIST,
    media_type::DOCKER_MANIFEST,
];

/// What images were before 2017: without digests of their configs.
const SCHEMA_1: [&str; 2] = [
    "application/vnd.docker.distribution.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v1+prettyjws",
];

/// A manifest or an index as the registry has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// The exact bytes.
    pub bytes: Vec<u8>,
    /// One of the index and manifest types of [`media_type`].
    pub media_type: String,
    /// Digest of the bytes.
    pub digest: Digest,
}

impl Fetched {
    /// What names it.
    pub fn descriptor(&self) -> Descriptor {
        Descriptor {
            media_type: self.media_type.clone(),
            digest: self.digest.clone(),
            size: self.bytes.len() as u64,
            platform: None,
            annotations: Default::default(),
            other: Default::default(),
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Kind {
    #[serde(default)]
    schema_version: u32,
    #[serde(default)]
    media_type: Option<String>,
    #[serde(default)]
    manifests: Option<serde::de::IgnoredAny>,
}

impl Client {
    /// Fetches what a reference names: by digest where it has one, else by tag.
    ///
    /// # Errors
    /// [`Error::ManifestNotFound`], [`Error::Unauthorised`] (also for repositories that do not exist, where the
    /// registry does not tell), [`Error::Digest`] and those of every call.
    pub fn resolve(&self, reference: &Reference) -> Result<Fetched> {
        match (&reference.digest, &reference.tag) {
            (Some(digest), _) => self.manifest(reference, digest),
            (None, Some(tag)) => self.fetch(reference, tag, None),
            (None, None) => self.fetch(reference, ketch_spec::reference::DEFAULT_TAG, None),
        }
    }

    /// Fetches a manifest of the reference's repository by digest.
    pub fn manifest(&self, reference: &Reference, digest: &Digest) -> Result<Fetched> {
        self.fetch(reference, digest.as_str(), Some(digest))
    }

    /// Asks which digest the reference's tag has now, without fetching it (on Docker Hub that does not count as a
    /// pull); None where the registry does not say.
    pub fn current_digest(&self, reference: &Reference) -> Result<Option<Digest>> {
        let tag = reference
            .tag
            .as_deref()
            .unwrap_or(ketch_spec::reference::DEFAULT_TAG);
        let answer = self.at_sources(reference, |place| {
            self.ask(&Method::HEAD, reference, tag, place)
        })?;
        Ok(answer
            .header(&CONTENT_DIGEST)
            .and_then(|text| text.parse().ok()))
    }

    fn ask(
        &self,
        method: &Method,
        reference: &Reference,
        name: &str,
        place: &Endpoint,
    ) -> Result<Answer> {
        let mut call = Call {
            method: method.clone(),
            target: Target::Path(format!("/v2/{}/manifests/{name}", place.repository)),
            scope: Scope::pull(&place.repository),
            headers: vec![(header::ACCEPT, ACCEPTED.join(", "))],
            payload: Payload::None,
            wanted: Wanted::Document(MANIFEST_MAX),
        };
        let answer = self.read_at(place, &mut call)?;
        match answer.status {
            200 => Ok(answer),
            404 => Err(Error::ManifestNotFound {
                registry: place.registry.host.clone(),
                reference: reference.familiar(),
                reason: answer.words(),
            }),
            _ => Err(answer.refusal(&call.scope, self.credentials(&place.registry)?.is_some())),
        }
    }

    fn fetch(&self, reference: &Reference, name: &str, wanted: Option<&Digest>) -> Result<Fetched> {
        self.at_sources(reference, |place| {
            self.fetch_at(reference, name, wanted, place)
        })
    }

    /// Fetches from one place, which may be a mirror.
    pub(crate) fn fetch_at(
        &self,
        reference: &Reference,
        name: &str,
        wanted: Option<&Digest>,
        place: &Endpoint,
    ) -> Result<Fetched> {
        let answer = self.ask(&Method::GET, reference, name, place)?;
        let digest = Digest::of(&answer.document);
        // The header is the registry's promise; another algorithm in it is not checked.
        let promised = answer
            .header(&CONTENT_DIGEST)
            .and_then(|text| text.parse::<Digest>().ok());
        for expected in wanted.into_iter().chain(promised.as_ref()) {
            if *expected != digest {
                return Err(Error::Digest {
                    registry: answer.registry,
                    what: format!("the manifest of {}", reference.familiar()),
                    expected: expected.clone(),
                    actual: digest,
                });
            }
        }
        let media_type = media_type_of(reference, &answer)?;
        Ok(Fetched {
            bytes: answer.document,
            media_type,
            digest,
        })
    }

    /// Stores a manifest under the reference's tag, or under its digest where it has no tag. Where it refers to another
    /// manifest (`subject`) and the registry does not list such itself, the list that stands for it is brought up to
    /// date (distribution specification, "Pushing Manifests with Subject").
    ///
    /// # Errors
    /// [`Error::Digest`] where the registry understood other bytes, and those of every call.
    pub fn put_manifest(
        &self,
        reference: &Reference,
        media_type: &str,
        bytes: &[u8],
    ) -> Result<Digest> {
        let place = self.origin(reference)?;
        let digest = Digest::of(bytes);
        let name = reference.tag.as_deref().unwrap_or(digest.as_str());
        let answer = self.put_at(&place, name, media_type, bytes)?;
        if let Some(stored) = answer
            .header(&CONTENT_DIGEST)
            .and_then(|text| text.parse::<Digest>().ok())
            && stored != digest
        {
            return Err(Error::Digest {
                registry: answer.registry,
                what: format!("the pushed manifest of {}", reference.familiar()),
                expected: digest,
                actual: stored,
            });
        }
        self.after_put(reference, &place, &answer, media_type, bytes)?;
        Ok(digest)
    }

    pub(crate) fn put_at(
        &self,
        place: &Endpoint,
        name: &str,
        media_type: &str,
        bytes: &[u8],
    ) -> Result<Answer> {
        let mut call = Call {
            method: Method::PUT,
            target: Target::Path(format!("/v2/{}/manifests/{name}", place.repository)),
            scope: Scope::push(&place.repository),
            headers: vec![(header::CONTENT_TYPE, media_type.into())],
            payload: Payload::Bytes(bytes),
            wanted: Wanted::Document(MANIFEST_MAX),
        };
        let answer = self.call(&place.registry, &mut call)?;
        if matches!(answer.status, 200..=202) {
            return Ok(answer);
        }
        Err(answer.refusal(&call.scope, self.credentials(&place.registry)?.is_some()))
    }
}

/// The type that the document says, which has to be the one that the header says: a difference would let two
/// readers see two images in the same bytes.
pub(crate) fn media_type_of(reference: &Reference, answer: &Answer) -> Result<String> {
    let kind: Kind = ketch_spec::document::parse(&answer.document)
        .map_err(|error| answer.wrong(Problem::Document(error.to_string())))?;
    let header = answer.header(&header::CONTENT_TYPE).unwrap_or_default();
    let header = header
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_owned();
    let unsupported = |media_type: String| Error::MediaType {
        registry: answer.registry.clone(),
        reference: reference.familiar(),
        media_type,
    };
    if kind.schema_version == 1 || SCHEMA_1.contains(&header.as_str()) {
        return Err(unsupported("a Docker manifest of schema version 1".into()));
    }
    if kind.schema_version != 2 {
        let name = format!("a manifest of schema version {}", kind.schema_version);
        return Err(unsupported(name));
    }
    let known = |name: &str| ACCEPTED.contains(&name);
    let media_type = match kind.media_type {
        Some(named) if known(&named) => {
            if known(&header) && header != named {
                let value = header;
                return Err(answer.wrong(Problem::BadHeader {
                    name: "Content-Type",
                    value,
                }));
            }
            named
        }
        Some(named) => return Err(unsupported(crate::retry::clean_text(&named))),
        None if known(&header) => header,
        None if kind.manifests.is_some() => media_type::INDEX.into(),
        None => media_type::MANIFEST.into(),
    };
    let is_index = matches!(
        media_type.as_str(),
        media_type::INDEX | media_type::DOCKER_LIST
    );
    if is_index != kind.manifests.is_some() {
        let problem = Problem::Document(format!("its content is not what {media_type} has"));
        return Err(answer.wrong(problem));
    }
    Ok(media_type)
}
