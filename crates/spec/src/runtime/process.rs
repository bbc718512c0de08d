//! `process`: what runs, as whom, with which privileges.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::is_default;

/// What runs.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Process {
    /// Whether it has a terminal.
    #[serde(skip_serializing_if = "is_default")]
    pub terminal: bool,
    /// The terminal's first size.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub console_size: Option<ConsoleSize>,
    /// User and groups.
    pub user: User,
    /// Program and arguments.
    #[serde(skip_serializing_if = "is_default")]
    pub args: Vec<String>,
    /// `NAME=value`.
    #[serde(skip_serializing_if = "is_default")]
    pub env: Vec<String>,
    /// Working directory, absolute.
    pub cwd: String,
    /// Capabilities; None: none at all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capabilities: Option<Capabilities>,
    /// Resource limits.
    #[serde(skip_serializing_if = "is_default")]
    pub rlimits: Vec<Rlimit>,
    /// Whether execve may not give privileges.
    #[serde(skip_serializing_if = "is_default")]
    pub no_new_privileges: bool,
    /// AppArmor profile.
    #[serde(skip_serializing_if = "is_default")]
    pub apparmor_profile: String,
    /// SELinux label.
    #[serde(skip_serializing_if = "is_default")]
    pub selinux_label: String,
    /// `oom_score_adj`; None: the runtime's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oom_score_adj: Option<i32>,
    /// Scheduling policy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scheduler: Option<Scheduler>,
    /// Input and output priority.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub io_priority: Option<IoPriority>,
    /// Processors of a process that joins a container.
    #[serde(rename = "execCPUAffinity", skip_serializing_if = "Option::is_none")]
    pub exec_cpu_affinity: Option<CpuAffinity>,
    /// Fields this version does not know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// Size of a terminal in characters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ConsoleSize {
    /// Rows.
    pub height: u32,
    /// Columns.
    pub width: u32,
}

/// User and groups, numbers.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct User {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// File mode creation mask; None: 0o022.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub umask: Option<u32>,
    /// Supplementary groups.
    #[serde(skip_serializing_if = "is_default")]
    pub additional_gids: Vec<u32>,
    /// Fields this version does not know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// The five sets of capabilities, each a list of names such as `CAP_KILL`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Capabilities {
    /// What execve can give at most.
    #[serde(skip_serializing_if = "is_default")]
    pub bounding: Vec<String>,
    /// What counts now.
    #[serde(skip_serializing_if = "is_default")]
    pub effective: Vec<String>,
    /// What a file with inheritable capabilities may keep.
    #[serde(skip_serializing_if = "is_default")]
    pub inheritable: Vec<String>,
    /// What may become effective.
    #[serde(skip_serializing_if = "is_default")]
    pub permitted: Vec<String>,
    /// What a program without file capabilities keeps.
    #[serde(skip_serializing_if = "is_default")]
    pub ambient: Vec<String>,
}

/// One resource limit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Rlimit {
    /// Name such as `RLIMIT_NOFILE`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Hard limit; `u64::MAX` is unlimited.
    pub hard: u64,
    /// Soft limit; `u64::MAX` is unlimited.
    pub soft: u64,
}

/// Scheduling policy: sched_setattr(2).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Scheduler {
    /// `SCHED_OTHER`, `SCHED_FIFO`, `SCHED_RR`, `SCHED_BATCH`, `SCHED_ISO`, `SCHED_IDLE`, `SCHED_DEADLINE`.
    pub policy: String,
    /// Nice value of `SCHED_OTHER` and `SCHED_BATCH`.
    #[serde(skip_serializing_if = "is_default")]
    pub nice: i32,
    /// Priority of `SCHED_FIFO` and `SCHED_RR`.
    #[serde(skip_serializing_if = "is_default")]
    pub priority: i32,
    /// `SCHED_FLAG_…`.
    #[serde(skip_serializing_if = "is_default")]
    pub flags: Vec<String>,
    /// Nanoseconds of `SCHED_DEADLINE`.
    #[serde(skip_serializing_if = "is_default")]
    pub runtime: u64,
    /// Nanoseconds of `SCHED_DEADLINE`.
    #[serde(skip_serializing_if = "is_default")]
    pub deadline: u64,
    /// Nanoseconds of `SCHED_DEADLINE`.
    #[serde(skip_serializing_if = "is_default")]
    pub period: u64,
}

/// Input and output priority: ioprio_set(2).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct IoPriority {
    /// `IOPRIO_CLASS_RT`, `IOPRIO_CLASS_BE`, `IOPRIO_CLASS_IDLE`.
    pub class: String,
    /// 0 (first) to 7.
    pub priority: i32,
}

/// Processors of a process that joins a container, lists such as `0-3,7`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CpuAffinity {
    /// Before it joins the container's cgroup.
    #[serde(skip_serializing_if = "is_default")]
    pub initial: String,
    /// After it.
    #[serde(rename = "final", skip_serializing_if = "is_default")]
    pub last: String,
}
