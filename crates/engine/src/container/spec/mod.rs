//! A container's config as an OCI runtime specification.
//!
//! [`prepare`] asks the world what the config leaves open (numbers of users, paths of volumes, other containers'
//! namespaces, device numbers); [`runtime_spec`] is then pure.

pub mod capabilities;
mod devices;
mod mounts;
mod namespaces;
mod process;
mod resources;
pub mod seccomp;

use std::collections::BTreeMap;
use std::os::fd::{BorrowedFd, OwnedFd};

use ketch_runtime::seccomp::Program;
use ketch_spec::Id;
use ketch_spec::runtime::{
    Linux, LinuxDevice, LinuxNamespace, LinuxSeccomp, Mount, NamespaceKind, Root, Spec, VERSION,
};

use super::apparmor;
use super::config::{ContainerConfig, NamespaceMode, NetworkMode, Security};
use super::user::{self, ResolvedUser};
use crate::{Engine, Error, ErrorKind, Result};

pub use mounts::INIT_PATH;
pub(crate) use mounts::ensure_source;
pub(crate) use process::rlimit;
pub use process::{exec_process, hostname};

/// What the config leaves open, answered. Keep it until the container's init has started: paths in the specification
/// name its descriptors.
#[derive(Debug)]
pub struct Prepared {
    /// Who runs it.
    pub user: ResolvedUser,
    /// Binds of volumes and host paths, sources ready.
    mounts: Vec<Mount>,
    /// Namespaces, new and joined.
    namespaces: Vec<LinuxNamespace>,
    /// Device nodes besides the default ones.
    devices: Vec<LinuxDevice>,
    /// Name of the AppArmor profile; empty: none is set.
    apparmor: String,
    /// Which container's hosts, hostname and resolv.conf it sees.
    files_of: Id,
    /// Open files that paths above name as `/proc/self/fd/N`.
    _held: Vec<OwnedFd>,
}

/// Finds out what the config leaves open. Makes missing bind sources that may be made, and fills new volumes with what
/// the image has at their place. `root` is the container's root, mounted and writable.
///
/// # Errors
/// In Docker's words: an unknown user, a bind source that is not there, a namespace of a container that does not run.
pub fn prepare(
    engine: &Engine,
    config: &ContainerConfig,
    root: BorrowedFd<'_>,
) -> Result<Prepared> {
    let mut held = Vec::new();
    let user = user::resolve(root, &config.process.user, &config.process.groups)?;
    let namespaces = namespaces::of(engine, config, &mut held)?;
    let mounts = mounts::of_user(engine, config, root, &mut held)?;
    let devices = devices::of(config)?;
    let files_of = match &config.network.mode {
        NetworkMode::Container(other) => other.clone(),
        _ => config.id.clone(),
    };
    Ok(Prepared {
        user,
        mounts,
        namespaces,
        devices,
        apparmor: apparmor::profile(&config.security)?,
        files_of,
        _held: held,
    })
}

/// The container's runtime specification. Its root path is a formality: the monitor gives the runtime an open mount.
///
/// # Errors
/// `Invalid` for capabilities, profiles and limits that `create` would have refused.
pub fn runtime_spec(
    engine: &Engine,
    config: &ContainerConfig,
    prepared: &Prepared,
    console: Option<(u16, u16)>,
) -> Result<Spec> {
    let security = &config.security;
    let names = capabilities::of(security)?;
    let (masked, read_only) = hidden_paths(security);
    let owned = |list: &[&str]| list.iter().map(|&path| path.to_owned()).collect();
    Ok(Spec {
        oci_version: VERSION.to_owned(),
        root: Some(Root {
            path: "rootfs".into(),
            readonly: security.read_only,
            ..Root::default()
        }),
        mounts: mounts::all(engine, config, prepared)?,
        process: Some(process::init_process(config, prepared, &names, console)?),
        hostname: match config.namespaces.uts {
            NamespaceMode::Private if !matches!(config.network.mode, NetworkMode::Container(_)) => {
                hostname(config)
            }
            _ => String::new(),
        },
        domainname: match config.namespaces.uts {
            NamespaceMode::Private => config.domainname.clone(),
            _ => String::new(),
        },
        linux: Some(Linux {
            sysctl: sysctls(config, &prepared.namespaces),
            resources: Some(resources::of(config, &prepared.devices)?),
            cgroups_path: cgroup_path(&config.id),
            namespaces: prepared.namespaces.clone(),
            devices: prepared.devices.clone(),
            seccomp: match seccomp::compiled(security, &names) {
                Some(_) => None,
                None => seccomp::of(security, &names)?,
            },
            masked_paths: owned(masked),
            readonly_paths: owned(read_only),
            ..Linux::default()
        }),
        ..Spec::default()
    })
}

/// The system call filter of a container, for its first process and for those that join it. The specification has rules
/// only where the program is not one of those that were compiled beforehand.
///
/// # Errors
/// `Invalid` for rules of the user's that contradict themselves.
pub fn filter(config: &ContainerConfig, spec: &Spec) -> Result<Option<Program>> {
    let security = &config.security;
    let compile = |rules: &LinuxSeccomp| {
        ketch_runtime::seccomp::compile(rules)
            .map(Some)
            .map_err(|error| Error::new(ErrorKind::Invalid, error.to_string()))
    };
    if let Some(rules) = spec.linux.as_ref().and_then(|linux| linux.seccomp.as_ref()) {
        return compile(rules);
    }
    let names = capabilities::of(security)?;
    match seccomp::compiled(security, &names) {
        Some(program) => Ok(Some(program)),
        None => seccomp::of(security, &names)?.map_or(Ok(None), |rules| compile(&rules)),
    }
}

/// Where a container's cgroup is, relative to the hierarchies' mount points.
pub fn cgroup_path(id: &Id) -> String {
    format!("/ketch/{id}")
}

/// Docker's list of paths that show nothing.
const MASKED_PATHS: &[&str] = &[
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];

/// Docker's list of paths that cannot be written.
const READ_ONLY_PATHS: &[&str] = &[
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

/// Paths that show nothing, and paths that cannot be written.
pub(crate) fn hidden_paths(
    security: &Security,
) -> (&'static [&'static str], &'static [&'static str]) {
    if security.privileged || security.system_paths_unconfined {
        (&[], &[])
    } else {
        (MASKED_PATHS, READ_ONLY_PATHS)
    }
}

/// In a network of its own a container may bind low ports and ping without capabilities, as Docker's may.
fn sysctls(config: &ContainerConfig, namespaces: &[LinuxNamespace]) -> BTreeMap<String, String> {
    let own_network = namespaces
        .iter()
        .any(|namespace| namespace.kind == NamespaceKind::Network && namespace.path.is_none());
    let mut all = BTreeMap::new();
    if own_network {
        all.insert(
            "net.ipv4.ip_unprivileged_port_start".to_owned(),
            "0".to_owned(),
        );
        all.insert(
            "net.ipv4.ping_group_range".to_owned(),
            "0 2147483647".to_owned(),
        );
    }
    all.extend(
        config
            .resources
            .sysctls
            .iter()
            .map(|(key, value)| (key.clone(), value.clone())),
    );
    all
}

#[cfg(test)]
mod tests;
