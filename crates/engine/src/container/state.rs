//! `state.json`: what is. One enum, written only by whoever holds the owner lock.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use jiff::Timestamp;
use ketch_spec::port::PortMapping;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The record version this program writes.
pub const VERSION: u32 = 1;

/// A container's state record.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ContainerState {
    /// Record version, [`VERSION`].
    pub version: u32,
    /// Where in its life the container is.
    pub status: Status,
    /// Process id of init in the host's numbering while running or paused, else 0.
    #[serde(default)]
    pub pid: u32,
    /// Start time of that process in clock ticks since boot (`/proc/PID/stat`, field 22), for showing only.
    #[serde(default)]
    pub started: Option<Timestamp>,
    /// The last exit.
    #[serde(default)]
    pub exit: Option<ExitRecord>,
    /// Restarts by policy since the last start by a user.
    #[serde(default)]
    pub restart_count: u32,
    /// A user stopped it: `unless-stopped` and `always` leave it alone until a user starts it or, for `always`, until boot.
    #[serde(default)]
    pub stopped_by_user: bool,
    /// Networks joined, by network name, while running.
    #[serde(default)]
    pub endpoints: BTreeMap<String, EndpointState>,
    /// Ports as published, host ports filled in, while running.
    #[serde(default)]
    pub ports: Vec<PortMapping>,
    /// Health, where there is a check.
    #[serde(default)]
    pub health: Option<HealthState>,
    /// Where the cgroup is, for `top`, `stats` and recovery: relative to the hierarchies' mount points.
    #[serde(default)]
    pub cgroup: Option<String>,
    /// Fields this version does not know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// The states of a container. `removing` is not stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Made, never started.
    Created,
    /// Its init runs.
    Running,
    /// Its processes are frozen.
    Paused,
    /// Its monitor waits before the next start.
    Restarting,
    /// Its init has ended.
    Exited,
    /// It could not be removed wholly.
    Dead,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExitRecord {
    /// Exit code; 128 + signal for a death by signal; 125, 126, 127 for a start that failed; 255 for a lost monitor.
    pub code: i32,
    /// The signal, if one ended it.
    #[serde(default)]
    pub signal: Option<i32>,
    /// Whether the kernel's out-of-memory killer struck in its cgroup.
    #[serde(default)]
    pub out_of_memory: bool,
    /// When.
    pub at: Timestamp,
    /// Why, where it was not the program's own doing.
    #[serde(default)]
    pub error: String,
}

/// A network joined.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct EndpointState {
    /// The network's id.
    pub network_id: String,
    /// Address.
    pub ipv4: Option<Ipv4Addr>,
    /// Length of its prefix.
    #[serde(default)]
    pub ipv4_prefix: u8,
    /// The network's gateway.
    #[serde(default)]
    pub gateway: Option<Ipv4Addr>,
    /// IPv6 address.
    #[serde(default)]
    pub ipv6: Option<Ipv6Addr>,
    /// Hardware address.
    pub mac: String,
    /// Names that others resolve.
    #[serde(default)]
    pub names: Vec<String>,
}

/// Health as the monitor sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HealthState {
    /// `starting`, `healthy` or `unhealthy`.
    pub status: HealthStatus,
    /// Failures in a row.
    pub failing_streak: u32,
    /// The last five probes, oldest first.
    #[serde(default)]
    pub log: Vec<HealthProbe>,
}

/// Health verdicts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HealthStatus {
    /// No verdict yet.
    Starting,
    /// The last probe succeeded.
    Healthy,
    /// Too many failures in a row.
    Unhealthy,
}

/// One probe.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HealthProbe {
    /// Begin.
    pub start: Timestamp,
    /// End.
    pub end: Timestamp,
    /// 0 healthy, 1 unhealthy, -1 did not run or timed out.
    pub exit_code: i32,
    /// The first 4096 bytes of output.
    pub output: String,
}

impl ContainerState {
    /// The state of a container that has just been made.
    pub fn created() -> Self {
        Self {
            version: VERSION,
            status: Status::Created,
            pid: 0,
            started: None,
            exit: None,
            restart_count: 0,
            stopped_by_user: false,
            endpoints: BTreeMap::new(),
            ports: Vec::new(),
            health: None,
            cgroup: None,
            other: Map::new(),
        }
    }

    /// Clears what is true of a running container only, and records how the run ended.
    pub fn exited(&mut self, exit: ExitRecord) {
        self.status = Status::Exited;
        self.pid = 0;
        self.exit = Some(exit);
        self.endpoints.clear();
        self.ports.clear();
        self.cgroup = None;
        // Docker keeps the last verdict of a stopped container as unhealthy only while it runs.
        if let Some(health) = &mut self.health {
            health.failing_streak = 0;
        }
    }
}

impl Status {
    /// Docker's name of the state.
    pub fn name(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Restarting => "restarting",
            Self::Exited => "exited",
            Self::Dead => "dead",
        }
    }
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
