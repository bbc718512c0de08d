//! The body of `POST /containers/create`, as clients write it. What is not in it by name is in `other`, and refused if
//! it is set: a wish that is ignored in silence is worse than one that is refused.

use std::collections::BTreeMap;

use ketch_engine::{Error, ErrorKind, Result};
use ketch_spec::image::HealthCheck;
use serde::Deserialize;
use serde_json::Value;

use super::networks::Endpoint;

/// A map from names to nothing: Go's set.
pub type Set = BTreeMap<String, Value>;
/// Fields that are not known here.
pub type Other = BTreeMap<String, Value>;

/// The whole body.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Body {
    pub hostname: Option<String>,
    pub domainname: Option<String>,
    pub user: Option<String>,
    /// Which streams the client will attach: of no consequence here.
    pub attach_stdin: bool,
    pub attach_stdout: bool,
    pub attach_stderr: bool,
    pub exposed_ports: Option<Set>,
    pub tty: bool,
    pub open_stdin: bool,
    pub stdin_once: bool,
    pub env: Option<Vec<String>>,
    pub cmd: Option<Words>,
    pub healthcheck: Option<HealthCheck>,
    pub image: String,
    pub volumes: Option<Set>,
    pub working_dir: Option<String>,
    pub entrypoint: Option<Words>,
    pub mac_address: Option<String>,
    pub labels: Option<BTreeMap<String, String>>,
    pub stop_signal: Option<String>,
    pub stop_timeout: Option<i64>,
    pub host_config: Option<HostConfig>,
    pub networking_config: Option<NetworkingConfig>,
    #[serde(flatten)]
    pub other: Other,
}

/// A list of words, or one of them alone.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub enum Words {
    List(Vec<String>),
    One(String),
}

impl Words {
    /// The list.
    pub fn into_list(self) -> Vec<String> {
        match self {
            Self::List(list) => list,
            Self::One(word) => vec![word],
        }
    }
}

/// `HostConfig`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct HostConfig {
    pub binds: Option<Vec<String>>,
    pub mounts: Option<Vec<super::mounts::MountBody>>,
    pub tmpfs: Option<BTreeMap<String, String>>,
    pub volumes_from: Option<Vec<String>>,
    pub volume_driver: Option<String>,
    pub network_mode: Option<String>,
    pub port_bindings: Option<BTreeMap<String, Option<Vec<Binding>>>>,
    pub publish_all_ports: bool,
    pub dns: Option<Vec<String>>,
    pub dns_search: Option<Vec<String>>,
    pub dns_options: Option<Vec<String>>,
    pub extra_hosts: Option<Vec<String>>,
    pub restart_policy: Option<RestartBody>,
    pub auto_remove: bool,
    pub init: Option<bool>,
    pub log_config: Option<LogBody>,
    pub group_add: Option<Vec<String>>,
    pub cap_add: Option<Vec<String>>,
    pub cap_drop: Option<Vec<String>>,
    pub privileged: bool,
    pub readonly_rootfs: bool,
    pub security_opt: Option<Vec<String>>,
    pub masked_paths: Option<Vec<String>>,
    pub readonly_paths: Option<Vec<String>>,
    pub pid_mode: Option<String>,
    pub ipc_mode: Option<String>,
    #[serde(rename = "UTSMode")]
    pub uts_mode: Option<String>,
    pub cgroupns_mode: Option<String>,
    pub userns_mode: Option<String>,
    pub runtime: Option<String>,
    pub memory: i64,
    pub memory_swap: i64,
    pub memory_reservation: i64,
    pub memory_swappiness: Option<i64>,
    pub nano_cpus: i64,
    pub cpu_shares: i64,
    pub cpu_period: i64,
    pub cpu_quota: i64,
    pub cpuset_cpus: Option<String>,
    pub cpuset_mems: Option<String>,
    pub pids_limit: Option<i64>,
    pub oom_score_adj: i64,
    pub oom_kill_disable: Option<bool>,
    pub shm_size: i64,
    pub ulimits: Option<Vec<UlimitBody>>,
    pub devices: Option<Vec<DeviceBody>>,
    pub sysctls: Option<BTreeMap<String, String>>,
    /// The client's terminal at the time of the create; it sends its size again at the start.
    pub console_size: Option<Value>,
    /// Where the client writes the id.
    #[serde(rename = "ContainerIDFile")]
    pub container_id_file: Option<String>,
    #[serde(flatten)]
    pub other: Other,
}

/// A host's side of a published port.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Binding {
    pub host_ip: String,
    pub host_port: String,
}

/// `RestartPolicy`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RestartBody {
    pub name: String,
    pub maximum_retry_count: i64,
}

/// `LogConfig`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct LogBody {
    pub r#type: String,
    pub config: Option<BTreeMap<String, String>>,
}

/// One of `Ulimits`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct UlimitBody {
    pub name: String,
    pub soft: i64,
    pub hard: i64,
}

/// One of `Devices`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct DeviceBody {
    pub path_on_host: String,
    pub path_in_container: String,
    pub cgroup_permissions: String,
}

/// `NetworkingConfig`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct NetworkingConfig {
    pub endpoints_config: Option<BTreeMap<String, Option<Endpoint>>>,
}

/// Refuses fields that are set and have no effect here. Zero, empty and false count as not set: clients in Go send
/// them all.
///
/// # Errors
/// `Unsupported`, naming the first.
pub fn refuse_set(place: &str, other: &Other) -> Result<()> {
    match other.iter().find(|(_, value)| is_set(value)) {
        Some((name, _)) => Err(unsupported(&format!("{place}{name}"))),
        None => Ok(()),
    }
}

/// `x is not supported`.
pub fn unsupported(what: &str) -> Error {
    Error::new(ErrorKind::Unsupported, format!("{what} is not supported"))
}

/// `Invalid` with a message.
pub fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Invalid, message)
}

fn is_set(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(is) => *is,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => items.iter().any(is_set),
        Value::Object(fields) => fields.values().any(is_set),
    }
}
