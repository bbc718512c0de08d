//! Blobs: existence, and streams that resume and check themselves.

use std::io::{self, Read};

use ketch_spec::image::Descriptor;
use ketch_spec::{Digest, Reference};
use sha2::Digest as _;
use ureq::http::{Method, header};

use crate::client::Client;
use crate::error::{Error, Problem, Result};
use crate::retry::pause;
use crate::route::Endpoint;
use crate::send::{Answer, Call, Payload, Target, Wanted};
use crate::token::Scope;
use crate::url::{Url, is_loopback};

/// Progress that makes up for one broken connection, in bytes: a connection that keeps breaking is
/// followed as long as it brings the download forward, and not longer.
const WORTH_A_BREAK: u64 = 1 << 20;

/// URLs of one descriptor that are tried.
const URLS_MAX: usize = 8;

impl Client {
    /// Opens a blob at `offset` (in bytes).
    ///
    /// The stream continues over broken connections by itself. It ends after exactly the bytes that the
    /// descriptor promises; if it began at 0 and their digest is wrong, its last read is an error instead.
    /// Its errors wrap an [`Error`].
    ///
    /// # Errors
    /// [`Error::BlobNotFound`] and those of every call.
    pub fn blob(
        &self,
        reference: &Reference,
        blob: &Descriptor,
        offset: u64,
    ) -> Result<Box<dyn Read + Send>> {
        let hasher = (offset == 0).then(sha2::Sha256::new);
        self.stream(reference, blob, offset, hasher)
    }

    /// As [`Client::blob`], for a caller that hashes what it gets itself: a digest that is wrong does not show here.
    ///
    /// # Errors
    /// As [`Client::blob`].
    pub fn unchecked_blob(
        &self,
        reference: &Reference,
        blob: &Descriptor,
        offset: u64,
    ) -> Result<Box<dyn Read + Send>> {
        self.stream(reference, blob, offset, None)
    }

    fn stream(
        &self,
        reference: &Reference,
        blob: &Descriptor,
        offset: u64,
        hasher: Option<sha2::Sha256>,
    ) -> Result<Box<dyn Read + Send>> {
        let mut stream = BlobStream {
            client: self.clone(),
            reference: reference.clone(),
            elsewhere: elsewhere(blob),
            blob: blob.clone(),
            position: offset.min(blob.size),
            connection: None,
            hasher,
            breaks: 0,
            progress: 0,
        };
        if stream.position < blob.size {
            stream.connection = Some(stream.connect()?);
        } else {
            stream.check()?;
        }
        Ok(Box::new(stream))
    }

    /// Whether the reference's repository has a blob.
    pub fn blob_exists(&self, reference: &Reference, digest: &Digest) -> Result<bool> {
        let place = self.origin(reference)?;
        let answer = self.blob_answer(Method::HEAD, &place, digest, 0)?;
        match answer.status {
            200 => Ok(true),
            404 => Ok(false),
            _ => Err(self.blob_refusal(&place, digest, &answer)),
        }
    }

    fn blob_answer(
        &self,
        method: Method,
        place: &Endpoint,
        digest: &Digest,
        offset: u64,
    ) -> Result<Answer> {
        let path = format!("/v2/{}/blobs/{digest}", place.repository);
        let mut call = blob_call(method, Target::Path(path), &place.repository, offset);
        self.read_at(place, &mut call)
    }

    fn blob_refusal(&self, place: &Endpoint, digest: &Digest, answer: &Answer) -> Error {
        if answer.status == 404 {
            return Error::BlobNotFound {
                registry: answer.registry.clone(),
                repository: place.repository.clone(),
                digest: digest.clone(),
                reason: answer.words(),
            };
        }
        let known = self
            .credentials(&place.registry)
            .is_ok_and(|known| known.is_some());
        answer.refusal(&Scope::pull(&place.repository), known)
    }
}

fn blob_call<'a, 'r>(
    method: Method,
    target: Target,
    repository: &str,
    offset: u64,
) -> Call<'a, 'r> {
    let range = (header::RANGE, format!("bytes={offset}-"));
    Call {
        method,
        target,
        scope: Scope::pull(repository),
        headers: if offset > 0 { vec![range] } else { vec![] },
        payload: Payload::None,
        wanted: Wanted::Stream,
    }
}

/// Where a blob that the registry need not have may be had, by its descriptor (image specification, "Descriptors").
/// Plain HTTP only from this machine: the digest would tell a change, but not that somebody reads along.
fn elsewhere(blob: &Descriptor) -> Vec<Url> {
    let urls = blob.other.get("urls").and_then(|urls| urls.as_array());
    urls.into_iter()
        .flatten()
        .filter_map(|url| Url::parse(url.as_str()?))
        .filter(|url| url.secure || is_loopback(&url.authority))
        .take(URLS_MAX)
        .collect()
}

struct BlobStream {
    client: Client,
    reference: Reference,
    blob: Descriptor,
    /// URLs of the descriptor, asked first.
    elsewhere: Vec<Url>,
    /// Bytes that the caller has, or skipped.
    position: u64,
    connection: Option<Box<dyn Read + Send>>,
    /// Present if all bytes from the first on go through it and the caller does not hash them itself.
    hasher: Option<sha2::Sha256>,
    /// Broken connections that no progress has made up for.
    breaks: u32,
    /// Bytes since the last break.
    progress: u64,
}

impl BlobStream {
    /// A connection that delivers from `position` on: from where the descriptor says, from a mirror, from the origin.
    fn connect(&self) -> Result<Box<dyn Read + Send>> {
        for url in &self.elsewhere {
            let place = self.client.origin(&self.reference)?;
            let repository = &place.repository;
            let mut call = blob_call(
                Method::GET,
                Target::Url(url.clone()),
                repository,
                self.position,
            );
            let answer = self.client.call_once(&place.registry, &mut call);
            // What is not to be had there, the registry may have.
            if let Ok(reader) = answer.and_then(|answer| self.reader(&place, answer)) {
                return Ok(reader);
            }
        }
        self.client.at_sources(&self.reference, |place| {
            let digest = &self.blob.digest;
            let answer = self
                .client
                .blob_answer(Method::GET, place, digest, self.position)?;
            self.reader(place, answer)
        })
    }

    /// The body of an answer from `position` on.
    fn reader(&self, place: &Endpoint, mut answer: Answer) -> Result<Box<dyn Read + Send>> {
        let first = match answer.status {
            200 => 0,
            206 => range_start(&answer)?,
            _ => return Err(self.client.blob_refusal(place, &self.blob.digest, &answer)),
        };
        if first > self.position || (answer.status == 206 && first != self.position) {
            return Err(answer.wrong(Problem::Range {
                got: first,
                wanted: self.position,
            }));
        }
        let rest = self.blob.size - first;
        if let Some(announced) = answer.number(&header::CONTENT_LENGTH)
            && announced != rest
            && answer.status == 200
        {
            return Err(self.size_error(first + announced));
        }
        let Some(body) = answer.body.take() else {
            return Err(answer.wrong(Problem::NoHeader("Content-Length")));
        };
        let mut reader: Box<dyn Read + Send> = Box::new(body.into_reader());
        // A server without ranges sends it all again.
        let skip = self.position - first;
        if skip > 0 {
            let skipped = io::copy(&mut (&mut reader).take(skip), &mut io::sink());
            if skipped.is_err() || skipped.is_ok_and(|skipped| skipped < skip) {
                return Err(self.cut("the connection broke"));
            }
        }
        Ok(reader)
    }

    /// Decides whether a broken connection is followed by another one.
    fn broken(&mut self, reason: &str) -> Result<()> {
        if self.progress >= WORTH_A_BREAK {
            self.breaks = 0;
        }
        self.progress = 0;
        self.breaks += 1;
        let policy = &self.client.shared.options.retry;
        if self.breaks >= policy.attempts {
            return Err(self.cut(reason));
        }
        pause(policy, self.breaks, None);
        Ok(())
    }

    fn cut(&self, reason: &str) -> Error {
        Error::Cut {
            registry: self.reference.host.clone(),
            digest: self.blob.digest.clone(),
            position: self.position,
            size: self.blob.size,
            reason: reason.into(),
        }
    }

    fn size_error(&self, actual: u64) -> Error {
        Error::Size {
            registry: self.reference.host.clone(),
            what: self.blob.digest.to_string(),
            expected: self.blob.size,
            actual,
        }
    }

    /// Compares the digest, once all bytes went through.
    fn check(&mut self) -> Result<()> {
        let Some(hasher) = self.hasher.take() else {
            return Ok(());
        };
        let actual = Digest::from_sha256(hasher.finalize().into());
        if actual == self.blob.digest {
            return Ok(());
        }
        Err(Error::Digest {
            registry: self.reference.host.clone(),
            what: "a blob".into(),
            expected: self.blob.digest.clone(),
            actual,
        })
    }

    fn took(&mut self, bytes: &[u8]) -> io::Result<()> {
        if let Some(hasher) = &mut self.hasher {
            hasher.update(bytes);
        }
        self.position += bytes.len() as u64;
        self.progress += bytes.len() as u64;
        if self.position == self.blob.size {
            self.connection = None;
            self.check().map_err(io::Error::other)?;
        }
        Ok(())
    }
}

impl Read for BlobStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let rest = self.blob.size - self.position;
        let length = buffer
            .len()
            .min(usize::try_from(rest).unwrap_or(usize::MAX));
        if length == 0 {
            return Ok(0);
        }
        loop {
            let mut connection = match self.connection.take() {
                Some(connection) => connection,
                None => match self.connect() {
                    Ok(connection) => connection,
                    Err(error @ Error::Cut { .. }) => {
                        self.broken(&error.to_string()).map_err(io::Error::other)?;
                        continue;
                    }
                    // The call itself had its attempts.
                    Err(error) => return Err(io::Error::other(error)),
                },
            };
            let reason = match connection.read(&mut buffer[..length]) {
                Ok(0) => "the connection ended early".to_owned(),
                Ok(read) => {
                    self.connection = Some(connection);
                    self.took(&buffer[..read])?;
                    return Ok(read);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                    self.connection = Some(connection);
                    continue;
                }
                Err(error) => error.to_string(),
            };
            self.broken(&reason).map_err(io::Error::other)?;
        }
    }
}

/// The first byte of `Content-Range: bytes 10-19/20`.
pub(crate) fn range_start(answer: &Answer) -> Result<u64> {
    let text = answer
        .header(&header::CONTENT_RANGE)
        .ok_or_else(|| answer.wrong(Problem::NoHeader("Content-Range")))?;
    let range = text
        .trim()
        .strip_prefix("bytes ")
        .and_then(|range| range.split('-').next());
    range
        .and_then(|first| first.trim().parse().ok())
        .ok_or_else(|| {
            let value = crate::retry::clean_text(text);
            answer.wrong(Problem::BadHeader {
                name: "Content-Range",
                value,
            })
        })
}
