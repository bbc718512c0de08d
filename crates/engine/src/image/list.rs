//! `images`.

use std::collections::BTreeMap;

use jiff::Timestamp;
use ketch_spec::Digest;

use super::usage::uses;
use super::variant::ids_of;
use super::{Image, artifact, read_all};
use crate::{Engine, Error, ErrorKind, Result, container};

/// One image of a listing.
#[derive(Debug, Clone)]
pub struct ImageSummary {
    /// The image.
    pub image: Image,
    /// Containers made from it.
    pub containers: usize,
    /// Content of the layers that other images have too, in bytes.
    pub shared_bytes: u64,
}

/// Which images to list; the empty filter lists all.
#[derive(Debug, Clone, Default)]
pub struct ListFilter {
    /// `reference=` patterns as path.Match has them, against the familiar name with and without its tag, and the full
    /// one; any of them.
    pub references: Vec<String>,
    /// `dangling=`: only images without, or with, a name.
    pub dangling: Option<bool>,
    /// `label=KEY` or `label=KEY=VALUE`: all of them.
    pub labels: Vec<String>,
    /// `label!=KEY` or `label!=KEY=VALUE`: none of them.
    pub without_labels: Vec<String>,
    /// `before=`: made before this image.
    pub before: Option<String>,
    /// `since=`: made after this image.
    pub since: Option<String>,
    /// `until=`: made before this time.
    pub until: Option<Timestamp>,
}

/// The images, and artifacts, that pass the filter, the newest first. A `reference` filter also takes away the names
/// that do not match.
///
/// # Errors
/// `NotFound` if the image of `before` or `since` is not here, `Invalid` for a malformed pattern.
pub fn list(engine: &Engine, filter: &ListFilter) -> Result<Vec<ImageSummary>> {
    if let Some(bad) = filter.references.iter().find(|text| !is_pattern(text)) {
        let message = format!("syntax error in pattern: {bad:?}");
        return Err(Error::new(ErrorKind::Invalid, message));
    }
    let mut images = read_all(engine)?;
    images.extend(artifact::read_all(engine)?);
    let before = bound(engine, filter.before.as_deref())?;
    let since = bound(engine, filter.since.as_deref())?;
    let mut layer_users: BTreeMap<Digest, usize> = BTreeMap::new();
    for diff_id in images.iter().flat_map(|image| &image.layers) {
        *layer_users.entry(diff_id.clone()).or_default() += 1;
    }
    let containers = container::list(engine)?;
    let mut summaries = Vec::new();
    for mut image in images {
        if !passes(&image, filter, before, since) || !keep_names(&mut image, &filter.references) {
            continue;
        }
        let ids = ids_of(engine, &image.target)?;
        let users = containers
            .iter()
            .filter(|container| uses(container, &ids))
            .count();
        let shared = image
            .layers
            .iter()
            .filter(|diff_id| layer_users.get(*diff_id).is_some_and(|users| *users > 1));
        let sizes = shared.map(|diff_id| {
            engine
                .store()
                .layer(diff_id)
                .map_or(0, |record| record.size_bytes)
        });
        let shared_bytes = sizes.sum();
        summaries.push(ImageSummary {
            image,
            containers: users,
            shared_bytes,
        });
    }
    summaries.sort_by_key(|summary| std::cmp::Reverse(summary.image.created()));
    Ok(summaries)
}

/// When the image was made that a filter names.
fn bound(engine: &Engine, wanted: Option<&str>) -> Result<Option<Timestamp>> {
    let Some(wanted) = wanted else {
        return Ok(None);
    };
    let image = super::resolve(engine, wanted)?;
    Ok(Some(image.created().unwrap_or(Timestamp::UNIX_EPOCH)))
}

fn passes(
    image: &Image,
    filter: &ListFilter,
    before: Option<Timestamp>,
    since: Option<Timestamp>,
) -> bool {
    let created = image.created().unwrap_or(Timestamp::UNIX_EPOCH);
    filter
        .dangling
        .is_none_or(|wanted| image.is_dangling() == wanted)
        && before.is_none_or(|bound| created < bound)
        && since.is_none_or(|bound| created > bound)
        && filter.until.is_none_or(|bound| created < bound)
        && filter.labels.iter().all(|label| has_label(image, label))
        && !filter
            .without_labels
            .iter()
            .any(|label| has_label(image, label))
}

/// `KEY` or `KEY=VALUE`.
pub(super) fn has_label(image: &Image, wanted: &str) -> bool {
    let labels = image.config.config.as_ref().map(|config| &config.labels);
    let (key, value) = match wanted.split_once('=') {
        Some((key, value)) => (key, Some(value)),
        None => (wanted, None),
    };
    labels
        .and_then(|labels| labels.get(key))
        .is_some_and(|found| value.is_none_or(|value| found == value))
}

/// Leaves the names that match; false if there are patterns and no name does.
fn keep_names(image: &mut Image, patterns: &[String]) -> bool {
    if patterns.is_empty() {
        return true;
    }
    let matches_any = |reference: &ketch_spec::Reference| {
        let texts = [
            reference.familiar(),
            reference.familiar_name(),
            reference.to_string(),
            reference.name(),
        ];
        patterns.iter().any(|pattern| {
            texts
                .iter()
                .any(|text| glob(pattern.as_bytes(), text.as_bytes()))
        })
    };
    image.references.retain(matches_any);
    image.repo_digests.retain(matches_any);
    !image.references.is_empty() || !image.repo_digests.is_empty()
}

/// Whether a pattern is well-formed: classes end, and a backslash has something behind it.
fn is_pattern(text: &str) -> bool {
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        rest = match first {
            b'[' => match class(after, None) {
                Some((_, after)) => after,
                None => return false,
            },
            b'\\' if after.is_empty() => return false,
            b'\\' => &after[1..],
            _ => after,
        };
    }
    true
}

/// Go's path.Match: `*` and `?` do not cross a slash, `[a-z]` and `[^a-z]` are classes, `\` takes the next literally.
/// A pattern that is malformed matches nothing.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let Some((&first, rest)) = pattern.split_first() else {
        return text.is_empty();
    };
    match first {
        b'*' => {
            let reach = text
                .iter()
                .position(|byte| *byte == b'/')
                .unwrap_or(text.len());
            (0..=reach).any(|skip| glob(rest, &text[skip..]))
        }
        b'?' => text
            .split_first()
            .is_some_and(|(byte, after)| *byte != b'/' && glob(rest, after)),
        b'[' => match (class(rest, text.first().copied()), text.split_first()) {
            (Some((true, rest)), Some((_, after))) => glob(rest, after),
            _ => false,
        },
        b'\\' => match (rest.split_first(), text.split_first()) {
            (Some((escaped, rest)), Some((byte, after))) => escaped == byte && glob(rest, after),
            _ => false,
        },
        literal => text
            .split_first()
            .is_some_and(|(byte, after)| *byte == literal && glob(rest, after)),
    }
}

/// A class behind its opening bracket: whether `byte` is in it, and what follows the class; None if it does not end.
fn class(mut pattern: &[u8], byte: Option<u8>) -> Option<(bool, &[u8])> {
    let negated = pattern.first() == Some(&b'^');
    if negated {
        pattern = &pattern[1..];
    }
    let mut found = false;
    let mut members = 0;
    loop {
        let (&low, mut rest) = pattern.split_first()?;
        if low == b']' && members > 0 {
            return Some((
                byte.is_some_and(|byte| byte != b'/') && found != negated,
                rest,
            ));
        }
        let mut literal = low;
        if low == b'\\' {
            (literal, rest) = rest.split_first().map(|(byte, rest)| (*byte, rest))?;
        }
        let mut high = literal;
        if rest.first() == Some(&b'-') && rest.get(1).is_some_and(|byte| *byte != b']') {
            high = rest[1];
            rest = &rest[2..];
        }
        found |= byte.is_some_and(|byte| (literal..=high).contains(&byte));
        members += 1;
        pattern = rest;
    }
}

#[cfg(test)]
mod tests {
    use super::{glob, is_pattern};

    #[test]
    fn malformed_patterns_are_known() {
        for good in ["", "a*", "[a-c]x", "[^x]", "\\[", "a/b:?"] {
            assert!(is_pattern(good), "{good}");
        }
        for bad in ["[", "[a-", "a[b", "\\", "[]"] {
            assert!(!is_pattern(bad), "{bad}");
        }
    }

    #[test]
    fn patterns_are_those_of_go() {
        let cases = [
            ("busy*", "busybox", true),
            ("busy*", "busybox:latest", true),
            ("*", "a/b", false),
            ("*/*", "a/b", true),
            ("b?sybox", "busybox", true),
            ("b?", "b/", false),
            ("[a-c]x", "bx", true),
            ("[^a-c]x", "bx", false),
            ("[^a-c]x", "dx", true),
            ("[a-", "a", false),
            ("\\*", "*", true),
            ("\\*", "a", false),
            ("", "", true),
            ("a*b*c", "aXbYc", true),
        ];
        for (pattern, text, matches) in cases {
            assert_eq!(
                glob(pattern.as_bytes(), text.as_bytes()),
                matches,
                "{pattern} {text}"
            );
        }
    }
}
