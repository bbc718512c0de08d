//! Versions of the API: the prefix of a path, and which are accepted.

use std::fmt;

use ketch_engine::{Error, ErrorKind, Result};

/// A version of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u32, pub u32);

/// The oldest version served.
pub const OLDEST: Version = Version(1, 24);
/// The newest version served, and the one of paths without a prefix.
pub const NEWEST: Version = Version(1, 51);

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

/// Takes a `/v1.44` from the front of a path; what is left begins with a slash.
///
/// # Errors
/// `Invalid` in Docker's words for a version that is too old or too new.
pub fn split(path: &str) -> Result<(Version, &str)> {
    let bare = (NEWEST, path);
    let Some(rest) = path.strip_prefix("/v") else {
        return Ok(bare);
    };
    let end = rest.find('/').unwrap_or(rest.len());
    let (text, rest) = rest.split_at(end);
    let numbers = text.split_once('.').unwrap_or((text, "0"));
    let (Ok(major), Ok(minor)) = (numbers.0.parse(), numbers.1.parse()) else {
        return Ok(bare);
    };
    let version = Version(major, minor);
    let refuse = |message: String| Err(Error::new(ErrorKind::Invalid, message));
    if version < OLDEST {
        return refuse(format!(
            "client version {version} is too old. Minimum supported API version is {OLDEST}, please upgrade your client to a newer version"
        ));
    }
    if version > NEWEST {
        return refuse(format!(
            "client version {version} is too new. Maximum supported API version is {NEWEST}"
        ));
    }
    Ok((version, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_are_taken_off() {
        assert_eq!(
            split("/v1.44/images/json").unwrap(),
            (Version(1, 44), "/images/json")
        );
        assert_eq!(split("/_ping").unwrap(), (NEWEST, "/_ping"));
        assert_eq!(split("/volumes").unwrap(), (NEWEST, "/volumes"));
        assert_eq!(split("/v1.24/_ping").unwrap(), (Version(1, 24), "/_ping"));
    }

    #[test]
    fn other_versions_are_refused_in_dockers_words() {
        assert_eq!(
            split("/v1.23/info").unwrap_err().message,
            "client version 1.23 is too old. Minimum supported API version is 1.24, please upgrade your client to a newer version"
        );
        let new = split("/v1.52/info").unwrap_err();
        assert_eq!(new.kind, ErrorKind::Invalid);
        assert_eq!(
            new.message,
            "client version 1.52 is too new. Maximum supported API version is 1.51"
        );
        assert!(split("/v2.0/info").is_err());
    }
}
