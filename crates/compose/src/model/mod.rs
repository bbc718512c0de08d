//! A project as the planner and the executor see it, read from its normalised tree.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use crate::node::Node;
use crate::reader::Reader;

mod read;

pub(crate) use read::{json, strings};

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
    /// The profiles of those.
    pub disabled_profiles: Vec<String>,
    /// Networks that services use, by key.
    pub networks: BTreeMap<String, Network>,
    /// Volumes, by key.
    pub volumes: BTreeMap<String, Volume>,
    /// Secrets and configs: what is behind them, by `secrets.KEY` and `configs.KEY`.
    pub files_by_key: BTreeMap<String, FileSource>,
    /// The variables that were there for interpolation.
    pub variables: BTreeMap<String, String>,
    /// Things that are allowed, but probably not meant; one sentence each.
    pub warnings: Vec<String>,
    /// The normalised tree, for `config`.
    pub(crate) tree: Node,
}

/// What a secret or config holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileSource {
    /// A file of the host, mounted.
    Host(String),
    /// This text, copied into each container.
    Content(String),
}

/// A service: what planning needs in fields, the rest in its normalised tree.
#[derive(Debug, Clone)]
pub struct Service {
    /// Its name.
    pub name: String,
    /// The image it runs: as given, or `project-service` for one that is built.
    pub image: String,
    /// Whether the file names the image; otherwise it can only be built.
    pub has_own_image: bool,
    /// How to build it.
    pub build: Option<Build>,
    /// Services that come first.
    pub depends_on: BTreeMap<String, Dependency>,
    /// Those of them whose containers its own refer to: by a shared namespace or their volumes.
    pub shares_with: BTreeSet<String>,
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
    /// Directories and images (`docker-image://`) that the Dockerfile may name.
    pub contexts: BTreeMap<String, String>,
    /// Keys of the project's secrets, by the id that the Dockerfile names.
    pub secrets: BTreeMap<String, String>,
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

impl Service {
    /// Reads its normalised tree.
    pub(crate) fn reader(&self) -> Reader<'_> {
        Reader::root(&self.tree)
    }
}

impl Project {
    /// A project of which only the name is known: what exists of it is found by its labels.
    pub fn bare(name: &str, directory: PathBuf) -> Self {
        Self {
            name: name.to_owned(),
            directory,
            files: Vec::new(),
            services: BTreeMap::new(),
            disabled: BTreeSet::new(),
            disabled_profiles: Vec::new(),
            networks: BTreeMap::new(),
            volumes: BTreeMap::new(),
            files_by_key: BTreeMap::new(),
            variables: BTreeMap::new(),
            warnings: Vec::new(),
            tree: Node::empty(crate::error::Position::of_file("compose.yaml")),
        }
    }

    /// All profiles that services name.
    pub fn profiles(&self) -> std::collections::BTreeSet<String> {
        let listed = self.services.values().map(|service| service.reader());
        let listed = listed.filter_map(|service| Service::profiles(&service).ok());
        listed
            .chain([self.disabled_profiles.clone()])
            .flatten()
            .collect()
    }

    /// The same project with these services only.
    #[must_use]
    pub fn only(&self, services: &[String]) -> Self {
        let mut project = self.clone();
        project.services.retain(|name, _| services.contains(name));
        project
            .tree
            .retain("services", &|name| services.iter().any(|own| own == name));
        project
    }

    /// Whether it came from files: one that did not knows its services from their containers only.
    pub fn has_files(&self) -> bool {
        !self.files.is_empty()
    }
}
