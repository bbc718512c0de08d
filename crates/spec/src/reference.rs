//! Image references: `[host[:port]/]repository[:tag][@digest]`, as `docker` reads them
//! (the grammar and the default rules are those of distribution/reference).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::Digest;

/// The host that a reference without one means.
pub const DEFAULT_HOST: &str = "docker.io";
/// The tag that a reference with neither tag nor digest means.
pub const DEFAULT_TAG: &str = "latest";
/// First part of the repositories of Docker Hub that have a one-word name.
const OFFICIAL_PREFIX: &str = "library/";
/// Longest repository, in bytes.
const REPOSITORY_MAX: usize = 255;
/// Longest tag, in bytes.
const TAG_MAX: usize = 128;
/// Longest text looked at: repository, tag, digest and a DNS name with port fit in it.
const TEXT_MAX: usize = 1024;

/// A reference in its full form: `docker.io/library/busybox:latest`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Reference {
    /// Registry host, with port: `docker.io` by default.
    pub host: String,
    /// Path: `library/busybox` for `busybox` on Docker Hub.
    pub repository: String,
    /// Tag; None only where there is a digest (or after [`Reference::parse_name`]).
    pub tag: Option<String>,
    /// Digest.
    pub digest: Option<Digest>,
}

/// Why a text is not a reference; the words are Docker's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// It does not follow the grammar.
    #[error("invalid reference format")]
    Format {
        /// What was given, cut to a bounded length.
        text: String,
    },
    /// The repository has upper-case letters.
    #[error("invalid reference format: repository name ({repository}) must be lowercase")]
    Uppercase {
        /// The repository with its defaults.
        repository: String,
    },
    /// 64 hexadecimal digits are always an id.
    #[error("invalid repository name ({text}), cannot specify 64-byte hexadecimal strings")]
    Identifier {
        /// What was given.
        text: String,
    },
    /// The repository is longer than 255 bytes.
    #[error("repository name must not be more than {REPOSITORY_MAX} characters")]
    TooLong,
    /// The digest is of an algorithm other than sha256, or malformed.
    #[error("invalid reference format: {source}")]
    Digest {
        /// What is wrong with it.
        source: crate::digest::DigestError,
    },
}

impl Reference {
    /// Reads a reference and keeps `tag` empty where none is written: for callers that say
    /// "Using default tag: latest", or for whom a bare name means all tags.
    pub fn parse_name(text: &str) -> Result<Self, ReferenceError> {
        if text.len() > TEXT_MAX {
            return Err(format_error(text));
        }
        if text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(ReferenceError::Identifier { text: text.into() });
        }
        let (host, rest) = split_host(text);
        let before_colon = rest.split(':').next().unwrap_or_default();
        if before_colon.chars().any(char::is_uppercase) {
            return Err(ReferenceError::Uppercase {
                repository: before_colon.into(),
            });
        }
        let (named, digest) = match rest.split_once('@') {
            Some((named, digest)) => (named, Some(parse_digest(text, digest)?)),
            None => (rest.as_str(), None),
        };
        let (repository, tag) = match named.split_once(':') {
            Some((repository, tag)) if is_tag(tag) => (repository, Some(tag.to_owned())),
            Some(_) => return Err(format_error(text)),
            None => (named, None),
        };
        if !is_host(&host) || !repository.split('/').all(is_path_component) {
            return Err(format_error(text));
        }
        if repository.len() > REPOSITORY_MAX {
            return Err(ReferenceError::TooLong);
        }
        Ok(Self {
            host,
            repository: repository.into(),
            tag,
            digest,
        })
    }

    /// The same reference with tag `latest` where it has neither tag nor digest.
    #[must_use]
    pub fn with_default_tag(mut self) -> Self {
        if self.tag.is_none() && self.digest.is_none() {
            self.tag = Some(DEFAULT_TAG.into());
        }
        self
    }

    /// The same repository with this digest and no tag.
    #[must_use]
    pub fn with_digest(&self, digest: Digest) -> Self {
        Self {
            tag: None,
            digest: Some(digest),
            ..self.clone()
        }
    }

    /// Host and repository: `docker.io/library/busybox`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.host, self.repository)
    }

    /// Host and repository as Docker shows them: `busybox`, `bitnami/redis`, `localhost:5000/x`.
    pub fn familiar_name(&self) -> String {
        if self.host != DEFAULT_HOST {
            return self.name();
        }
        let short = match self.repository.strip_prefix(OFFICIAL_PREFIX) {
            Some(official) if !official.contains('/') => official,
            _ => &self.repository,
        };
        // Not where the short form means something else: another host, or an id.
        match Self::parse_name(short) {
            Ok(meant) if meant.host == self.host && meant.repository == self.repository => {
                short.into()
            }
            _ => self.name(),
        }
    }

    /// The short form that Docker shows: `busybox:latest`, `localhost:5000/x:1`, `busybox@sha256:…`.
    pub fn familiar(&self) -> String {
        let mut text = self.familiar_name();
        self.push_suffix(&mut text);
        text
    }

    /// Appends `:tag` and `@digest`.
    fn push_suffix(&self, text: &mut String) {
        if let Some(tag) = &self.tag {
            text.push(':');
            text.push_str(tag);
        }
        if let Some(digest) = &self.digest {
            text.push('@');
            text.push_str(digest.as_str());
        }
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;
    /// Reads a reference with all defaults, the tag `latest` included.
    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        Ok(Self::parse_name(text)?.with_default_tag())
    }
}

impl TryFrom<String> for Reference {
    type Error = ReferenceError;
    fn try_from(text: String) -> Result<Self, ReferenceError> {
        text.parse()
    }
}

impl From<Reference> for String {
    fn from(reference: Reference) -> String {
        reference.to_string()
    }
}

impl fmt::Display for Reference {
    /// The full form, which is also what the store keeps.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = self.name();
        self.push_suffix(&mut text);
        f.write_str(&text)
    }
}

/// Whether `text` is a tag: `[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}`.
pub fn is_tag(text: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let mut bytes = text.bytes();
    text.len() <= TAG_MAX
        && bytes.next().is_some_and(word)
        && bytes.all(|b| word(b) || b == b'.' || b == b'-')
}

fn format_error(text: &str) -> ReferenceError {
    ReferenceError::Format {
        text: text.chars().take(TEXT_MAX).collect(),
    }
}

/// Decides whether the first component is a host: it is one if it has a dot or a colon, is
/// `localhost`, or has upper-case letters (which no repository has).
fn split_host(text: &str) -> (String, String) {
    let (host, repository) = match text.split_once('/') {
        Some(("index.docker.io", rest)) => (DEFAULT_HOST, rest),
        Some((first, rest))
            if first == "localhost"
                || first.contains(['.', ':'])
                || first.chars().any(char::is_uppercase) =>
        {
            (first, rest)
        }
        _ => (DEFAULT_HOST, text),
    };
    if host == DEFAULT_HOST && !repository.contains('/') {
        (host.into(), format!("{OFFICIAL_PREFIX}{repository}"))
    } else {
        (host.into(), repository.into())
    }
}

fn parse_digest(text: &str, digest: &str) -> Result<Digest, ReferenceError> {
    let Some((algorithm, hex)) = digest.split_once(':') else {
        return Err(format_error(text));
    };
    let plausible = algorithm.starts_with(|c: char| c.is_ascii_alphabetic())
        && hex.len() >= 32
        && hex.bytes().all(|b| b.is_ascii_hexdigit());
    if !plausible {
        return Err(format_error(text));
    }
    digest
        .parse()
        .map_err(|source| ReferenceError::Digest { source })
}

/// `alphanumeric [separator alphanumeric]*`, separators `.`, `_`, `__` and any run of `-`.
fn is_path_component(text: &str) -> bool {
    let bytes = text.as_bytes();
    let mut at = 0;
    loop {
        let start = at;
        while at < bytes.len() && matches!(bytes[at], b'a'..=b'z' | b'0'..=b'9') {
            at += 1;
        }
        if at == start {
            return false;
        }
        if at == bytes.len() {
            return true;
        }
        at += match &bytes[at..] {
            [b'_', b'_', ..] => 2,
            [b'.' | b'_', ..] => 1,
            [b'-', ..] => bytes[at..].iter().take_while(|b| **b == b'-').count(),
            _ => return false,
        };
    }
}

/// A DNS name, an IPv4 address or an IPv6 address in brackets, each with an optional port.
fn is_host(text: &str) -> bool {
    let (name, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let Some((address, after)) = rest.split_once(']') else {
                return false;
            };
            if address.parse::<std::net::Ipv6Addr>().is_err() {
                return false;
            }
            match after.strip_prefix(':') {
                Some(port) => (None, Some(port)),
                None if after.is_empty() => (None, None),
                None => return false,
            }
        }
        None => match text.split_once(':') {
            Some((name, port)) => (Some(name), Some(port)),
            None => (Some(text), None),
        },
    };
    let port_valid = port.is_none_or(|p| !p.is_empty() && p.bytes().all(|b| b.is_ascii_digit()));
    port_valid && name.is_none_or(|name| name.split('.').all(is_host_component))
}

fn is_host_component(text: &str) -> bool {
    !text.is_empty()
        && !text.starts_with('-')
        && !text.ends_with('-')
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_short_form_never_means_another_registry() {
        let id = "a".repeat(64);
        for (text, familiar) in [
            ("docker.io/evil.example/x:1", "docker.io/evil.example/x:1"),
            ("docker.io/localhost/x:1", "docker.io/localhost/x:1"),
            (
                &format!("docker.io/library/{id}:1"),
                &format!("docker.io/library/{id}:1"),
            ),
            ("docker.io/library/busybox:1", "busybox:1"),
            ("docker.io/a/b:1", "a/b:1"),
        ] {
            let reference: Reference = text.parse().unwrap();
            assert_eq!(reference.familiar(), familiar);
            assert_eq!(familiar.parse::<Reference>().unwrap(), reference);
        }
    }

    #[test]
    fn full_and_familiar_forms() {
        let hex = "a".repeat(64);
        let by_digest = format!("busybox@sha256:{hex}");
        let cases = [
            (
                "busybox",
                "docker.io/library/busybox:latest",
                "busybox:latest",
            ),
            (
                "busybox:1.36",
                "docker.io/library/busybox:1.36",
                "busybox:1.36",
            ),
            (
                "bitnami/redis",
                "docker.io/bitnami/redis:latest",
                "bitnami/redis:latest",
            ),
            (
                "docker.io/busybox",
                "docker.io/library/busybox:latest",
                "busybox:latest",
            ),
            ("index.docker.io/a/b", "docker.io/a/b:latest", "a/b:latest"),
            (
                "library/a/b",
                "docker.io/library/a/b:latest",
                "library/a/b:latest",
            ),
            ("localhost/x", "localhost/x:latest", "localhost/x:latest"),
            (
                "localhost:5000/x:1",
                "localhost:5000/x:1",
                "localhost:5000/x:1",
            ),
            ("ghcr.io/a/b/c:v1", "ghcr.io/a/b/c:v1", "ghcr.io/a/b/c:v1"),
            ("[::1]:5000/x", "[::1]:5000/x:latest", "[::1]:5000/x:latest"),
            ("Foo/bar", "Foo/bar:latest", "Foo/bar:latest"),
            (
                "a__b--c/d.e_f",
                "docker.io/a__b--c/d.e_f:latest",
                "a__b--c/d.e_f:latest",
            ),
            ("x:_A.b-9", "docker.io/library/x:_A.b-9", "x:_A.b-9"),
        ];
        for (text, full, familiar) in cases {
            let reference: Reference = text.parse().unwrap_or_else(|e| panic!("{text}: {e}"));
            assert_eq!(reference.to_string(), full, "{text}");
            assert_eq!(reference.familiar(), familiar, "{text}");
        }
        let reference: Reference = by_digest.parse().unwrap();
        assert_eq!(
            (reference.tag.as_deref(), reference.familiar()),
            (None, by_digest.clone())
        );
        assert_eq!(Reference::parse_name("busybox").unwrap().tag, None);
        let both: Reference = format!("x:1@sha256:{hex}").parse().unwrap();
        assert_eq!(
            both.to_string(),
            format!("docker.io/library/x:1@sha256:{hex}")
        );
    }

    #[test]
    fn refusals_use_dockers_words() {
        let long = format!("a/{}", "b".repeat(254));
        let tag = format!("a:{}", "t".repeat(129));
        let hex = "0123456789abcdef".repeat(4);
        let format = "invalid reference format";
        let cases = [
            ("", format),
            (
                "Foo",
                "invalid reference format: repository name (library/Foo) must be lowercase",
            ),
            (
                "a/Foo:X",
                "invalid reference format: repository name (a/Foo) must be lowercase",
            ),
            (":tag", format),
            ("a:", format),
            ("a:b:c", format),
            ("a b", format),
            ("a//b", format),
            ("/a", format),
            ("a/", format),
            ("-a", format),
            ("a-", format),
            ("a..b", format),
            ("a___b", format),
            ("a:-x", format),
            (&tag, format),
            ("host.name:port/x", format),
            ("-h.x/y", format),
            ("[::1/x", format),
            ("a@", format),
            ("a@sha256:00", format),
            ("é", format),
            (
                &long,
                "repository name must not be more than 255 characters",
            ),
        ];
        for (text, message) in cases {
            let error = text.parse::<Reference>().expect_err(text);
            assert_eq!(error.to_string(), message, "{text}");
        }
        assert!(matches!(
            hex.parse::<Reference>(),
            Err(ReferenceError::Identifier { .. })
        ));
        let sha512 = format!("a@sha512:{}", "0".repeat(128));
        assert!(matches!(
            sha512.parse::<Reference>(),
            Err(ReferenceError::Digest { .. })
        ));
    }

    proptest! {
        #[test]
        fn never_panics(text in "\\PC{0,80}") {
            let _ = text.parse::<Reference>();
        }

        #[test]
        fn full_form_reads_back(
            host in "(localhost|[a-z]{1,8}\\.[a-z]{2,3}|[a-z]{1,8}:[0-9]{1,5})",
            path in "[a-z0-9]{1,8}([._-][a-z0-9]{1,4})?(/[a-z0-9]{1,8}){0,3}",
            tag in "[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}",
        ) {
            let reference: Reference = format!("{host}/{path}:{tag}").parse().unwrap();
            prop_assert_eq!(&reference.to_string().parse::<Reference>().unwrap(), &reference);
            prop_assert_eq!(reference.familiar().parse::<Reference>().unwrap(), reference);
        }

        #[test]
        fn what_parses_reads_back(text in "[a-zA-Z0-9:/@._-]{0,40}") {
            if let Ok(reference) = text.parse::<Reference>() {
                prop_assert_eq!(reference.to_string().parse::<Reference>().unwrap(), reference);
            }
        }
    }
}
