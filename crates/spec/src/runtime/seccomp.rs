//! `linux.seccomp`: the system call filter.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::is_default;

/// A system call filter. Actions, architectures and flags keep the specification's names (`SCMP_ACT_ERRNO`,
/// `SCMP_ARCH_X86_64`, `SECCOMP_FILTER_FLAG_LOG`); the runtime's compiler knows them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LinuxSeccomp {
    /// What happens to a call that no rule matches.
    pub default_action: String,
    /// Errno of a default action that returns one; None: EPERM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_errno_ret: Option<u32>,
    /// Architectures the filter is for; the machine's own is always among them.
    #[serde(skip_serializing_if = "is_default")]
    pub architectures: Vec<String>,
    /// Flags of seccomp(2); None: the runtime's choice, which an empty list is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flags: Option<Vec<String>>,
    /// Socket that gets the descriptor of `SCMP_ACT_NOTIFY`.
    #[serde(skip_serializing_if = "is_default")]
    pub listener_path: String,
    /// Text sent along with that descriptor.
    #[serde(skip_serializing_if = "is_default")]
    pub listener_metadata: String,
    /// Rules.
    #[serde(skip_serializing_if = "is_default")]
    pub syscalls: Vec<SeccompSyscall>,
    /// Fields this version does not know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// A rule: the same for several calls.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SeccompSyscall {
    /// Names of system calls; those an architecture does not have are passed over.
    pub names: Vec<String>,
    /// What happens to a call that matches.
    pub action: String,
    /// Errno of an action that returns one; None: EPERM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub errno_ret: Option<u32>,
    /// Conditions on arguments, all of which must hold; empty: every call matches.
    #[serde(skip_serializing_if = "is_default")]
    pub args: Vec<SeccompArg>,
    /// Fields this version does not know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// A condition on an argument.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SeccompArg {
    /// Which argument, 0 to 5.
    pub index: u32,
    /// Value to compare with; of `SCMP_CMP_MASKED_EQ` the mask.
    pub value: u64,
    /// Of `SCMP_CMP_MASKED_EQ`: what the masked argument must be.
    #[serde(skip_serializing_if = "is_default")]
    pub value_two: u64,
    /// `SCMP_CMP_EQ`, `_NE`, `_LT`, `_LE`, `_GT`, `_GE`, `_MASKED_EQ`.
    pub op: String,
}
