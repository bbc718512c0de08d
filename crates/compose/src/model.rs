//! A project as the planner and the executor see it, read from its normalised tree.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use crate::error::LoadError;
use crate::node::{Node, Value};
use crate::reader::Reader;

/// A loaded project.
#[derive(Debug, Clone)]
pub struct Project {
    /// Its name: `[a-z0-9][a-z0-9_-]*`.
    pub name: String,
    /// The directory that relative paths were relative to.
    pub directory: PathBuf,
    /// The files it was read from, as given.
    pub files: Vec<PathBuf>,
    /// Services whose profiles are on, by name.
    pub services: BTreeMap<String, Service>,
    /// Services that exist but whose profiles are off.
    pub disabled: BTreeSet<String>,
    /// Networks that services use, by key.
    pub networks: BTreeMap<String, Network>,
    /// Volumes, by key.
    pub volumes: BTreeMap<String, Volume>,
    /// Secrets and configs: the files behind them, by `secrets.KEY` and `configs.KEY`.
    pub files_by_key: BTreeMap<String, String>,
    /// Things that are allowed, but probably not meant; one sentence each.
    pub warnings: Vec<String>,
    /// The normalised tree, for `config`.
    pub(crate) tree: Node,
}

/// A service: what planning needs in fields, the rest in its normalised tree.
#[derive(Debug, Clone)]
pub struct Service {
    /// Its name.
    pub name: String,
    /// The image it runs: as given, or `project-service` for one that is built.
    pub image: String,
    /// How to build it.
    pub build: Option<Build>,
    /// Services that come first.
    pub depends_on: BTreeMap<String, Dependency>,
    /// Fixed name of its one container.
    pub container_name: Option<String>,
    /// How many containers.
    pub scale: u32,
    /// `always`, `never`, `missing`, `build`.
    pub pull_policy: PullPolicy,
    /// Networks with aliases and addresses, by key; empty with a network mode.
    pub networks: BTreeMap<String, Attachment>,
    /// `host`, `none`, `service:x`, `container:x`, `bridge`.
    pub network_mode: Option<String>,
    /// Keys of the volumes it mounts.
    pub volumes: BTreeSet<String>,
    /// How long `stop` waits, if it says.
    pub stop_grace_period: Option<Duration>,
    /// Whether `up` shows its output.
    pub attach: bool,
    /// The normalised tree.
    pub(crate) tree: Node,
}

/// When to pull a service's image.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum PullPolicy {
    /// If it is not there.
    #[default]
    Missing,
    /// At every `up`.
    Always,
    /// Never.
    Never,
    /// Build it at every `up`.
    Build,
}

/// How to build a service's image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Build {
    /// The context's directory, absolute.
    pub context: PathBuf,
    /// Dockerfile, relative to the context.
    pub dockerfile: Option<PathBuf>,
    /// Its text instead.
    pub dockerfile_inline: Option<String>,
    /// Arguments.
    pub args: BTreeMap<String, String>,
    /// Stage.
    pub target: Option<String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// `none`, `host` or default.
    pub network: Option<String>,
    /// Run everything anew.
    pub no_cache: bool,
    /// Ask the registry for bases.
    pub pull: bool,
    /// `name=address`.
    pub extra_hosts: Vec<String>,
    /// Further names for the image.
    pub tags: Vec<String>,
    /// Size of /dev/shm in RUN steps.
    pub shm_size_bytes: Option<u64>,
}

/// What a service waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dependency {
    /// For what.
    pub condition: Condition,
    /// Restart the service when the dependency was recreated.
    pub restart: bool,
    /// Without it, the service is no good.
    pub required: bool,
}

/// When a dependency is satisfied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// It runs.
    Started,
    /// Its health check succeeds.
    Healthy,
    /// It has exited with 0.
    Completed,
}

/// A service's place in a network.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attachment {
    /// Names besides the service's.
    pub aliases: Vec<String>,
    /// Wanted address.
    pub ipv4: Option<std::net::Ipv4Addr>,
    /// Wanted IPv6 address.
    pub ipv6: Option<std::net::Ipv6Addr>,
    /// Wanted hardware address.
    pub mac: Option<String>,
    /// The highest comes first.
    pub priority: i64,
}

/// A network.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Network {
    /// The engine's name for it.
    pub name: String,
    /// Made elsewhere.
    pub external: bool,
    /// Driver, `bridge` by default.
    pub driver: Option<String>,
    /// Driver options.
    pub driver_opts: BTreeMap<String, String>,
    /// No outside.
    pub internal: bool,
    /// Asks for IPv6.
    pub ipv6: bool,
    /// `subnet, gateway, ip_range` of the first address pool.
    pub subnet: Option<String>,
    /// Gateway.
    pub gateway: Option<String>,
    /// Range within the subnet.
    pub ip_range: Option<String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
}

/// A volume.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Volume {
    /// The engine's name for it.
    pub name: String,
    /// Made elsewhere.
    pub external: bool,
    /// Driver.
    pub driver: Option<String>,
    /// Driver options.
    pub driver_opts: BTreeMap<String, String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
}

type Result<T> = std::result::Result<T, LoadError>;

/// The strings of a mapping.
pub(crate) fn strings(reader: Option<Reader<'_>>) -> Result<BTreeMap<String, String>> {
    let Some(reader) = reader else { return Ok(BTreeMap::new()) };
    Ok(reader.pairs(&['='])?.into_iter().map(|(key, value)| (key, value.unwrap_or_default())).collect())
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
        let build = reader.get("build").map(|build| read_build(&build)).transpose()?;
        let container_name = optional_text(reader, "container_name")?;
        let scale = read_scale(reader)?;
        if container_name.is_some() && scale > 1 {
            return Err(reader.error("has a container_name and can only have one container"));
        }
        Ok(Self {
            name: name.to_owned(),
            image: optional_text(reader, "image")?.unwrap_or_else(|| format!("{project}-{name}")),
            depends_on: dependencies(reader)?,
            container_name,
            scale,
            pull_policy: pull_policy(reader)?,
            networks: attachments(reader)?,
            network_mode: optional_text(reader, "network_mode")?,
            volumes: named_volumes(reader)?,
            stop_grace_period: reader.get("stop_grace_period").map(|period| period.duration()).transpose()?,
            attach: flag(reader, "attach", true)?,
            tree: reader.node().clone(),
            build,
        })
    }

    /// The profiles that turn it on; none means it is always on.
    pub(crate) fn profiles(reader: &Reader<'_>) -> Result<Vec<String>> {
        reader.get("profiles").map_or(Ok(Vec::new()), |profiles| profiles.texts())
    }

    /// Reads its normalised tree.
    pub(crate) fn reader(&self) -> Reader<'_> {
        Reader::root(&self.tree)
    }
}

fn read_scale(reader: &Reader<'_>) -> Result<u32> {
    let scale = reader.get("scale").map(|scale| scale.parsed::<u32>("a number of containers")).transpose()?;
    let replicas = reader.get("deploy").and_then(|deploy| deploy.get("replicas"));
    let replicas = replicas.map(|replicas| replicas.parsed::<u32>("a number of containers")).transpose()?;
    match (scale, replicas) {
        (Some(scale), Some(replicas)) if scale != replicas => {
            Err(reader.error("can't set distinct values on 'scale' and 'deploy.replicas'"))
        }
        (scale, replicas) => Ok(scale.or(replicas).unwrap_or(1)),
    }
}

fn pull_policy(reader: &Reader<'_>) -> Result<PullPolicy> {
    let Some(value) = reader.get("pull_policy") else { return Ok(PullPolicy::Missing) };
    match value.text()?.as_str() {
        "missing" | "if_not_present" => Ok(PullPolicy::Missing),
        "always" => Ok(PullPolicy::Always),
        "never" => Ok(PullPolicy::Never),
        "build" => Ok(PullPolicy::Build),
        other => Err(value.error(format!("{other:?} is not supported: use always, missing, never or build"))),
    }
}

/// What `depends_on` says, and what links, shared namespaces and `volumes_from` imply.
fn dependencies(reader: &Reader<'_>) -> Result<BTreeMap<String, Dependency>> {
    let implied = Dependency { condition: Condition::Started, restart: false, required: true };
    let mut found = BTreeMap::new();
    for link in reader.get("links").map_or(Ok(Vec::new()), |links| links.texts())? {
        found.insert(link.split(':').next().unwrap_or_default().to_owned(), implied);
    }
    for key in ["network_mode", "ipc", "pid"] {
        if let Some(service) = optional_text(reader, key)?.as_deref().and_then(|mode| mode.strip_prefix("service:")) {
            found.insert(service.to_owned(), Dependency { restart: true, ..implied });
        }
    }
    for source in reader.get("volumes_from").map_or(Ok(Vec::new()), |list| list.texts())? {
        if !source.starts_with("container:") {
            found.insert(source.split(':').next().unwrap_or_default().to_owned(), implied);
        }
    }
    let Some(listed) = reader.get("depends_on") else { return Ok(found) };
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

fn attachments(reader: &Reader<'_>) -> Result<BTreeMap<String, Attachment>> {
    let Some(networks) = reader.get("networks") else { return Ok(BTreeMap::new()) };
    let mut found = BTreeMap::new();
    for (key, details) in networks.entries()? {
        let attachment = Attachment {
            aliases: details.get("aliases").map_or(Ok(Vec::new()), |aliases| aliases.texts())?,
            ipv4: details.get("ipv4_address").map(|address| address.parsed("an IPv4 address")).transpose()?,
            ipv6: details.get("ipv6_address").map(|address| address.parsed("an IPv6 address")).transpose()?,
            mac: optional_text(&details, "mac_address")?,
            priority: details.get("priority").map_or(Ok(0), |priority| priority.parsed("a number"))?,
        };
        found.insert(key.to_owned(), attachment);
    }
    Ok(found)
}

fn named_volumes(reader: &Reader<'_>) -> Result<BTreeSet<String>> {
    let Some(volumes) = reader.get("volumes") else { return Ok(BTreeSet::new()) };
    let mut keys = BTreeSet::new();
    for volume in volumes.items()? {
        if optional_text(&volume, "type")?.as_deref() == Some("volume") {
            keys.extend(optional_text(&volume, "source")?);
        }
    }
    Ok(keys)
}

fn read_build(reader: &Reader<'_>) -> Result<Build> {
    for key in ["platforms", "additional_contexts", "cache_from", "secrets"] {
        if let Some(value) = reader.get(key) {
            return Err(value.error("is not supported"));
        }
    }
    let texts = |key: &str| reader.get(key).map_or(Ok(Vec::new()), |value| value.texts());
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
        shm_size_bytes: reader.get("shm_size").map(|size| size.bytes()).transpose()?,
    })
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
        let Some(ipam) = reader.get("ipam") else { return Ok(network) };
        ipam.check_keys(&["driver", "config", "options"], &[])?;
        let pools = ipam.get("config").map_or(Ok(Vec::new()), |config| config.items())?;
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
        Value::Number(text) => {
            serde_json::from_str(text).ok().filter(Json::is_number).unwrap_or_else(|| Json::String(text.clone()))
        }
        Value::Text(text) => Json::String(text.clone()),
        Value::List(items) => Json::Array(items.iter().map(json).collect()),
        Value::Map(entries) => {
            let sorted: BTreeMap<_, _> = entries.iter().map(|(key, item)| (key.clone(), json(item))).collect();
            Json::Object(sorted.into_iter().collect())
        }
    }
}
