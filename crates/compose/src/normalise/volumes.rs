//! `volumes`: short and long forms become `{type, source, target, read_only, bind, volume, tmpfs}`.

use super::{Surroundings, absolute, boolean, list, map, text};
use crate::error::LoadError;
use crate::node::Node;
use crate::reader::Reader;

/// The list of a service's mounts.
pub(super) fn volumes(reader: &Reader<'_>, around: &Surroundings<'_>) -> Result<Node, LoadError> {
    let items = reader.items()?;
    let nodes: Result<Vec<_>, _> = items
        .iter()
        .map(|item| {
            if item.is_map() {
                long(item, around)
            } else {
                short(item, &item.text()?, around)
            }
        })
        .collect();
    Ok(list(nodes?, reader.position()))
}

fn short(item: &Reader<'_>, value: &str, around: &Surroundings<'_>) -> Result<Node, LoadError> {
    let at = item.position();
    let parts: Vec<&str> = value.split(':').collect();
    let (source, target, options) = match parts[..] {
        [target] => (None, target, ""),
        [source, target] => (Some(source), target, ""),
        [source, target, options] => (Some(source), target, options),
        _ => return Err(item.error(format!("is not a volume: {value:?} has too many colons"))),
    };
    if !target.starts_with('/') {
        return Err(item.error(format!(
            "is not a volume: the path {target:?} in the container must be absolute"
        )));
    }
    let bind = source.is_some_and(|source| source.starts_with(['/', '.', '~']));
    let mut entries = vec![("type", text(if bind { "bind" } else { "volume" }, at))];
    match source {
        Some(path) if bind => entries.push(("source", text(absolute(path, around), at))),
        Some(name) => entries.push(("source", text(name, at))),
        None => {}
    }
    entries.push(("target", text(target, at)));
    let mut details = if bind {
        vec![("create_host_path", boolean(true, at))]
    } else {
        Vec::new()
    };
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option {
            "ro" => entries.push(("read_only", boolean(true, at))),
            "rw" | "z" | "Z" | "cached" | "delegated" | "consistent" => {}
            "nocopy" if !bind => details.push(("nocopy", boolean(true, at))),
            "shared" | "rshared" | "slave" | "rslave" | "private" | "rprivate" if bind => {
                details.push(("propagation", text(option, at)));
            }
            _ => return Err(item.error(format!("is not a volume: unknown option {option:?}"))),
        }
    }
    entries.push((if bind { "bind" } else { "volume" }, map(details, at)));
    Ok(map(entries, at))
}

fn long(item: &Reader<'_>, around: &Surroundings<'_>) -> Result<Node, LoadError> {
    item.check_keys(
        &[
            "type",
            "source",
            "target",
            "read_only",
            "consistency",
            "bind",
            "volume",
            "tmpfs",
        ],
        &["image"],
    )?;
    let kind = item
        .get("type")
        .ok_or_else(|| item.error("must have a type"))?;
    let name = kind.text()?;
    if !matches!(name.as_str(), "bind" | "volume" | "tmpfs") {
        return Err(kind.error(format!(
            "must be bind, volume or tmpfs; {name:?} is not supported"
        )));
    }
    for (part, known) in [
        (
            "bind",
            &["propagation", "create_host_path", "recursive", "selinux"][..],
        ),
        ("volume", &["nocopy", "subpath", "labels"]),
        ("tmpfs", &["size", "mode"]),
    ] {
        if let Some(details) = item.get(part) {
            details.check_keys(known, &[])?;
        }
    }
    item.get("target")
        .ok_or_else(|| item.error("must have a target"))?;
    let at = item.position();
    let mut entries = Vec::new();
    for (key, value) in item.entries()? {
        match key {
            "source" if name == "bind" => {
                entries.push((key, text(absolute(&value.text()?, around), at)))
            }
            "consistency" => {}
            _ if key.starts_with("x-") || value.is_null() => {}
            _ => entries.push((key, value.node().clone())),
        }
    }
    if name == "bind" && item.get("source").is_none() {
        return Err(item.error("must have a source"));
    }
    Ok(map(entries, at))
}
