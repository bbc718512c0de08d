//! `linux`: namespaces, devices, and what hides parts of /proc and /sys.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::names::unique;
use super::{IdMapping, LinuxResources, LinuxSeccomp, is_default};

/// What only Linux has.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Linux {
    /// User ids of a new user namespace.
    #[serde(skip_serializing_if = "is_default")]
    pub uid_mappings: Vec<IdMapping>,
    /// Group ids of a new user namespace.
    #[serde(skip_serializing_if = "is_default")]
    pub gid_mappings: Vec<IdMapping>,
    /// Kernel settings below /proc/sys, `net.ipv4.ip_forward`.
    #[serde(skip_serializing_if = "is_default", deserialize_with = "unique")]
    pub sysctl: BTreeMap<String, String>,
    /// Limits and device rules.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources: Option<LinuxResources>,
    /// Where the cgroup is, relative to the hierarchies' mount points.
    #[serde(skip_serializing_if = "is_default")]
    pub cgroups_path: String,
    /// Namespaces, new or joined; a kind that is not listed stays the runtime's own.
    #[serde(skip_serializing_if = "is_default")]
    pub namespaces: Vec<LinuxNamespace>,
    /// Device nodes to make, besides the default ones.
    #[serde(skip_serializing_if = "is_default")]
    pub devices: Vec<LinuxDevice>,
    /// System call filter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seccomp: Option<LinuxSeccomp>,
    /// `slave`, `private`, `shared`, `unbindable`.
    #[serde(skip_serializing_if = "is_default")]
    pub rootfs_propagation: String,
    /// Paths that show nothing.
    #[serde(skip_serializing_if = "is_default")]
    pub masked_paths: Vec<String>,
    /// Paths that cannot be written.
    #[serde(skip_serializing_if = "is_default")]
    pub readonly_paths: Vec<String>,
    /// SELinux label of mounts.
    #[serde(skip_serializing_if = "is_default")]
    pub mount_label: String,
    /// Cache and memory bandwidth allocation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub intel_rdt: Option<IntelRdt>,
    /// Execution domain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub personality: Option<LinuxPersonality>,
    /// Offsets of a new time namespace by clock, `monotonic` and `boottime`.
    #[serde(skip_serializing_if = "is_default", deserialize_with = "unique")]
    pub time_offsets: BTreeMap<String, LinuxTimeOffset>,
    /// Fields this version does not know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// Kinds of namespaces.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum NamespaceKind {
    /// Process ids.
    #[default]
    Pid,
    /// Network.
    Network,
    /// Mounts.
    Mount,
    /// System V IPC and POSIX message queues.
    Ipc,
    /// Host name and domain name.
    Uts,
    /// Users, groups and capabilities.
    User,
    /// View of the cgroups.
    Cgroup,
    /// Clocks.
    Time,
}

/// One namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinuxNamespace {
    /// Its kind.
    #[serde(rename = "type")]
    pub kind: NamespaceKind,
    /// Path of one to join; None: a new one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
}

/// A device node.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LinuxDevice {
    /// Absolute path in the container.
    pub path: String,
    /// `c`, `b`, `u` or `p`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Major number.
    pub major: i64,
    /// Minor number.
    pub minor: i64,
    /// Permissions; None: 0o666.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file_mode: Option<u32>,
    /// Owner; None: 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// Group; None: 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gid: Option<u32>,
    /// Fields this version does not know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// Cache and memory bandwidth allocation (resctrl).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct IntelRdt {
    /// Class of service.
    #[serde(rename = "closID", skip_serializing_if = "is_default")]
    pub clos_id: String,
    /// Schema lines for the cache.
    #[serde(skip_serializing_if = "is_default")]
    pub l3_cache_schema: String,
    /// Schema line for memory bandwidth.
    #[serde(skip_serializing_if = "is_default")]
    pub mem_bw_schema: String,
    /// Lines that are written as they are, after those of the two fields above.
    #[serde(skip_serializing_if = "is_default")]
    pub schemata: Vec<String>,
    /// Count the use of the last cache.
    #[serde(rename = "enableCMT", skip_serializing_if = "is_default")]
    pub enable_cmt: bool,
    /// Count the use of memory bandwidth.
    #[serde(rename = "enableMBM", skip_serializing_if = "is_default")]
    pub enable_mbm: bool,
    /// Count in a monitoring group of the container's own.
    #[serde(skip_serializing_if = "is_default")]
    pub enable_monitoring: bool,
    /// Fields this version does not know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// Execution domain: personality(2).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LinuxPersonality {
    /// `LINUX` or `LINUX32`.
    pub domain: String,
    /// Reserved; none is defined.
    #[serde(skip_serializing_if = "is_default")]
    pub flags: Vec<String>,
}

/// Offset of a clock.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LinuxTimeOffset {
    /// Seconds.
    pub secs: i64,
    /// Nanoseconds.
    pub nanosecs: u32,
}
