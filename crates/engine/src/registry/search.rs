//! `search`.

use ketch_registry::Found;
use ketch_spec::reference::DEFAULT_HOST;

use super::{RegistryAccess, failed};
use crate::{Error, ErrorKind, Result};

/// Asks a registry for repositories; `term` may begin with its host: `r.example/term`.
///
/// # Errors
/// `Unsupported` if the registry does not search, `Unavailable` if it cannot be reached.
pub fn search(access: &RegistryAccess, term: &str, limit: u32) -> Result<Vec<Found>> {
    let (host, words) = split(term);
    if words.is_empty() {
        return Err(Error::new(
            ErrorKind::Invalid,
            "there is nothing to search for",
        ));
    }
    let client = access.client(host)?;
    client
        .search(host, words, limit)
        .map_err(|error| match &error {
            ketch_registry::Error::NoSearch { .. } => {
                Error::new(ErrorKind::Unsupported, error.to_string())
                    .hint("`ketch pull -a NAME` takes all tags of a repository whose name is known")
            }
            _ => failed(format!("cannot search for {words:?}"), &error),
        })
}

/// The host is what a reference would have as one.
fn split(term: &str) -> (&str, &str) {
    match term.split_once('/') {
        Some(("docker.io" | "index.docker.io", words)) => (DEFAULT_HOST, words),
        Some((host, words)) if host == "localhost" || host.contains(['.', ':']) => (host, words),
        _ => (DEFAULT_HOST, term),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_term_may_begin_with_a_host() {
        assert_eq!(split("busybox"), ("docker.io", "busybox"));
        assert_eq!(split("team/app"), ("docker.io", "team/app"));
        assert_eq!(split("index.docker.io/app"), ("docker.io", "app"));
        assert_eq!(split("r.example:5000/app"), ("r.example:5000", "app"));
    }
}
