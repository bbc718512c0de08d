//! Uploads: monolithic for small blobs, in parts for large ones, and mounts from other repositories.

use std::io::{self, Read};

use ketch_spec::image::Descriptor;
use ketch_spec::{Digest, Reference};
use ureq::http::{HeaderName, Method, header};

use crate::client::{Client, Registry};
use crate::error::{Error, Problem, Result};
use crate::retry::{clean_text, is_transient_status, pause};
use crate::send::{Answer, Call, Payload, Target, Wanted};
use crate::token::Scope;
use crate::url::Url;

/// Blobs up to this size go in one request, in bytes.
const MONOLITHIC_MAX: u64 = 64 << 20;
/// Size of a part, in bytes.
const PART: u64 = 32 << 20;
/// Largest part that a registry may demand, in bytes.
const PART_MAX: u64 = 1 << 30;
/// Parts that the registry wants at least this large.
const MIN_LENGTH: HeaderName = HeaderName::from_static("oci-chunk-min-length");

/// Opens what is uploaded at an offset in bytes: again for each attempt and for each part.
pub type BlobSource<'a, 'r> = &'a mut dyn FnMut(u64) -> io::Result<Box<dyn Read + 'r>>;

impl Client {
    /// Uploads a blob; `open` gives its bytes from an offset on.
    ///
    /// # Errors
    /// [`Error::Source`] where `open` or its stream fails, [`Error::Unauthorised`], [`Error::Denied`] and those of
    /// every call.
    pub fn upload_blob(
        &self,
        reference: &Reference,
        blob: &Descriptor,
        open: BlobSource<'_, '_>,
    ) -> Result<()> {
        let place = self.origin(reference)?;
        let upload = Upload {
            client: self,
            registry: &place.registry,
            scope: Scope::push(&place.repository),
            blob,
        };
        if blob.size <= MONOLITHIC_MAX {
            upload.monolithic(open)
        } else {
            upload.parts(open)
        }
    }

    /// Makes a blob of the repository `from` (on the same registry) one of the reference's; false where the registry
    /// wants an upload instead.
    pub fn mount(&self, reference: &Reference, digest: &Digest, from: &str) -> Result<bool> {
        let place = self.origin(reference)?;
        let registry = &place.registry;
        let mut source = reference.clone();
        from.clone_into(&mut source.repository);
        let source = self.origin(&source)?;
        if source.registry.host != registry.host {
            return Ok(false);
        }
        let mut target = Url::new(true, "", uploads(&place.repository));
        target.query("mount", digest.as_str());
        target.query("from", &source.repository);
        let scope = Scope {
            from: Some(source.repository),
            ..Scope::push(&place.repository)
        };
        let mut call = Call {
            method: Method::POST,
            target: Target::Path(target.target),
            scope,
            headers: vec![],
            payload: Payload::None,
            wanted: Wanted::Stream,
        };
        let answer = match self.call(registry, &mut call) {
            // A token service may give nothing at all where it does not give the source.
            Err(Error::Unauthorised { .. } | Error::Denied { .. }) => return Ok(false),
            answer => answer?,
        };
        match answer.status {
            201 => Ok(true),
            202 => {
                // An upload was begun instead; the registry forgets it sooner if told.
                if let Ok(location) = session(registry, &answer) {
                    call.method = Method::DELETE;
                    call.target = Target::Url(location);
                    let _ = self.call_once(registry, &mut call);
                }
                Ok(false)
            }
            // The source repository may be one that we may not read.
            401 | 403 | 404 => Ok(false),
            _ => Err(answer.refusal(&call.scope, self.credentials(registry)?.is_some())),
        }
    }
}

struct Upload<'a> {
    client: &'a Client,
    registry: &'a Registry,
    scope: Scope,
    blob: &'a Descriptor,
}

impl Upload<'_> {
    /// POST, then PUT with everything.
    fn monolithic<'r>(&self, open: BlobSource<'_, 'r>) -> Result<()> {
        self.attempts(|| {
            let (mut location, _) = self.begin()?;
            location.query("digest", self.blob.digest.as_str());
            let mut open_all = || open(0);
            let payload = Payload::Stream {
                digest: &self.blob.digest,
                length: self.blob.size,
                open: &mut open_all,
            };
            let answer = self.send(Method::PUT, location, vec![octets()], payload)?;
            if answer.status == 201 {
                Ok(())
            } else {
                Err(Failure::from_answer(self, &answer))
            }
        })
    }

    /// POST, then PATCH for each part, then PUT. A broken part continues where the registry says.
    fn parts<'r>(&self, open: BlobSource<'_, 'r>) -> Result<()> {
        self.attempts(|| {
            let (mut location, part) = self.begin()?;
            let mut position = 0;
            let mut failed = 0;
            while position < self.blob.size {
                let length = part.min(self.blob.size - position);
                match self.send_part(&location, position, length, open) {
                    Ok(next) => {
                        (location, failed) = (next, 0);
                        position += length;
                    }
                    Err(failure) if failure.transient => {
                        failed += 1;
                        if failed >= self.client.shared.options.retry.attempts {
                            return Err(Failure {
                                transient: false,
                                ..failure
                            });
                        }
                        pause(&self.client.shared.options.retry, failed, None);
                        (location, position) = self.status(location, failure)?;
                    }
                    Err(failure) => return Err(failure),
                }
            }
            location.query("digest", self.blob.digest.as_str());
            let answer = self.send(Method::PUT, location, vec![octets()], Payload::None)?;
            if answer.status == 201 {
                Ok(())
            } else {
                Err(Failure::from_answer(self, &answer))
            }
        })
    }

    fn send_part<'r>(
        &self,
        location: &Url,
        position: u64,
        length: u64,
        open: BlobSource<'_, 'r>,
    ) -> Result<Url, Failure> {
        let mut open_part =
            || -> io::Result<Box<dyn Read + 'r>> { Ok(Box::new(open(position)?.take(length))) };
        let range = format!("{position}-{}", position + length - 1);
        let headers = vec![octets(), (header::CONTENT_RANGE, range)];
        let payload = Payload::Stream {
            digest: &self.blob.digest,
            length,
            open: &mut open_part,
        };
        let answer = self.send(Method::PATCH, location.clone(), headers, payload)?;
        match answer.status {
            201 | 202 | 204 => Ok(session(self.registry, &answer)?),
            _ => Err(Failure::from_answer(self, &answer)),
        }
    }

    /// Asks how much of an upload has arrived.
    fn status(&self, location: Url, failure: Failure) -> Result<(Url, u64), Failure> {
        let answer = self.send(Method::GET, location, vec![], Payload::None)?;
        if !matches!(answer.status, 200 | 202 | 204) {
            // The session is lost: a new attempt makes a new one.
            return Err(failure);
        }
        let text = answer.header(&header::RANGE).unwrap_or("0-0");
        let bare = text.strip_prefix("bytes=").unwrap_or(text);
        let last: u64 = bare
            .split_once('-')
            .and_then(|(_, last)| last.trim().parse().ok())
            .ok_or_else(|| {
                answer.wrong(Problem::BadHeader {
                    name: "Range",
                    value: clean_text(text),
                })
            })?;
        // "0-0" is what registries say of an empty upload, too; sending a byte twice would not be forgiven.
        let position = if last == 0 { 0 } else { last + 1 };
        if position > self.blob.size {
            return Err(failure);
        }
        Ok((session(self.registry, &answer)?, position))
    }

    /// Begins an upload: where it goes on, and how large its parts are.
    fn begin(&self) -> Result<(Url, u64), Failure> {
        let mut call = Call {
            method: Method::POST,
            target: Target::Path(uploads(&self.scope.repository)),
            scope: self.scope.clone(),
            headers: vec![],
            payload: Payload::None,
            wanted: Wanted::Stream,
        };
        let answer = self.client.call(self.registry, &mut call)?;
        if answer.status != 202 {
            return Err(Failure::from_answer(self, &answer));
        }
        let part = answer
            .number(&MIN_LENGTH)
            .unwrap_or(0)
            .clamp(PART, PART_MAX);
        Ok((session(self.registry, &answer)?, part))
    }

    fn send(
        &self,
        method: Method,
        location: Url,
        headers: Vec<(HeaderName, String)>,
        payload: Payload<'_, '_>,
    ) -> Result<Answer, Failure> {
        let mut call = Call {
            method,
            target: Target::Url(location),
            scope: self.scope.clone(),
            headers,
            payload,
            wanted: Wanted::Stream,
        };
        Ok(self.client.call_once(self.registry, &mut call)?)
    }

    /// Whether the blob has arrived after all.
    fn is_there(&self) -> bool {
        let mut call = Call {
            method: Method::HEAD,
            target: Target::Path(format!(
                "/v2/{}/blobs/{}",
                self.scope.repository, self.blob.digest
            )),
            scope: self.scope.clone(),
            headers: vec![],
            payload: Payload::None,
            wanted: Wanted::Stream,
        };
        let answer = self.client.call_once(self.registry, &mut call);
        answer.is_ok_and(|answer| answer.status == 200)
    }

    /// Whole uploads, by the policy.
    fn attempts(&self, mut attempt: impl FnMut() -> Result<(), Failure>) -> Result<()> {
        let policy = &self.client.shared.options.retry;
        let mut failed = 1;
        loop {
            match attempt() {
                Err(failure) if failure.transient && failed < policy.attempts => {
                    pause(policy, failed, None);
                    failed += 1;
                    // What broke may have been no more than the answer.
                    if self.is_there() {
                        return Ok(());
                    }
                }
                Err(failure) => return Err(failure.error),
                Ok(()) => return Ok(()),
            }
        }
    }
}

/// An error, and whether the upload may be tried again.
struct Failure {
    error: Error,
    transient: bool,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self {
            transient: error.is_transient(),
            error,
        }
    }
}

impl Failure {
    fn from_answer(upload: &Upload<'_>, answer: &Answer) -> Self {
        let known = upload.client.credentials(upload.registry);
        let with_credentials = known.is_ok_and(|known| known.is_some());
        Self {
            error: answer.refusal(&upload.scope, with_credentials),
            // 416: the registry has more or less of it than we thought, and will say how much.
            transient: is_transient_status(answer.status) || answer.status == 416,
        }
    }
}

fn octets() -> (HeaderName, String) {
    (header::CONTENT_TYPE, "application/octet-stream".into())
}

fn uploads(repository: &str) -> String {
    format!("/v2/{repository}/blobs/uploads/")
}

/// The `Location` of an upload. Registries behind a TLS proxy sometimes call themselves `http`: at the same host the
/// scheme that works is kept.
fn session(registry: &Registry, answer: &Answer) -> Result<Url> {
    let mut location = answer.location()?;
    let root = registry.root();
    if location.authority == root.authority {
        location.secure = root.secure;
    }
    if root.secure && !location.secure {
        return Err(answer.wrong(Problem::Downgrade {
            origin: location.origin(),
        }));
    }
    Ok(location)
}
