//! One form for everything: short forms become long ones, relative paths absolute, names the names that the engine sees.
//! What comes out is what `config` prints, what services are hashed from and what the model is read from.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use crate::error::{LoadError, Position};
use crate::node::{Node, Value};
use crate::reader::Reader;

mod build;
mod environment;
mod ports;
mod service;
mod volumes;

pub use service::REFUSED;

/// What normalising needs to know besides the tree.
pub(crate) struct Surroundings<'a> {
    /// The project's name.
    pub project: &'a str,
    /// What relative paths are relative to.
    pub directory: &'a Path,
    /// The user's home, for `~`.
    pub home: Option<&'a str>,
    /// Variables for bare names and environment files.
    pub variables: &'a BTreeMap<String, String>,
}

const TOP_KEYS: &[&str] = &[
    "version", "name", "services", "networks", "volumes", "secrets", "configs",
];

/// Normalises a whole document.
///
/// # Errors
/// The first thing that is not what a compose file may be.
pub(crate) fn document(node: &Node, surroundings: &Surroundings<'_>) -> Result<Node, LoadError> {
    let root = Reader::root(node);
    root.check_keys(TOP_KEYS, &["models"])?;
    let mut services = Vec::new();
    for (name, service) in sorted(root.get("services"))? {
        check_name(&service, name)?;
        services.push((name.to_owned(), service::service(&service, surroundings)?));
    }
    let mut networks = Vec::new();
    for (key, network) in sorted(root.get("networks"))? {
        networks.push((
            key.to_owned(),
            resource(key, &network, NETWORK_KEYS, surroundings)?,
        ));
    }
    let uses_default = services.iter().any(|(_, service)| {
        service
            .get("networks")
            .is_some_and(|n| n.get("default").is_some())
    });
    if uses_default && !networks.iter().any(|(key, _)| key == "default") {
        let name = text(format!("{}_default", surroundings.project), &node.at);
        networks.push(("default".into(), map(vec![("name", name)], &node.at)));
    }
    let mut volumes = Vec::new();
    for (key, volume) in sorted(root.get("volumes"))? {
        volumes.push((
            key.to_owned(),
            resource(key, &volume, VOLUME_KEYS, surroundings)?,
        ));
    }
    let mut entries = vec![(
        "name".to_owned(),
        text(surroundings.project.to_owned(), &node.at),
    )];
    for (key, list) in [
        ("networks", networks),
        ("services", services),
        ("volumes", volumes),
    ] {
        if !list.is_empty() {
            entries.push((key.to_owned(), owned_map(list, &node.at)));
        }
    }
    for kind in ["secrets", "configs"] {
        if let Some(list) = files(&root, kind, surroundings)? {
            entries.push((kind.to_owned(), list));
        }
    }
    Ok(owned_map(entries, &node.at))
}

const NETWORK_KEYS: &[&str] = &[
    "name",
    "driver",
    "driver_opts",
    "ipam",
    "external",
    "internal",
    "attachable",
    "labels",
    "enable_ipv4",
    "enable_ipv6",
];
const VOLUME_KEYS: &[&str] = &["name", "driver", "driver_opts", "external", "labels"];

/// A network or a volume: its name filled in, its labels a mapping.
fn resource(
    key: &str,
    reader: &Reader<'_>,
    keys: &[&str],
    around: &Surroundings<'_>,
) -> Result<Node, LoadError> {
    reader.check_keys(keys, &[])?;
    let at = reader.position();
    let external = match reader.get("external") {
        // the old form: external: {name: x}
        Some(external) if external.is_map() => true,
        Some(external) => external.boolean()?,
        None => false,
    };
    let name = match (
        reader.get("name"),
        reader
            .get("external")
            .and_then(|external| external.get("name")),
    ) {
        (Some(name), _) | (None, Some(name)) => name.text()?,
        (None, None) if external => key.to_owned(),
        (None, None) => format!("{}_{key}", around.project),
    };
    if let Some(ipv4) = reader.get("enable_ipv4")
        && !ipv4.boolean()?
    {
        return Err(ipv4.error("can only be true"));
    }
    let mut entries = vec![("name".to_owned(), text(name, at))];
    for (field, value) in reader.entries()? {
        match field {
            "name" | "external" => {}
            "labels" => entries.push((field.to_owned(), pairs(&value, &['='])?)),
            _ if value.is_null() => {}
            _ => entries.push((field.to_owned(), value.node().clone())),
        }
    }
    if external {
        entries.push((
            "external".to_owned(),
            Node {
                value: Value::Bool(true),
                at: at.clone(),
                tag: None,
            },
        ));
    }
    Ok(owned_map(entries, at))
}

/// Secrets or configs: their paths made absolute, variables looked up.
fn files(
    root: &Reader<'_>,
    kind: &str,
    around: &Surroundings<'_>,
) -> Result<Option<Node>, LoadError> {
    let Some(list) = root.get(kind) else {
        return Ok(None);
    };
    let mut known = vec!["file", "environment", "name", "labels"];
    if kind == "configs" {
        known.push("content");
    }
    let mut entries = Vec::new();
    for (key, item) in list.entries()? {
        item.check_keys(
            &known,
            &["external", "driver", "driver_opts", "template_driver"],
        )?;
        let at = item.position();
        let sources = ["file", "environment", "content"];
        let mut given = sources
            .into_iter()
            .filter_map(|key| Some((key, item.get(key)?)));
        let (Some((source, value)), None) = (given.next(), given.next()) else {
            return Err(item.error(format!("must have one of {}", sources.join(", "))));
        };
        let value = match source {
            "file" => absolute(&value.text()?, around),
            _ => value.text()?,
        };
        if source == "environment" && !around.variables.contains_key(&value) {
            return Err(item.error(format!("names the variable {value:?}, which is not set")));
        }
        let name = format!("{}_{key}", around.project);
        let node = map(
            vec![("name", text(name, at)), (source, text(value, at))],
            at,
        );
        entries.push((key.to_owned(), node));
    }
    Ok(Some(owned_map(entries, root.position())))
}

/// Service names are what container names and host names are made from.
fn check_name(service: &Reader<'_>, name: &str) -> Result<(), LoadError> {
    let valid = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if !name.is_empty() && name.chars().all(valid) {
        return Ok(());
    }
    Err(service.error(format!(
        "has an invalid name {name:?}: only [a-zA-Z0-9._-] are allowed"
    )))
}

/// A mapping's entries in the order of their keys.
fn sorted(reader: Option<Reader<'_>>) -> Result<Vec<(&str, Reader<'_>)>, LoadError> {
    let mut entries = match reader {
        Some(reader) => reader.entries()?,
        None => Vec::new(),
    };
    entries.sort_by_key(|(key, _)| *key);
    Ok(entries)
}

/// A host path: `~` and relative forms resolved, `.` and `..` taken away by name.
pub(crate) fn absolute(path: &str, around: &Surroundings<'_>) -> String {
    let path = match (path.strip_prefix('~'), around.home) {
        (Some(rest), Some(home)) if rest.is_empty() || rest.starts_with('/') => {
            format!("{home}{rest}")
        }
        _ => path.to_owned(),
    };
    let mut clean = PathBuf::from("/");
    for part in around.directory.join(path).components() {
        match part {
            Component::ParentDir => {
                clean.pop();
            }
            Component::Normal(name) => clean.push(name),
            _ => {}
        }
    }
    clean.to_string_lossy().into_owned()
}

pub(crate) fn text(value: impl Into<String>, at: &Position) -> Node {
    Node {
        value: Value::Text(value.into()),
        at: at.clone(),
        tag: None,
    }
}

pub(crate) fn number(value: impl ToString, at: &Position) -> Node {
    Node {
        value: Value::Number(value.to_string()),
        at: at.clone(),
        tag: None,
    }
}

pub(crate) fn boolean(value: bool, at: &Position) -> Node {
    Node {
        value: Value::Bool(value),
        at: at.clone(),
        tag: None,
    }
}

pub(crate) fn list(items: Vec<Node>, at: &Position) -> Node {
    Node {
        value: Value::List(items),
        at: at.clone(),
        tag: None,
    }
}

pub(crate) fn texts(items: Vec<String>, at: &Position) -> Node {
    list(items.into_iter().map(|item| text(item, at)).collect(), at)
}

pub(crate) fn map(entries: Vec<(&str, Node)>, at: &Position) -> Node {
    owned_map(
        entries
            .into_iter()
            .map(|(key, node)| (key.to_owned(), node))
            .collect(),
        at,
    )
}

pub(crate) fn owned_map(entries: Vec<(String, Node)>, at: &Position) -> Node {
    Node {
        value: Value::Map(entries),
        at: at.clone(),
        tag: None,
    }
}

/// `NAME=value` lists and mappings as a mapping of strings, sorted; a name without a value has an empty one.
pub(crate) fn pairs(reader: &Reader<'_>, separators: &[char]) -> Result<Node, LoadError> {
    let sorted: BTreeMap<_, _> = reader.pairs(separators)?.into_iter().collect();
    let entries = sorted
        .into_iter()
        .map(|(name, value)| (name, text(value.unwrap_or_default(), reader.position())));
    Ok(owned_map(entries.collect(), reader.position()))
}
