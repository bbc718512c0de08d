//! `registries.toml`: mirrors, other locations, insecure hosts, and certificates of registries. The format is in
//! docs/registries.md.

use std::io;
use std::path::{Path, PathBuf};

use ketch_registry::{HostTrust, Rule};
use ketch_spec::Reference;
use serde::Deserialize;
use toml::Spanned;

use super::read_bounded;

/// What is wrong with the file.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It, or a file that it names, cannot be read.
    #[error("read {}: {source}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It is not TOML, or has something that does not belong there.
    #[error("{} line {line}: {message}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// The parser's words.
        message: String,
    },
    /// A value that is none of its kind.
    #[error("{} line {line}: {field} {value:?} is not {expected}", path.display())]
    Value {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// The field.
        field: &'static str,
        /// What stands there.
        value: String,
        /// What should.
        expected: &'static str,
    },
}

/// The settings, ready for a client.
#[derive(Debug, Default)]
pub(super) struct Settings {
    pub rules: Vec<Rule>,
    pub insecure: Vec<String>,
    pub trust: Vec<HostTrust>,
    /// Every host that a reference may lead to.
    pub hosts: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
struct Document {
    insecure_registries: Vec<Spanned<String>>,
    registry: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Entry {
    prefix: Spanned<String>,
    location: Option<Spanned<String>>,
    #[serde(default)]
    insecure: bool,
    #[serde(default)]
    ca: Option<Spanned<String>>,
    client_cert: Option<Spanned<String>>,
    client_key: Option<Spanned<String>>,
    #[serde(default)]
    mirror: Vec<Mirror>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Mirror {
    location: Spanned<String>,
    #[serde(default)]
    insecure: bool,
    #[serde(default)]
    ca: Option<Spanned<String>>,
    client_cert: Option<Spanned<String>>,
    client_key: Option<Spanned<String>>,
}

/// Reads the first file that is there; none means no settings.
pub(super) fn read_first(paths: &[PathBuf]) -> Result<Settings, FileError> {
    for path in paths {
        match read_bytes(path) {
            Ok(bytes) => return Source::new(path, &bytes)?.settings(),
            Err(FileError::Read { source, .. })
                if matches!(
                    source.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                ) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(Settings::default())
}

/// Reads the settings in `bytes`, which messages call `path`, and forgets them.
pub(crate) fn check(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    Source::new(path, bytes)?.settings().map(drop)
}

fn read_bytes(path: &Path) -> Result<Vec<u8>, FileError> {
    read_bounded(path).map_err(|source| FileError::Read {
        path: path.to_owned(),
        source,
    })
}

/// The file being read, for messages and for paths beside it.
struct Source<'a> {
    path: &'a Path,
    text: &'a str,
}

impl<'a> Source<'a> {
    fn new(path: &'a Path, bytes: &'a [u8]) -> Result<Self, FileError> {
        let text = std::str::from_utf8(bytes).map_err(|error| {
            let before = bytes.get(..error.valid_up_to()).unwrap_or_default();
            FileError::Syntax {
                path: path.to_owned(),
                line: 1 + before.iter().filter(|byte| **byte == b'\n').count(),
                message: "it is not UTF-8".into(),
            }
        })?;
        Ok(Self { path, text })
    }

    fn line(&self, at: usize) -> usize {
        let before = self.text.as_bytes().get(..at).unwrap_or_default();
        1 + before.iter().filter(|byte| **byte == b'\n').count()
    }

    fn wrong(
        &self,
        field: &'static str,
        value: &Spanned<String>,
        expected: &'static str,
    ) -> FileError {
        FileError::Value {
            path: self.path.to_owned(),
            line: self.line(value.span().start),
            field,
            value: value.get_ref().clone(),
            expected,
        }
    }

    fn settings(&self) -> Result<Settings, FileError> {
        let document: Document = toml::from_str(self.text).map_err(|error| FileError::Syntax {
            path: self.path.to_owned(),
            line: self.line(error.span().map_or(0, |span| span.start)),
            message: error.message().trim().to_owned(),
        })?;
        let mut settings = Settings::default();
        for entry in document.insecure_registries {
            if !is_host(entry.get_ref()) && !is_block(entry.get_ref()) {
                let expected = "host[:port] or a block of addresses";
                return Err(self.wrong("insecure-registries", &entry, expected));
            }
            settings.insecure.push(entry.into_inner());
        }
        for entry in document.registry {
            self.entry(entry, &mut settings)?;
        }
        Ok(settings)
    }

    fn entry(&self, entry: Entry, settings: &mut Settings) -> Result<(), FileError> {
        let prefix = entry.prefix.get_ref();
        if !is_place(prefix.strip_prefix("*.").unwrap_or(prefix)) {
            let expected = "host[:port][/path] or *.domain";
            return Err(self.wrong("prefix", &entry.prefix, expected));
        }
        let own = match &entry.location {
            Some(location) => self.place("location", location)?,
            None => prefix.clone(),
        };
        let certificates = [&entry.ca, &entry.client_cert, &entry.client_key];
        let named = certificates.into_iter().flatten().next();
        if own.starts_with('*') && (entry.insecure || named.is_some()) {
            let expected = "one host, as insecure, ca and client-cert need it";
            return Err(self.wrong("prefix", &entry.prefix, expected));
        }
        self.host(&own, entry.insecure, certificates, settings)?;
        let mut mirrors = Vec::new();
        for mirror in &entry.mirror {
            let place = self.place("mirror location", &mirror.location)?;
            let certificates = [&mirror.ca, &mirror.client_cert, &mirror.client_key];
            self.host(&place, mirror.insecure, certificates, settings)?;
            mirrors.push(place);
        }
        settings.rules.push(Rule {
            prefix: entry.prefix.into_inner(),
            location: entry.location.map(Spanned::into_inner),
            mirrors,
        });
        Ok(())
    }

    fn place(&self, field: &'static str, value: &Spanned<String>) -> Result<String, FileError> {
        if is_place(value.get_ref()) {
            return Ok(value.get_ref().clone());
        }
        Err(self.wrong(field, value, "host[:port][/path]"))
    }

    /// What is said about the host of a place.
    fn host(
        &self,
        place: &str,
        insecure: bool,
        [ca, chain, key]: [&Option<Spanned<String>>; 3],
        settings: &mut Settings,
    ) -> Result<(), FileError> {
        let host = place.split('/').next().unwrap_or_default().to_owned();
        if host.starts_with('*') {
            return Ok(());
        }
        if insecure {
            settings.insecure.push(host.clone());
        }
        let read = |file: &Spanned<String>| {
            // Relative names are beside the file.
            read_bytes(
                &self
                    .path
                    .parent()
                    .unwrap_or(Path::new("/"))
                    .join(file.get_ref()),
            )
        };
        let identity = match (chain, key) {
            (Some(chain), Some(key)) => Some((read(chain)?, read(key)?)),
            (None, None) => None,
            (Some(one), None) => {
                return Err(self.wrong("client-cert", one, "of use without a client-key"));
            }
            (None, Some(one)) => {
                return Err(self.wrong("client-key", one, "of use without a client-cert"));
            }
        };
        let authorities: Vec<Vec<u8>> = ca.iter().map(read).collect::<Result<_, _>>()?;
        if identity.is_some() || !authorities.is_empty() {
            settings.trust.push(HostTrust {
                host: host.clone(),
                origin: self.path.display().to_string(),
                authorities,
                identity,
            });
        }
        settings.hosts.push(host);
        Ok(())
    }
}

/// `host[:port]`, as references have it.
fn is_host(text: &str) -> bool {
    !text.contains('/') && is_place(text)
}

/// `host[:port][/path]`: what may stand before the rest of a repository.
fn is_place(text: &str) -> bool {
    let (host, path) = text.split_once('/').unwrap_or((text, "x"));
    Reference::parse_name(&format!("{host}/{path}/x"))
        .is_ok_and(|name| name.host == host && name.tag.is_none() && name.digest.is_none())
}

fn is_block(text: &str) -> bool {
    text.split_once('/').is_some_and(|(address, bits)| {
        address.parse::<std::net::IpAddr>().is_ok_and(|address| {
            let width = if address.is_ipv4() { 32 } else { 128 };
            bits.parse::<u8>().is_ok_and(|bits| bits <= width)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Settings, FileError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("registries.toml");
        std::fs::write(&path, text).unwrap();
        std::fs::write(dir.path().join("own.pem"), "pem").unwrap();
        read_first(&[dir.path().join("missing.toml"), path])
    }

    #[test]
    fn settings_become_rules() {
        let settings = read(
            r#"
insecure-registries = ["10.0.0.0/8", "build.example:5000"]

[[registry]]
prefix = "docker.io"
[[registry.mirror]]
location = "mirror.example:5000/hub"
insecure = true
[[registry.mirror]]
location = "second.example"
ca = "own.pem"

[[registry]]
prefix = "*.corp.example"
location = "all.example/corp"
"#,
        )
        .unwrap();
        assert_eq!(
            settings.insecure,
            ["10.0.0.0/8", "build.example:5000", "mirror.example:5000"]
        );
        assert_eq!(
            settings.rules[0],
            Rule {
                prefix: "docker.io".into(),
                location: None,
                mirrors: vec!["mirror.example:5000/hub".into(), "second.example".into()]
            }
        );
        assert_eq!(
            settings.rules[1].location.as_deref(),
            Some("all.example/corp")
        );
        assert_eq!(settings.trust[0].host, "second.example");
        assert_eq!(settings.trust[0].authorities, [b"pem".to_vec()]);
        assert_eq!(
            settings.hosts,
            [
                "docker.io",
                "mirror.example:5000",
                "second.example",
                "all.example"
            ]
        );
        assert!(read_first(&[]).unwrap().rules.is_empty());
    }

    #[test]
    fn mistakes_have_a_line() {
        let cases = [
            ("\n[[registry]\n", "line 2"),
            ("x = 1\n", "line 1: unknown field `x`"),
            (
                "\n\n[[registry]]\nlocation = 'a.example'\n",
                "line 3: missing field `prefix`",
            ),
            (
                "[[registry]]\nprefix = 'docker.io'\nmirors = []\n",
                "line 3: unknown field `mirors`",
            ),
            (
                "[[registry]]\nprefix = 'https://docker.io'\n",
                "line 2: prefix \"https://docker.io\" is not host[:port][/path]",
            ),
            (
                "[[registry]]\nprefix = 'a.example'\n[[registry.mirror]]\n\nlocation = 'm.example/'\n",
                "line 5: mirror location",
            ),
            (
                "insecure-registries = ['a/b']",
                "line 1: insecure-registries",
            ),
            (
                "[[registry]]\nprefix = '*.a.example'\ninsecure = true\n",
                "line 2: prefix \"*.a.example\" is not one host",
            ),
            (
                "[[registry]]\nprefix = 'a.example'\nclient-cert = 'own.pem'\n",
                "line 3: client-cert",
            ),
            (
                "[[registry]]\nprefix = 'a.example'\nca = 'gone.pem'\n",
                "gone.pem",
            ),
        ];
        for (text, words) in cases {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(words), "{text:?}: {error}");
        }
    }
}
