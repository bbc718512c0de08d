//! `features`: what this runtime can do, by the specification's features structure. A test holds each list against the
//! code that reads such names.

use std::collections::BTreeMap;

use ketch_spec::runtime::VERSION;
use serde::Serialize;

use crate::capabilities;

/// What the runtime can do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Features {
    /// The oldest version of the specification that is understood.
    pub oci_version_min: &'static str,
    /// The newest one.
    pub oci_version_max: &'static str,
    /// Kinds of hooks.
    pub hooks: Vec<&'static str>,
    /// Mount options that the runtime itself reads; others go to the file system.
    pub mount_options: Vec<&'static str>,
    /// What only Linux has.
    pub linux: LinuxFeatures,
    /// Free text by key.
    pub annotations: BTreeMap<&'static str, String>,
    /// Annotations of a configuration that could do harm: there are none that change anything.
    pub potentially_unsafe_config_annotations: Vec<&'static str>,
}

/// What only Linux has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LinuxFeatures {
    /// Kinds of namespaces.
    pub namespaces: Vec<&'static str>,
    /// Names of capabilities.
    pub capabilities: Vec<String>,
    /// How cgroups are made.
    pub cgroup: CgroupFeatures,
    /// System call filters.
    pub seccomp: SeccompFeatures,
    /// AppArmor profiles.
    pub apparmor: Enabled,
    /// SELinux labels.
    pub selinux: Enabled,
    /// Cache and memory bandwidth allocation. That `schemata` and `enableMonitoring` are read, which are younger than
    /// [`Features::oci_version_max`], must not be told here.
    pub intel_rdt: Enabled,
    /// Mounts beyond mount(2).
    pub mount_extensions: MountExtensions,
}

/// Whether there is something at all, whatever the kernel has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Enabled {
    /// Whether.
    pub enabled: bool,
}

/// How cgroups are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CgroupFeatures {
    /// Version 1.
    pub v1: bool,
    /// Version 2.
    pub v2: bool,
    /// Scopes of the machine's systemd.
    pub systemd: bool,
    /// Scopes of a user's systemd.
    pub systemd_user: bool,
    /// Limits of RDMA devices.
    pub rdma: bool,
}

/// System call filters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SeccompFeatures {
    /// Whether there are any.
    pub enabled: bool,
    /// Actions.
    pub actions: Vec<&'static str>,
    /// Comparisons of arguments.
    pub operators: Vec<&'static str>,
    /// Architectures.
    pub archs: Vec<&'static str>,
    /// Flags that are understood.
    pub known_flags: Vec<&'static str>,
    /// Those that this kernel has.
    pub supported_flags: Vec<&'static str>,
}

/// Mounts beyond mount(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct MountExtensions {
    /// Id-mapped mounts.
    pub idmap: Enabled,
}

const HOOKS: [&str; 6] = [
    "prestart",
    "createRuntime",
    "createContainer",
    "startContainer",
    "poststart",
    "poststop",
];

const NAMESPACES: [&str; 8] = [
    "cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts",
];

const MOUNT_OPTIONS: [&str; 71] = [
    "async",
    "atime",
    "bind",
    "defaults",
    "dev",
    "diratime",
    "dirsync",
    "exec",
    "idmap",
    "iversion",
    "lazytime",
    "loud",
    "mand",
    "noatime",
    "nodev",
    "nodiratime",
    "noexec",
    "noiversion",
    "nolazytime",
    "nomand",
    "norelatime",
    "nostrictatime",
    "nosuid",
    "nosymfollow",
    "private",
    "ratime",
    "rbind",
    "rdev",
    "rdiratime",
    "relatime",
    "remount",
    "rexec",
    "ridmap",
    "rnoatime",
    "rnodev",
    "rnodiratime",
    "rnoexec",
    "rnorelatime",
    "rnostrictatime",
    "rnosuid",
    "rnosymfollow",
    "ro",
    "rprivate",
    "rrelatime",
    "rro",
    "rrw",
    "rshared",
    "rslave",
    "rstrictatime",
    "rsuid",
    "rsymfollow",
    "runbindable",
    "rw",
    "shared",
    "silent",
    "slave",
    "strictatime",
    "suid",
    "symfollow",
    "sync",
    "tmpcopyup",
    "unbindable",
    "auto",
    "group",
    "noauto",
    "nofail",
    "nogroup",
    "nouser",
    "owner",
    "user",
    "users",
];

const ACTIONS: [&str; 9] = [
    "SCMP_ACT_ALLOW",
    "SCMP_ACT_ERRNO",
    "SCMP_ACT_KILL",
    "SCMP_ACT_KILL_PROCESS",
    "SCMP_ACT_KILL_THREAD",
    "SCMP_ACT_LOG",
    "SCMP_ACT_NOTIFY",
    "SCMP_ACT_TRACE",
    "SCMP_ACT_TRAP",
];

const OPERATORS: [&str; 7] = [
    "SCMP_CMP_EQ",
    "SCMP_CMP_GE",
    "SCMP_CMP_GT",
    "SCMP_CMP_LE",
    "SCMP_CMP_LT",
    "SCMP_CMP_MASKED_EQ",
    "SCMP_CMP_NE",
];

const ARCHS: [&str; 22] = [
    "SCMP_ARCH_AARCH64",
    "SCMP_ARCH_ARM",
    "SCMP_ARCH_LOONGARCH64",
    "SCMP_ARCH_M68K",
    "SCMP_ARCH_MIPS",
    "SCMP_ARCH_MIPS64",
    "SCMP_ARCH_MIPS64N32",
    "SCMP_ARCH_MIPSEL",
    "SCMP_ARCH_MIPSEL64",
    "SCMP_ARCH_MIPSEL64N32",
    "SCMP_ARCH_PARISC",
    "SCMP_ARCH_PARISC64",
    "SCMP_ARCH_PPC",
    "SCMP_ARCH_PPC64",
    "SCMP_ARCH_PPC64LE",
    "SCMP_ARCH_RISCV64",
    "SCMP_ARCH_S390",
    "SCMP_ARCH_S390X",
    "SCMP_ARCH_SH",
    "SCMP_ARCH_X32",
    "SCMP_ARCH_X86",
    "SCMP_ARCH_X86_64",
];

/// All of them in kernels from 5.19 on.
const FLAGS: [&str; 4] = [
    "SECCOMP_FILTER_FLAG_LOG",
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
    "SECCOMP_FILTER_FLAG_TSYNC",
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
];

/// What this runtime can do.
pub fn features() -> Features {
    let mut mount_options = MOUNT_OPTIONS.to_vec();
    mount_options.sort_unstable();
    Features {
        oci_version_min: "1.0.0",
        oci_version_max: VERSION,
        hooks: HOOKS.to_vec(),
        mount_options,
        linux: LinuxFeatures {
            namespaces: NAMESPACES.to_vec(),
            capabilities: capabilities::known(),
            cgroup: CgroupFeatures {
                v1: true,
                v2: true,
                systemd: true,
                systemd_user: true,
                rdma: true,
            },
            seccomp: SeccompFeatures {
                enabled: true,
                actions: ACTIONS.to_vec(),
                operators: OPERATORS.to_vec(),
                archs: ARCHS.to_vec(),
                known_flags: FLAGS.to_vec(),
                supported_flags: FLAGS.to_vec(),
            },
            apparmor: Enabled { enabled: true },
            selinux: Enabled { enabled: true },
            intel_rdt: Enabled { enabled: true },
            mount_extensions: MountExtensions {
                idmap: Enabled { enabled: true },
            },
        },
        annotations: BTreeMap::from([(
            "org.ketch.runtime.version",
            env!("CARGO_PKG_VERSION").to_owned(),
        )]),
        potentially_unsafe_config_annotations: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use ketch_spec::runtime::{
        Capabilities, Hooks, LinuxNamespace, LinuxSeccomp, SeccompArg, SeccompSyscall,
    };
    use serde_json::{Value, json};

    use super::*;
    use crate::options;

    #[test]
    fn mount_options_are_read_by_the_runtime() {
        for option in features().mount_options {
            let parsed = options::parse(&[option.to_owned()]);
            assert!(parsed.data.is_empty(), "{option} goes to the file system");
        }
        assert!(!options::parse(&["acl".into()]).data.is_empty());
    }

    #[test]
    fn versions_from_the_oldest_to_the_newest_are_accepted() {
        let features = features();
        for version in [features.oci_version_min, features.oci_version_max] {
            crate::check::version(version).unwrap();
        }
        assert!(features.oci_version_min <= features.oci_version_max);
    }

    #[test]
    fn hooks_are_read_by_their_names() {
        for name in features().hooks {
            let value = json!({ name: [{ "path": "/x" }] });
            let hooks: Hooks = serde_json::from_value(value.clone()).unwrap();
            assert_eq!(serde_json::to_value(hooks).unwrap(), value);
        }
        let unknown: Hooks = serde_json::from_value(json!({ "x": [{}] })).unwrap();
        assert!(unknown.is_empty());
    }

    #[test]
    fn capabilities_are_known() {
        let wanted = |names: Vec<String>| Capabilities {
            bounding: names,
            ..Capabilities::default()
        };
        let all = features().linux.capabilities;
        let (_, warnings) = capabilities::plan(Some(&wanted(all.clone()))).unwrap();
        // A kernel may be older than a name; a name that is not known is told otherwise.
        for warning in &warnings {
            assert!(!warning.contains("unknown"), "{warning}");
        }
        assert!(all.contains(&"CAP_CHECKPOINT_RESTORE".to_owned()));
        let (_, warnings) = capabilities::plan(Some(&wanted(vec!["CAP_X".into()]))).unwrap();
        assert_eq!(warnings.len(), 1, "{warnings:?}");
    }

    /// All that the version of `ociVersionMax` has: there must be no others.
    #[test]
    fn properties_are_the_specification_s() {
        let names = |value: &Value| -> Vec<String> {
            let fields = value.as_object().into_iter().flatten();
            fields.map(|(name, _)| name.clone()).collect()
        };
        let all = serde_json::to_value(features()).unwrap();
        let linux = &all["linux"];
        for (part, known) in [
            (
                &all,
                "annotations hooks linux mountOptions ociVersionMax ociVersionMin \
                 potentiallyUnsafeConfigAnnotations",
            ),
            (
                linux,
                "apparmor capabilities cgroup intelRdt mountExtensions namespaces seccomp selinux",
            ),
            (&linux["cgroup"], "rdma systemd systemdUser v1 v2"),
            (
                &linux["seccomp"],
                "actions archs enabled knownFlags operators supportedFlags",
            ),
            (&linux["intelRdt"], "enabled"),
            (&linux["apparmor"], "enabled"),
            (&linux["selinux"], "enabled"),
            (&linux["mountExtensions"], "idmap"),
            (&linux["mountExtensions"]["idmap"], "enabled"),
        ] {
            let mut told = names(part);
            told.sort();
            assert_eq!(told, known.split_whitespace().collect::<Vec<_>>());
        }
    }

    #[test]
    fn namespaces_are_known() {
        for name in features().linux.namespaces {
            let text = format!(r#"{{"type":"{name}"}}"#);
            serde_json::from_str::<LinuxNamespace>(&text).unwrap();
        }
    }

    fn compiles(change: impl FnOnce(&mut LinuxSeccomp)) -> bool {
        let mut filter = LinuxSeccomp {
            default_action: "SCMP_ACT_ALLOW".into(),
            listener_path: "/agent".into(),
            ..LinuxSeccomp::default()
        };
        change(&mut filter);
        crate::seccomp::compile(&filter).is_ok()
    }

    fn rule(action: &str, operator: &str) -> SeccompSyscall {
        let arg = SeccompArg {
            op: operator.into(),
            ..SeccompArg::default()
        };
        SeccompSyscall {
            names: vec!["getpid".into()],
            action: action.into(),
            args: vec![arg],
            ..SeccompSyscall::default()
        }
    }

    #[test]
    fn names_in_filters_are_known() {
        let seccomp = features().linux.seccomp;
        for action in seccomp.actions {
            let errno = "SCMP_CMP_EQ";
            assert!(
                compiles(|filter| filter.syscalls.push(rule(action, errno))),
                "{action}"
            );
        }
        for operator in seccomp.operators {
            let kill = "SCMP_ACT_KILL";
            assert!(
                compiles(|filter| filter.syscalls.push(rule(kill, operator))),
                "{operator}"
            );
        }
        for arch in seccomp.archs {
            assert!(
                compiles(|filter| filter.architectures.push(arch.into())),
                "{arch}"
            );
        }
        for flag in seccomp.known_flags {
            let listen = || rule("SCMP_ACT_NOTIFY", "SCMP_CMP_EQ");
            let with_flag = |filter: &mut LinuxSeccomp| {
                filter.flags.get_or_insert_default().push(flag.into());
                filter.syscalls.push(listen());
            };
            assert!(compiles(with_flag), "{flag}");
        }
        assert!(!compiles(|filter| filter
            .flags
            .get_or_insert_default()
            .push("SECCOMP_FILTER_FLAG_NEW".into())));
    }
}
