//! How a service's image is built.

use super::service::{extra_hosts, references};
use super::{Surroundings, absolute, map, owned_map, pairs, text, texts};
use crate::error::LoadError;
use crate::node::Node;
use crate::reader::Reader;

const BUILD_KEYS: &[&str] = &[
    "context",
    "dockerfile",
    "dockerfile_inline",
    "args",
    "target",
    "labels",
    "network",
    "no_cache",
    "pull",
    "shm_size",
    "extra_hosts",
    "tags",
    "platforms",
    "additional_contexts",
    "cache_from",
    "secrets",
];

/// The long form: `context` absolute, `dockerfile` named.
pub(super) fn build(value: &Reader<'_>, around: &Surroundings<'_>) -> Result<Node, LoadError> {
    let at = value.position();
    if !value.is_map() {
        let context = text(absolute(&value.text()?, around), at);
        return Ok(map(
            vec![("context", context), ("dockerfile", text("Dockerfile", at))],
            at,
        ));
    }
    value.check_keys(
        BUILD_KEYS,
        &[
            "cache_to",
            "entitlements",
            "isolation",
            "no_cache_filter",
            "privileged",
            "provenance",
            "sbom",
            "ssh",
            "ulimits",
        ],
    )?;
    let mut entries = Vec::new();
    let context = value
        .get("context")
        .map_or(Ok(".".to_owned()), |context| context.text())?;
    if context.contains("://") {
        return Err(value.error(format!(
            "context {context} is remote, which is not supported"
        )));
    }
    entries.push(("context".to_owned(), text(absolute(&context, around), at)));
    for (key, item) in value.entries()? {
        let node = match key {
            "context" => continue,
            _ if item.is_null() || key.starts_with("x-") => continue,
            "args" => arguments(&item, around)?,
            "labels" => pairs(&item, &['='])?,
            "extra_hosts" => extra_hosts(&item)?,
            "additional_contexts" => contexts(&item, around)?,
            "secrets" => references(&item)?,
            "tags" | "platforms" | "cache_from" => texts(item.texts()?, item.position()),
            _ => item.node().clone(),
        };
        entries.push((key.to_owned(), node));
    }
    if value.get("dockerfile").is_none() && value.get("dockerfile_inline").is_none() {
        entries.push(("dockerfile".to_owned(), text("Dockerfile", at)));
    }
    entries.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok(owned_map(entries, at))
}

/// `additional_contexts`: directories made absolute; images as they are.
fn contexts(value: &Reader<'_>, around: &Surroundings<'_>) -> Result<Node, LoadError> {
    let at = value.position();
    let mut entries = Vec::new();
    for (name, given) in value.pairs(&['='])? {
        let given = given.unwrap_or_default();
        let context = match given.split_once(':') {
            Some(("docker-image", _)) => given,
            Some((kind, rest)) if kind == "service" || rest.starts_with("//") => {
                return Err(value.error(format!("{given:?} is not supported")));
            }
            _ => absolute(&given, around),
        };
        entries.push((name, text(context, at)));
    }
    entries.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok(owned_map(entries, at))
}

/// Build arguments: a bare name takes the caller's value, or is left out.
fn arguments(value: &Reader<'_>, around: &Surroundings<'_>) -> Result<Node, LoadError> {
    let at = value.position();
    let mut entries = Vec::new();
    for (name, given) in value.pairs(&['='])? {
        if let Some(given) = given.or_else(|| around.variables.get(&name).cloned()) {
            entries.push((name, text(given, at)));
        }
    }
    entries.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok(owned_map(entries, at))
}
