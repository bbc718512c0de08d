//! `spec`: a configuration to begin with, that of runc.

use ketch_spec::runtime::{
    Capabilities, DeviceRule, IdMapping, Linux, LinuxNamespace, LinuxResources, Mount,
    NamespaceKind, Process, Rlimit, Root, Spec, VERSION,
};

const CAPABILITIES: [&str; 3] = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"];

const MASKED: [&str; 10] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/sys/firmware",
    "/proc/scsi",
];

const READ_ONLY: [&str; 5] = [
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

/// Destination, type, source and options.
type Entry = (
    &'static str,
    &'static str,
    &'static str,
    &'static [&'static str],
);

const MOUNTS: [Entry; 7] = [
    ("/proc", "proc", "proc", &[]),
    (
        "/dev",
        "tmpfs",
        "tmpfs",
        &["nosuid", "strictatime", "mode=755", "size=65536k"],
    ),
    (
        "/dev/pts",
        "devpts",
        "devpts",
        &[
            "nosuid",
            "noexec",
            "newinstance",
            "ptmxmode=0666",
            "mode=0620",
            "gid=5",
        ],
    ),
    (
        "/dev/shm",
        "tmpfs",
        "shm",
        &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"],
    ),
    (
        "/dev/mqueue",
        "mqueue",
        "mqueue",
        &["nosuid", "noexec", "nodev"],
    ),
    (
        "/sys",
        "sysfs",
        "sysfs",
        &["nosuid", "noexec", "nodev", "ro"],
    ),
    (
        "/sys/fs/cgroup",
        "cgroup",
        "cgroup",
        &["nosuid", "noexec", "nodev", "relatime", "ro"],
    ),
];

/// A shell in a terminal on a read-only root. With the numbers of a user and group: for a container of that user.
pub fn default_spec(rootless: Option<(u32, u32)>) -> Spec {
    let mut spec = Spec {
        oci_version: VERSION.into(),
        process: Some(process()),
        root: Some(Root {
            path: "rootfs".into(),
            readonly: true,
            ..Root::default()
        }),
        hostname: "ketch".into(),
        mounts: MOUNTS.iter().map(mount).collect(),
        linux: Some(linux()),
        ..Spec::default()
    };
    if let Some((uid, gid)) = rootless {
        make_rootless(&mut spec, uid, gid);
    }
    spec
}

fn texts(list: &[&str]) -> Vec<String> {
    list.iter().map(|&text| text.to_owned()).collect()
}

fn mount(&(destination, kind, source, options): &Entry) -> Mount {
    Mount {
        destination: destination.into(),
        kind: kind.into(),
        source: source.into(),
        options: texts(options),
        ..Mount::default()
    }
}

fn process() -> Process {
    let set = || texts(&CAPABILITIES);
    Process {
        terminal: true,
        args: texts(&["sh"]),
        env: texts(&[
            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "TERM=xterm",
        ]),
        cwd: "/".into(),
        capabilities: Some(Capabilities {
            bounding: set(),
            effective: set(),
            permitted: set(),
            ..Capabilities::default()
        }),
        rlimits: vec![Rlimit {
            kind: "RLIMIT_NOFILE".into(),
            hard: 1024,
            soft: 1024,
        }],
        no_new_privileges: true,
        ..Process::default()
    }
}

fn linux() -> Linux {
    use NamespaceKind::{Cgroup, Ipc, Mount, Network, Pid, Uts};
    let mut kinds = vec![Pid, Network, Ipc, Uts, Mount];
    if crate::cgroup::is_unified() {
        kinds.push(Cgroup);
    }
    let namespace = |kind| LinuxNamespace { kind, path: None };
    Linux {
        resources: Some(LinuxResources {
            devices: vec![DeviceRule {
                allow: false,
                access: "rwm".into(),
                ..DeviceRule::default()
            }],
            ..LinuxResources::default()
        }),
        namespaces: kinds.into_iter().map(namespace).collect(),
        masked_paths: texts(&MASKED),
        readonly_paths: texts(&READ_ONLY),
        ..Linux::default()
    }
}

/// A user may not set limits, has one user id to map, and gets the host's network and /sys.
fn make_rootless(spec: &mut Spec, uid: u32, gid: u32) {
    for mount in &mut spec.mounts {
        mount
            .options
            .retain(|option| !option.starts_with("gid=") && !option.starts_with("uid="));
        if mount.destination == "/sys" {
            mount.kind = "none".into();
            mount.source = "/sys".into();
            mount.options = texts(&["rbind", "nosuid", "noexec", "nodev", "ro"]);
        }
    }
    spec.mounts
        .retain(|mount| mount.destination != "/sys/fs/cgroup");
    let Some(linux) = &mut spec.linux else { return };
    linux
        .namespaces
        .retain(|namespace| namespace.kind != NamespaceKind::Network);
    linux.namespaces.push(LinuxNamespace {
        kind: NamespaceKind::User,
        path: None,
    });
    let mapping = |host_id| IdMapping {
        container_id: 0,
        host_id,
        size: 1,
    };
    linux.uid_mappings = vec![mapping(uid)];
    linux.gid_mappings = vec![mapping(gid)];
    linux.resources = None;
}
