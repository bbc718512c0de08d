//! Docker's `certs.d`: a directory a host, `*.crt` for authorities, `x.cert` and `x.key` for ourselves.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use ketch_registry::HostTrust;

use super::read_bounded;

/// Files of one directory that are looked at.
const FILES_MAX: usize = 256;

/// What is wrong with a host's directory.
#[derive(Debug, thiserror::Error)]
pub enum CertificatesError {
    /// It, or a file in it, cannot be read.
    #[error("read {}: {source}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A certificate of ours without its key.
    #[error("missing key {} for client certificate {}: certificates of authorities end in .crt", key.display(), certificate.display())]
    NoKey {
        /// The key that should be there.
        key: PathBuf,
        /// The certificate.
        certificate: PathBuf,
    },
    /// A key without its certificate.
    #[error("missing client certificate {} for key {}", certificate.display(), key.display())]
    NoCertificate {
        /// The certificate that should be there.
        certificate: PathBuf,
        /// The key.
        key: PathBuf,
    },
}

/// The certificates for `host[:port]` in the first directory that has some.
pub(super) fn find(
    directories: &[PathBuf],
    host: &str,
) -> Result<Option<HostTrust>, CertificatesError> {
    // A host is one name: it leads nowhere else.
    if host.contains('/') || host.starts_with('.') {
        return Ok(None);
    }
    for directory in directories {
        if let Some(found) = read(&directory.join(host), host)? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

fn read(directory: &Path, host: &str) -> Result<Option<HostTrust>, CertificatesError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| CertificatesError::Read { path, source }
    };
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            return Ok(None);
        }
        Err(error) => return Err(failed(directory)(error)),
    };
    let mut paths = Vec::new();
    for entry in entries.take(FILES_MAX) {
        paths.push(entry.map_err(failed(directory))?.path());
    }
    paths.sort();
    let mut trust = HostTrust {
        host: host.into(),
        origin: directory.display().to_string(),
        ..HostTrust::default()
    };
    for path in &paths {
        match path.extension().and_then(OsStr::to_str) {
            Some("crt") => trust.authorities.push(read_file(path)?),
            Some("cert") => {
                let key = path.with_extension("key");
                if !paths.contains(&key) {
                    let certificate = path.clone();
                    return Err(CertificatesError::NoKey { key, certificate });
                }
                // A client shows one certificate; the first by name is the one that Docker tries first, too.
                if trust.identity.is_none() {
                    trust.identity = Some((read_file(path)?, read_file(&key)?));
                }
            }
            Some("key") => {
                let certificate = path.with_extension("cert");
                if !paths.contains(&certificate) {
                    let key = path.clone();
                    return Err(CertificatesError::NoCertificate { certificate, key });
                }
            }
            _ => {}
        }
    }
    let any = trust.identity.is_some() || !trust.authorities.is_empty();
    Ok(any.then_some(trust))
}

fn read_file(path: &Path) -> Result<Vec<u8>, CertificatesError> {
    read_bounded(path).map_err(|source| CertificatesError::Read {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hosts_directory_is_read_as_docker_reads_it() {
        let dir = tempfile::tempdir().unwrap();
        let own = dir.path().join("r.example:5000");
        fs::create_dir(&own).unwrap();
        let look = || {
            find(
                &[dir.path().join("none"), dir.path().into()],
                "r.example:5000",
            )
        };
        assert!(look().unwrap().is_none(), "an empty directory says nothing");
        fs::write(own.join("ca.crt"), "authority").unwrap();
        fs::write(own.join("client.cert"), "chain").unwrap();
        let error = look().unwrap_err().to_string();
        assert!(error.contains("client.key"), "{error}");
        fs::write(own.join("client.key"), "key").unwrap();
        let trust = look().unwrap().unwrap();
        assert_eq!(trust.authorities, [b"authority".to_vec()]);
        assert_eq!(trust.identity, Some((b"chain".to_vec(), b"key".to_vec())));
        fs::remove_file(own.join("client.cert")).unwrap();
        let error = look().unwrap_err().to_string();
        assert!(error.contains("missing client certificate"), "{error}");
        let outside = find(&[dir.path().into()], "../r.example:5000");
        assert!(outside.unwrap().is_none());
    }
}
