//! Image references: `[host[:port]/]repository[:tag][@digest]`, as `docker` reads them.

use std::fmt;

use crate::Digest;

/// A reference in its full form: `docker.io/library/busybox:latest`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    /// Registry host, with port: `docker.io` by default.
    pub host: String,
    /// Path: `library/busybox` for `busybox` on Docker Hub.
    pub repository: String,
    /// Tag; None only where there is a digest.
    pub tag: Option<String>,
    /// Digest.
    pub digest: Option<Digest>,
}

impl fmt::Display for Reference {
    /// The full form, which is also what the store keeps.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.host, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}
