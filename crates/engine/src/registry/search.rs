//! `search`.

use ketch_registry::Found;
use ketch_spec::reference::DEFAULT_HOST;

use super::{RegistryAccess, failed};
use crate::{Error, ErrorKind, Result};

/// Results where nobody asks for a number, and the most.
const LIMIT_DEFAULT: u32 = 25;
const LIMIT_MAX: u32 = 100;

/// Which results count.
#[derive(Debug, Clone, Default)]
pub struct SearchFilter {
    /// `is-official=`.
    pub official: Option<bool>,
    /// `is-automated=`.
    pub automated: Option<bool>,
    /// `stars=`: at least so many.
    pub stars: i64,
}

impl SearchFilter {
    /// The largest of several `stars=`.
    ///
    /// # Errors
    /// `Invalid` for what is no number.
    pub fn fewest_stars(values: &[String]) -> Result<i64> {
        let mut stars = 0;
        for text in values {
            let count: i64 = text.parse().map_err(|_| {
                Error::new(ErrorKind::Invalid, format!("invalid filter 'stars={text}'"))
            })?;
            stars = stars.max(count);
        }
        Ok(stars)
    }

    fn takes(&self, found: &Found) -> bool {
        self.official
            .is_none_or(|wanted| wanted == found.is_official)
            && self
                .automated
                .is_none_or(|wanted| wanted == found.is_automated)
            && found.star_count >= self.stars
    }
}

/// How many results to ask for; 0 and None are the default.
///
/// # Errors
/// `Invalid` for a number out of range.
pub fn search_limit(wanted: Option<i64>) -> Result<u32> {
    match wanted.map(u32::try_from) {
        None | Some(Ok(0)) => Ok(LIMIT_DEFAULT),
        Some(Ok(limit)) if limit <= LIMIT_MAX => Ok(limit),
        _ => {
            let limit = wanted.unwrap_or_default();
            let message = format!("limit {limit} is outside the range of [1, {LIMIT_MAX}]");
            Err(Error::new(ErrorKind::Invalid, message))
        }
    }
}

/// The registry that a term names.
pub fn search_host(term: &str) -> &str {
    split(term).0
}

/// Asks a registry for repositories that pass a filter, those with the most stars first; `term` may begin with its host: `r.example/term`.
///
/// # Errors
/// `Unsupported` if the registry does not search, `Unavailable` if it cannot be reached.
pub fn search(
    access: &RegistryAccess,
    term: &str,
    limit: u32,
    filter: &SearchFilter,
) -> Result<Vec<Found>> {
    let (host, words) = split(term);
    if words.is_empty() {
        return Err(Error::new(
            ErrorKind::Invalid,
            "there is nothing to search for",
        ));
    }
    let client = access.client(host)?;
    let mut found = client
        .search(host, words, limit)
        .map_err(|error| match &error {
            ketch_registry::Error::NoSearch { .. } => {
                Error::new(ErrorKind::Unsupported, error.to_string())
                    .hint("`ketch pull -a NAME` takes all tags of a repository whose name is known")
            }
            _ => failed(format!("cannot search for {words:?}"), &error),
        })?;
    found.retain(|one| filter.takes(one));
    found.sort_by_key(|one| std::cmp::Reverse(one.star_count));
    Ok(found)
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
    fn limits_are_dockers() {
        assert_eq!(search_limit(None).unwrap(), 25);
        assert_eq!(search_limit(Some(0)).unwrap(), 25);
        assert_eq!(search_limit(Some(100)).unwrap(), 100);
        for wrong in [-1, 101] {
            let error = search_limit(Some(wrong)).unwrap_err().to_string();
            assert_eq!(
                error,
                format!("limit {wrong} is outside the range of [1, 100]")
            );
        }
    }

    #[test]
    fn filters_go_together() {
        let found = Found {
            star_count: 3,
            is_official: true,
            ..Found::default()
        };
        let filter = SearchFilter {
            official: Some(true),
            automated: Some(false),
            stars: SearchFilter::fewest_stars(&["1".into(), "3".into()]).unwrap(),
        };
        assert!(filter.takes(&found));
        assert!(!SearchFilter { stars: 4, ..filter }.takes(&found));
        assert!(SearchFilter::fewest_stars(&["x".into()]).is_err());
    }

    #[test]
    fn a_term_may_begin_with_a_host() {
        assert_eq!(split("busybox"), ("docker.io", "busybox"));
        assert_eq!(split("team/app"), ("docker.io", "team/app"));
        assert_eq!(split("index.docker.io/app"), ("docker.io", "app"));
        assert_eq!(split("r.example:5000/app"), ("r.example:5000", "app"));
    }
}
