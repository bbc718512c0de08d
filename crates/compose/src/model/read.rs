//! The model read from a normalised tree.

use std::collections::{BTreeMap, BTreeSet};

use super::{Attachment, Build, Condition, Dependency, Network, PullPolicy, Service, Volume};
use crate::error::LoadError;
use crate::node::{Node, Value};
use crate::reader::Reader;

/// The most containers of one service.
const MAX_SCALE: u32 = 1024;

type Result<T> = std::result::Result<T, LoadError>;

/// The strings of a mapping.
pub(crate) fn strings(reader: Option<Reader<'_>>) -> Result<BTreeMap<String, String>> {
    let Some(reader) = reader else {
        return Ok(BTreeMap::new());
    };
    Ok(reader
        .pairs(&['='])?
        .into_iter()
        .map(|(key, value)| (key, value.unwrap_or_default()))
        .collect())
}

fn optional_text(reader: &Reader<'_>, key: &str) -> Result<Option<String>> {
    reader.get(key).map(|value| value.text()).transpose()
}

fn flag(reader: &Reader<'_>, key: &str, default: bool) -> Result<bool> {
    reader.get(key).map_or(Ok(default), |value| value.boolean())
}

impl Service {
    /// Reads a normalised service.
    pub(crate) fn read(project: &str, name: &str, reader: &Reader<'_>) -> Result<Self> {
        let image = optional_text(reader, "image")?;
        let build = reader
            .get("build")
            .map(|build| read_build(&build))
            .transpose()?;
        let container_name = optional_text(reader, "container_name")?;
        let scale = read_scale(reader)?;
        if container_name.is_some() && scale > 1 {
            return Err(reader.error("has a container_name and can only have one container"));
        }
        Ok(Self {
            name: name.to_owned(),
            has_own_image: image.is_some(),
            image: image.unwrap_or_else(|| format!("{project}-{name}")),
            depends_on: dependencies(reader)?,
            shares_with: shared(reader)?.into_keys().collect(),
            container_name,
            scale,
            pull_policy: pull_policy(reader)?,
            networks: attachments(reader)?,
            network_mode: optional_text(reader, "network_mode")?,
            volumes: named_volumes(reader)?,
            stop_grace_period: reader
                .get("stop_grace_period")
                .map(|period| period.duration())
                .transpose()?,
            attach: flag(reader, "attach", true)?,
            tree: reader.node().clone(),
            build,
        })
    }

    /// The profiles that turn it on; none means it is always on.
    pub(crate) fn profiles(reader: &Reader<'_>) -> Result<Vec<String>> {
        reader
            .get("profiles")
            .map_or(Ok(Vec::new()), |profiles| profiles.texts())
    }
}

fn read_scale(reader: &Reader<'_>) -> Result<u32> {
    let scale = reader
        .get("scale")
        .map(|scale| scale.parsed::<u32>("a number of containers"))
        .transpose()?;
    let replicas = reader
        .get("deploy")
        .and_then(|deploy| deploy.get("replicas"));
    let replicas = replicas
        .map(|replicas| replicas.parsed::<u32>("a number of containers"))
        .transpose()?;
    match (scale, replicas) {
        (Some(scale), Some(replicas)) if scale != replicas => {
            Err(reader.error("can't set distinct values on 'scale' and 'deploy.replicas'"))
        }
        (scale, replicas) => match scale.or(replicas).unwrap_or(1) {
            scale if scale <= MAX_SCALE => Ok(scale),
            scale => Err(reader.error(format!(
                "cannot have {scale} containers: {MAX_SCALE} are the most"
            ))),
        },
    }
}

fn pull_policy(reader: &Reader<'_>) -> Result<PullPolicy> {
    let Some(value) = reader.get("pull_policy") else {
        return Ok(PullPolicy::Missing);
    };
    match value.text()?.as_str() {
        "missing" | "if_not_present" => Ok(PullPolicy::Missing),
        "always" => Ok(PullPolicy::Always),
        "never" => Ok(PullPolicy::Never),
        "build" => Ok(PullPolicy::Build),
        other => Err(value.error(format!(
            "{other:?} is not supported: use always, missing, never or build"
        ))),
    }
}

/// What `depends_on` says, and what links, shared namespaces and `volumes_from` imply.
fn dependencies(reader: &Reader<'_>) -> Result<BTreeMap<String, Dependency>> {
    let implied = Dependency {
        condition: Condition::Started,
        restart: false,
        required: true,
    };
    let mut found = BTreeMap::new();
    for link in reader
        .get("links")
        .map_or(Ok(Vec::new()), |links| links.texts())?
    {
        found.insert(
            link.split(':').next().unwrap_or_default().to_owned(),
            implied,
        );
    }
    found.extend(shared(reader)?);
    let Some(listed) = reader.get("depends_on") else {
        return Ok(found);
    };
    for (name, details) in listed.entries()? {
        let condition = match optional_text(&details, "condition")?.as_deref() {
            Some("service_healthy") => Condition::Healthy,
            Some("service_completed_successfully") => Condition::Completed,
            _ => Condition::Started,
        };
        let dependency = Dependency {
            condition,
            restart: flag(&details, "restart", false)?,
            required: flag(&details, "required", true)?,
        };
        found.insert(name.to_owned(), dependency);
    }
    Ok(found)
}

/// Services whose namespaces or volumes it uses: when their containers are recreated, so are its own.
fn shared(reader: &Reader<'_>) -> Result<BTreeMap<String, Dependency>> {
    let implied = Dependency {
        condition: Condition::Started,
        restart: true,
        required: true,
    };
    let mut found = BTreeMap::new();
    for key in ["network_mode", "ipc", "pid"] {
        let mode = optional_text(reader, key)?;
        if let Some(name) = mode
            .as_deref()
            .and_then(|mode| mode.strip_prefix("service:"))
        {
            found.insert(name.to_owned(), implied);
        }
    }
    let sources = reader.get("volumes_from");
    for source in sources.map_or(Ok(Vec::new()), |list| list.texts())? {
        if !source.starts_with("container:") {
            let name = source.split(':').next().unwrap_or_default();
            found.insert(name.to_owned(), implied);
        }
    }
    Ok(found)
}

fn attachments(reader: &Reader<'_>) -> Result<BTreeMap<String, Attachment>> {
    let Some(networks) = reader.get("networks") else {
        return Ok(BTreeMap::new());
    };
    let mut found = BTreeMap::new();
    for (key, details) in networks.entries()? {
        let attachment = Attachment {
            aliases: details
                .get("aliases")
                .map_or(Ok(Vec::new()), |aliases| aliases.texts())?,
            ipv4: details
                .get("ipv4_address")
                .map(|address| address.parsed("an IPv4 address"))
                .transpose()?,
            ipv6: details
                .get("ipv6_address")
                .map(|address| address.parsed("an IPv6 address"))
                .transpose()?,
            mac: optional_text(&details, "mac_address")?,
            priority: details
                .get("gw_priority")
                .or_else(|| details.get("priority"))
                .map_or(Ok(0), |priority| priority.parsed("a number"))?,
        };
        found.insert(key.to_owned(), attachment);
    }
    Ok(found)
}

fn named_volumes(reader: &Reader<'_>) -> Result<BTreeSet<String>> {
    let Some(volumes) = reader.get("volumes") else {
        return Ok(BTreeSet::new());
    };
    let mut keys = BTreeSet::new();
    for volume in volumes.items()? {
        if optional_text(&volume, "type")?.as_deref() == Some("volume") {
            keys.extend(optional_text(&volume, "source")?);
        }
    }
    Ok(keys)
}

fn read_build(reader: &Reader<'_>) -> Result<Build> {
    for key in ["platforms", "cache_from"] {
        if let Some(value) = reader.get(key) {
            return Err(value.error("is not supported"));
        }
    }
    let texts = |key: &str| {
        reader
            .get(key)
            .map_or(Ok(Vec::new()), |value| value.texts())
    };
    Ok(Build {
        context: optional_text(reader, "context")?.unwrap_or_default().into(),
        dockerfile: optional_text(reader, "dockerfile")?.map(Into::into),
        dockerfile_inline: optional_text(reader, "dockerfile_inline")?,
        args: strings(reader.get("args"))?,
        target: optional_text(reader, "target")?,
        labels: strings(reader.get("labels"))?,
        network: optional_text(reader, "network")?,
        no_cache: flag(reader, "no_cache", false)?,
        pull: flag(reader, "pull", false)?,
        extra_hosts: texts("extra_hosts")?,
        tags: texts("tags")?,
        contexts: strings(reader.get("additional_contexts"))?,
        secrets: build_secrets(reader)?,
        shm_size_bytes: reader
            .get("shm_size")
            .map(|size| size.bytes())
            .transpose()?,
    })
}

/// `secrets` of a build: the key of each, by the id that the Dockerfile names.
fn build_secrets(reader: &Reader<'_>) -> Result<BTreeMap<String, String>> {
    let Some(listed) = reader.get("secrets") else {
        return Ok(BTreeMap::new());
    };
    let mut found = BTreeMap::new();
    for item in listed.items()? {
        let source = optional_text(&item, "source")?.unwrap_or_default();
        let target = optional_text(&item, "target")?;
        found.insert(target.unwrap_or_else(|| source.clone()), source);
    }
    Ok(found)
}

impl Network {
    pub(crate) fn read(reader: &Reader<'_>) -> Result<Self> {
        let mut network = Self {
            name: optional_text(reader, "name")?.unwrap_or_default(),
            external: flag(reader, "external", false)?,
            driver: optional_text(reader, "driver")?,
            driver_opts: strings(reader.get("driver_opts"))?,
            internal: flag(reader, "internal", false)?,
            ipv6: flag(reader, "enable_ipv6", false)?,
            labels: strings(reader.get("labels"))?,
            ..Self::default()
        };
        let Some(ipam) = reader.get("ipam") else {
            return Ok(network);
        };
        ipam.check_keys(&["driver", "config", "options"], &[])?;
        let pools = ipam
            .get("config")
            .map_or(Ok(Vec::new()), |config| config.items())?;
        if pools.len() > 1 {
            return Err(ipam.error("config has more than one address pool, which is not supported"));
        }
        for pool in pools {
            pool.check_keys(&["subnet", "gateway", "ip_range"], &["aux_addresses"])?;
            network.subnet = optional_text(&pool, "subnet")?;
            network.gateway = optional_text(&pool, "gateway")?;
            network.ip_range = optional_text(&pool, "ip_range")?;
        }
        Ok(network)
    }
}

impl Volume {
    pub(crate) fn read(reader: &Reader<'_>) -> Result<Self> {
        Ok(Self {
            name: optional_text(reader, "name")?.unwrap_or_default(),
            external: flag(reader, "external", false)?,
            driver: optional_text(reader, "driver")?,
            driver_opts: strings(reader.get("driver_opts"))?,
            labels: strings(reader.get("labels"))?,
        })
    }
}

/// A tree as JSON with sorted keys, places forgotten.
pub(crate) fn json(node: &Node) -> serde_json::Value {
    use serde_json::Value as Json;
    match &node.value {
        Value::Null => Json::Null,
        Value::Bool(value) => Json::Bool(*value),
        Value::Number(text) => serde_json::from_str(text)
            .ok()
            .filter(Json::is_number)
            .unwrap_or_else(|| Json::String(text.clone())),
        Value::Text(text) => Json::String(text.clone()),
        Value::List(items) => Json::Array(items.iter().map(json).collect()),
        Value::Map(entries) => {
            let sorted: BTreeMap<_, _> = entries
                .iter()
                .map(|(key, item)| (key.clone(), json(item)))
                .collect();
            Json::Object(sorted.into_iter().collect())
        }
    }
}
