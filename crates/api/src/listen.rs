//! Where to listen, and making that socket so that it is never open to more than its mode says.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::error::ServeError;

/// Its owner and its group may speak to the engine: that is as good as being root.
const MODE: u32 = 0o660;

/// Where to listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// A unix socket that we make.
    Unix(PathBuf),
    /// The socket that a service manager hands over.
    Inherited,
}

/// Why a text is not an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// A kind of socket that is not served.
    #[error(
        "{scheme}:// is not supported: the engine is as powerful as root, so reach its unix socket through ssh or a proxy that knows who is asking"
    )]
    Scheme {
        /// `tcp`, …
        scheme: String,
    },
    /// A path that depends on where the server was started.
    #[error("invalid bind address {text:?}: not unix:// with an absolute path")]
    Path {
        /// What was given.
        text: String,
    },
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        let path = match text.split_once("://") {
            Some(("unix", path)) => path,
            Some(("fd", _)) => return Ok(Self::Inherited),
            Some((scheme, _)) => {
                return Err(EndpointError::Scheme {
                    scheme: scheme.into(),
                });
            }
            None => text,
        };
        if path.starts_with('/') {
            Ok(Self::Unix(path.into()))
        } else {
            Err(EndpointError::Path { text: text.into() })
        }
    }
}

/// A socket that we made: its path goes with it, unless somebody else has taken the path meanwhile.
#[derive(Debug)]
pub struct OwnSocket {
    path: PathBuf,
    identity: (u64, u64),
}

impl OwnSocket {
    /// Makes the socket under another name, sets its mode, and only then gives it its own: nobody can connect before.
    ///
    /// # Errors
    /// Another server answers there; the system calls'.
    pub fn bind(path: &Path) -> Result<(UnixListener, Self), ServeError> {
        let failed = |call: &'static str, path: &Path| {
            let path = path.to_owned();
            move |source: io::Error| ServeError::Socket { call, path, source }
        };
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(failed("mkdir", parent))?;
        }
        if UnixStream::connect(path).is_ok() {
            return Err(ServeError::AlreadyServed { path: path.into() });
        }
        if let Ok(there) = fs::symlink_metadata(path)
            && !std::os::unix::fs::FileTypeExt::is_socket(&there.file_type())
        {
            let source =
                io::Error::new(io::ErrorKind::AlreadyExists, "it is there and not a socket");
            return Err(failed("bind", path)(source));
        }
        let mut aside = path.as_os_str().to_owned();
        aside.push(format!(".{}", std::process::id()));
        let aside = PathBuf::from(aside);
        // What a killed server with our process id left.
        let _ = fs::remove_file(&aside);
        let listener = UnixListener::bind(&aside).map_err(failed("bind", &aside))?;
        let placed = fs::set_permissions(&aside, Permissions::from_mode(MODE))
            .map_err(failed("chmod", &aside))
            .and_then(|()| fs::symlink_metadata(&aside).map_err(failed("stat", &aside)))
            .and_then(|meta| {
                fs::rename(&aside, path).map_err(failed("rename", &aside))?;
                Ok((meta.dev(), meta.ino()))
            });
        match placed {
            Ok(identity) => Ok((
                listener,
                Self {
                    path: path.into(),
                    identity,
                },
            )),
            Err(error) => {
                let _ = fs::remove_file(&aside);
                Err(error)
            }
        }
    }
}

impl Drop for OwnSocket {
    fn drop(&mut self) {
        let is_ours = fs::symlink_metadata(&self.path)
            .is_ok_and(|meta| (meta.dev(), meta.ino()) == self.identity);
        if is_ours {
            // A socket that stays does no harm: the next server replaces it.
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_unix_sockets() {
        let parse = |text: &str| text.parse::<Endpoint>();
        assert_eq!(
            parse("unix:///run/x.sock"),
            Ok(Endpoint::Unix("/run/x.sock".into()))
        );
        assert_eq!(
            parse("/run/x.sock"),
            Ok(Endpoint::Unix("/run/x.sock".into()))
        );
        assert_eq!(parse("fd://"), Ok(Endpoint::Inherited));
        assert!(
            parse("tcp://0.0.0.0:2375")
                .unwrap_err()
                .to_string()
                .starts_with("tcp:// is not supported")
        );
        assert!(parse("unix://x.sock").is_err());
        assert!(parse("").is_err());
    }

    #[test]
    fn the_socket_has_its_mode_and_goes_with_its_owner() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sub/api.sock");
        let (listener, own) = OwnSocket::bind(&path).unwrap();
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o660
        );
        assert!(matches!(
            OwnSocket::bind(&path),
            Err(ServeError::AlreadyServed { .. })
        ));
        drop(listener);
        // A stale socket, as a killed server leaves it, is replaced; its old owner then leaves the new one alone.
        let (_listener, second) = OwnSocket::bind(&path).unwrap();
        drop(own);
        assert!(path.exists());
        drop(second);
        assert!(!path.exists());
        assert_eq!(fs::read_dir(dir.path().join("sub")).unwrap().count(), 0);
    }

    #[test]
    fn a_file_that_is_not_a_socket_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, "mine").unwrap();
        assert!(OwnSocket::bind(&path).is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
    }
}
