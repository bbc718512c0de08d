//! The OCI runtime specification 1.2, for Linux: `config.json` of a bundle.
//!
//! Field names and meanings are the specification's (<https://github.com/opencontainers/runtime-spec>). Every field is
//! optional here, whatever the specification says: the runtime refuses by name what it needs and does not find. Fields
//! that this version does not know survive a round trip in `other`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

mod linux;
mod names;
mod process;
mod resources;
mod seccomp;

pub use linux::{
    IntelRdt, Linux, LinuxDevice, LinuxNamespace, LinuxPersonality, LinuxTimeOffset, NamespaceKind,
};
pub use process::{
    Capabilities, ConsoleSize, CpuAffinity, IoPriority, Process, Rlimit, Scheduler, User,
};
pub use resources::{
    BlockIo, BlockIoThrottle, BlockIoWeight, Cpu, DeviceRule, HugepageLimit, InterfacePriority,
    LinuxResources, Memory, Network, Pids, Rdma,
};
pub use seccomp::{LinuxSeccomp, SeccompArg, SeccompSyscall};

/// The version of the specification that these types follow.
pub const VERSION: &str = "1.2.0";

/// Whether a field need not be written.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// `config.json`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Spec {
    /// Version of the specification, [`VERSION`].
    pub oci_version: String,
    /// The root file system.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub root: Option<Root>,
    /// Mounts, made in this order.
    #[serde(skip_serializing_if = "is_default")]
    pub mounts: Vec<Mount>,
    /// What runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub process: Option<Process>,
    /// Host name; empty: not changed.
    #[serde(skip_serializing_if = "is_default")]
    pub hostname: String,
    /// NIS domain name; empty: not changed.
    #[serde(skip_serializing_if = "is_default")]
    pub domainname: String,
    /// Programs run at points of the container's life.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hooks: Option<Hooks>,
    /// Free text by key.
    #[serde(skip_serializing_if = "is_default", deserialize_with = "names::unique")]
    pub annotations: BTreeMap<String, String>,
    /// What only Linux has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub linux: Option<Linux>,
    /// Fields this version does not know, other platforms' among them.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// The root file system.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Root {
    /// Path, absolute or relative to the bundle.
    pub path: String,
    /// Whether it is mounted read-only.
    #[serde(skip_serializing_if = "is_default")]
    pub readonly: bool,
    /// Fields this version does not know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// One mount.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Mount {
    /// Where, an absolute path inside the root.
    pub destination: String,
    /// Type of file system; `bind` or none with the option `bind` or `rbind`: a bind mount.
    #[serde(rename = "type", skip_serializing_if = "is_default")]
    pub kind: String,
    /// Device, or path of a bind mount.
    #[serde(skip_serializing_if = "is_default")]
    pub source: String,
    /// As in fstab; those the kernel's mount flags do not cover go to the file system.
    #[serde(skip_serializing_if = "is_default")]
    pub options: Vec<String>,
    /// User ids of an id-mapped mount.
    #[serde(rename = "uidMappings", skip_serializing_if = "is_default")]
    pub uid_mappings: Vec<IdMapping>,
    /// Group ids of an id-mapped mount.
    #[serde(rename = "gidMappings", skip_serializing_if = "is_default")]
    pub gid_mappings: Vec<IdMapping>,
    /// Fields this version does not know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// A range of ids, inside and outside of a user namespace.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdMapping {
    /// First id inside.
    #[serde(rename = "containerID")]
    pub container_id: u32,
    /// First id outside.
    #[serde(rename = "hostID")]
    pub host_id: u32,
    /// Number of ids.
    pub size: u32,
}

/// Programs run at points of the container's life.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Hooks {
    /// Deprecated: as `create_runtime`, before it.
    #[serde(skip_serializing_if = "is_default")]
    pub prestart: Vec<Hook>,
    /// In the runtime's namespaces, after the container's were made and before its root is entered.
    #[serde(skip_serializing_if = "is_default")]
    pub create_runtime: Vec<Hook>,
    /// In the container's namespaces, before its root is entered.
    #[serde(skip_serializing_if = "is_default")]
    pub create_container: Vec<Hook>,
    /// In the container, before the user's program.
    #[serde(skip_serializing_if = "is_default")]
    pub start_container: Vec<Hook>,
    /// In the runtime's namespaces, after the user's program has started.
    #[serde(skip_serializing_if = "is_default")]
    pub poststart: Vec<Hook>,
    /// In the runtime's namespaces, after the container is deleted.
    #[serde(skip_serializing_if = "is_default")]
    pub poststop: Vec<Hook>,
}

impl Hooks {
    /// Whether there is no hook at all.
    pub fn is_empty(&self) -> bool {
        is_default(self)
    }
}

/// One program of a hook.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Hook {
    /// Absolute path.
    pub path: String,
    /// Arguments, the program's name first.
    #[serde(skip_serializing_if = "is_default")]
    pub args: Vec<String>,
    /// `NAME=value`.
    #[serde(skip_serializing_if = "is_default")]
    pub env: Vec<String>,
    /// Seconds until it is killed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: &str = include_str!("runtime/sample.json");

    #[test]
    fn a_whole_configuration_survives_a_round_trip() {
        let before: Value = serde_json::from_str(SAMPLE).unwrap();
        let spec: Spec = serde_json::from_value(before.clone()).unwrap();
        let after = serde_json::to_value(&spec).unwrap();
        assert_eq!(before, after);
    }

    #[test]
    fn known_fields_are_not_left_in_other() {
        let spec: Spec = serde_json::from_str(SAMPLE).unwrap();
        assert_eq!(spec.other.keys().collect::<Vec<_>>(), ["zz-unknown"]);
        let linux = spec.linux.unwrap();
        assert!(linux.other.is_empty(), "{:?}", linux.other);
        assert!(linux.resources.as_ref().unwrap().other.is_empty());
        let process = spec.process.unwrap();
        assert!(process.other.is_empty(), "{:?}", process.other);
        assert_eq!(process.capabilities.unwrap().bounding, ["CAP_KILL"]);
        assert_eq!(linux.namespaces[1].kind, NamespaceKind::Network);
        assert_eq!(linux.namespaces[1].path.as_deref(), Some("/proc/1/ns/net"));
        assert_eq!(linux.seccomp.unwrap().syscalls[0].errno_ret, Some(38));
    }

    #[test]
    fn an_unknown_namespace_is_an_error() {
        let text = r#"{"linux":{"namespaces":[{"type":"galaxy"}]}}"#;
        let error = serde_json::from_str::<Spec>(text).unwrap_err().to_string();
        assert!(error.contains("galaxy"), "{error}");
    }
}
