//! `config.json`: what the user asked for, merged with the image's defaults. Written by `create`, changed by
//! `rename`, `update`, `network connect` and `network disconnect` only.

use std::collections::BTreeMap;

use jiff::Timestamp;
use ketch_spec::image::HealthCheck;
use ketch_spec::mount::Mount;
use ketch_spec::port::{Port, PortMapping};
use ketch_spec::{Digest, Id};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The record version this program writes.
pub const VERSION: u32 = 1;

/// A container's configuration.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ContainerConfig {
    /// Record version, [`VERSION`].
    pub version: u32,
    /// The container's id.
    pub id: Id,
    /// Its name, without a slash.
    pub name: String,
    /// When `create` happened.
    pub created: Timestamp,
    /// What it was made from.
    pub image: ImageSource,
    /// Program, arguments and their surroundings.
    pub process: ProcessConfig,
    /// Host name; empty means the first 12 digits of the id.
    #[serde(default)]
    pub hostname: String,
    /// NIS domain name.
    #[serde(default)]
    pub domainname: String,
    /// Labels, the image's included.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Volumes, binds and tmpfs.
    #[serde(default)]
    pub mounts: Vec<Mount>,
    /// Networks, ports and names.
    pub network: NetworkConfig,
    /// Limits.
    #[serde(default)]
    pub resources: Resources,
    /// Privileges.
    #[serde(default)]
    pub security: Security,
    /// Host or private namespaces.
    #[serde(default)]
    pub namespaces: Namespaces,
    /// What happens after an exit.
    #[serde(default)]
    pub restart: RestartPolicy,
    /// `--rm`: remove the container and its anonymous volumes at its exit.
    #[serde(default)]
    pub auto_remove: bool,
    /// `--init`: run our reaper as process 1.
    #[serde(default)]
    pub init: bool,
    /// Signal of `stop`; the default is SIGTERM.
    #[serde(default)]
    pub stop_signal: Option<String>,
    /// Seconds between the stop signal and SIGKILL; the default is 10; -1 waits forever.
    #[serde(default)]
    pub stop_timeout_s: Option<i64>,
    /// Health check; None or `["NONE"]` means none.
    #[serde(default)]
    pub health: Option<HealthCheck>,
    /// Where output goes.
    #[serde(default)]
    pub log: LogConfig,
    /// Runs a build step: not in listings, dies with its builder.
    #[serde(default)]
    pub hidden: bool,
    /// Where `upper` and `work` of the writable layer are, if not in the container's own directory: a build step's
    /// draft.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub writable_dir: Option<std::path::PathBuf>,
    /// Fields this version does not know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// The image a container was made from.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ImageSource {
    /// What the user typed.
    pub reference: String,
    /// The image id: digest of the image config. None for a build step over bare layers.
    pub id: Option<Digest>,
    /// Diff ids of the layers, lowest first.
    pub layers: Vec<Digest>,
}

/// What runs, and as whom.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct ProcessConfig {
    /// First words.
    #[serde(default)]
    pub entrypoint: Vec<String>,
    /// Arguments, or the whole command where there is no entrypoint.
    #[serde(default)]
    pub command: Vec<String>,
    /// `NAME=value`, complete.
    #[serde(default)]
    pub env: Vec<String>,
    /// Absolute; made if missing; empty means `/`.
    #[serde(default)]
    pub working_dir: String,
    /// `user[:group]`, names or numbers; empty means 0.
    #[serde(default)]
    pub user: String,
    /// Supplementary groups, names or numbers.
    #[serde(default)]
    pub groups: Vec<String>,
    /// `-t`: a terminal.
    #[serde(default)]
    pub tty: bool,
    /// `-i`: standard input stays open.
    #[serde(default)]
    pub open_stdin: bool,
    /// Close standard input when the first attached client leaves.
    #[serde(default)]
    pub stdin_once: bool,
}

/// Networks and names.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct NetworkConfig {
    /// `--network` in its simple sense.
    pub mode: NetworkMode,
    /// Networks to join, in order; the first gives the default route. Empty for host, none and container modes.
    #[serde(default)]
    pub endpoints: Vec<EndpointConfig>,
    /// `-p`, ranges already expanded; a missing host port is chosen at start.
    #[serde(default)]
    pub ports: Vec<PortMapping>,
    /// `--expose` and the image's EXPOSE.
    #[serde(default)]
    pub exposed: Vec<Port>,
    /// `-P`: publish all exposed ports on free host ports.
    #[serde(default)]
    pub publish_all: bool,
    /// `--dns`.
    #[serde(default)]
    pub dns: Vec<String>,
    /// `--dns-search`.
    #[serde(default)]
    pub dns_search: Vec<String>,
    /// `--dns-option`.
    #[serde(default)]
    pub dns_options: Vec<String>,
    /// `--add-host`, `name:address`; the address may be `host-gateway`.
    #[serde(default)]
    pub extra_hosts: Vec<String>,
}

/// Which network namespace the container has.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum NetworkMode {
    /// Its own, with the endpoints listed.
    #[default]
    Bridge,
    /// The host's.
    Host,
    /// Its own, loopback only.
    None,
    /// Another container's.
    Container(Id),
}

/// A network to join.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct EndpointConfig {
    /// Name or id as given; records keep the network's name.
    pub network: String,
    /// Names that containers of the network resolve, besides the container's own name and short id.
    #[serde(default)]
    pub aliases: Vec<String>,
    /// Wanted IPv4 address.
    #[serde(default)]
    pub ipv4: Option<std::net::Ipv4Addr>,
    /// Wanted IPv6 address.
    #[serde(default)]
    pub ipv6: Option<std::net::Ipv6Addr>,
    /// Wanted hardware address, `02:42:…`.
    #[serde(default)]
    pub mac: Option<String>,
}

/// Limits; None means no limit or the kernel's default.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Resources {
    /// `--memory`.
    pub memory_bytes: Option<u64>,
    /// `--memory-swap`: memory plus swap; -1 is unlimited.
    pub memory_swap_bytes: Option<i64>,
    /// `--memory-reservation`.
    pub memory_reservation_bytes: Option<u64>,
    /// `--cpus` in billionths of a processor.
    pub nano_cpus: Option<u64>,
    /// `--cpu-shares`, 2 to 262144.
    pub cpu_shares: Option<u64>,
    /// `--cpu-period`, microseconds.
    pub cpu_period_us: Option<u64>,
    /// `--cpu-quota`, microseconds.
    pub cpu_quota_us: Option<i64>,
    /// `--cpuset-cpus`, `0-2,4`.
    pub cpuset_cpus: Option<String>,
    /// `--cpuset-mems`.
    pub cpuset_mems: Option<String>,
    /// `--pids-limit`; -1 is unlimited.
    pub pids_limit: Option<i64>,
    /// `--oom-score-adj`.
    pub oom_score_adj: Option<i32>,
    /// `--oom-kill-disable` (cgroup v1).
    pub oom_kill_disable: bool,
    /// `--shm-size`; the default is 64 MiB.
    pub shm_size_bytes: Option<u64>,
    /// `--ulimit`.
    pub ulimits: Vec<Ulimit>,
    /// `--device`.
    pub devices: Vec<Device>,
    /// `--sysctl`.
    pub sysctls: BTreeMap<String, String>,
}

/// One `--ulimit`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ulimit {
    /// `nofile`, …
    pub name: String,
    /// Soft limit; -1 is unlimited.
    pub soft: i64,
    /// Hard limit; -1 is unlimited.
    pub hard: i64,
}

/// One `--device host[:container[:rwm]]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Path on the host.
    pub host: String,
    /// Path in the container.
    pub container: String,
    /// Some of `rwm`.
    pub permissions: String,
}

/// Privileges.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Security {
    /// `--privileged`.
    pub privileged: bool,
    /// `--cap-add`, as given (`NET_ADMIN`, `CAP_NET_ADMIN`, `ALL`).
    pub cap_add: Vec<String>,
    /// `--cap-drop`.
    pub cap_drop: Vec<String>,
    /// `--read-only`.
    pub read_only: bool,
    /// `--security-opt no-new-privileges`.
    pub no_new_privileges: bool,
    /// `--security-opt seccomp=…`.
    pub seccomp: Seccomp,
    /// `--security-opt systempaths=unconfined`: nothing masked or read-only.
    pub system_paths_unconfined: bool,
    /// `--security-opt apparmor=…`: the name of a profile; None: Docker's default one where there is AppArmor.
    pub apparmor: Option<String>,
}

/// Which system call filter applies.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub enum Seccomp {
    /// Docker's default profile.
    #[default]
    Default,
    /// None.
    Unconfined,
    /// A profile in Docker's JSON format, its text.
    Profile(String),
}

/// Namespaces that may be the host's or another container's.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Namespaces {
    /// `--pid`.
    pub pid: NamespaceMode,
    /// `--ipc`.
    pub ipc: NamespaceMode,
    /// `--uts`.
    pub uts: NamespaceMode,
    /// `--cgroupns`; private is the default here too on v1 and v2.
    pub cgroup: NamespaceMode,
}

/// Whose namespace.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub enum NamespaceMode {
    /// The container's own.
    #[default]
    Private,
    /// The host's.
    Host,
    /// Another container's.
    Container(Id),
}

/// What happens after an exit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum RestartPolicy {
    /// Nothing.
    #[default]
    No,
    /// Restart, whatever the exit code.
    Always,
    /// Restart, unless a user stopped it.
    UnlessStopped,
    /// Restart after a failure, at most so often (0: without bound).
    OnFailure(u32),
}

/// Where output goes: `json-file` (the default) or `none`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LogConfig {
    /// Driver name.
    pub driver: String,
    /// `max-size`, `max-file`.
    #[serde(default)]
    pub options: BTreeMap<String, String>,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            driver: "json-file".into(),
            options: BTreeMap::new(),
        }
    }
}
