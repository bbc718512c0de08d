//! `HostConfig`: limits, privileges, mounts, ports as asked for.

use std::collections::BTreeMap;

use ketch_spec::mount::{Mount, MountSource};
use ketch_spec::port::PortMapping;
use serde_json::{Map, Value, json};

use super::{container_mode, null_if_empty};
use crate::container::config::{
    ContainerConfig, NamespaceMode, NetworkConfig, NetworkMode, Resources, RestartPolicy, Seccomp,
    Security,
};

/// The `HostConfig` object.
pub(super) fn of(config: &ContainerConfig) -> Value {
    let network = &config.network;
    let security = &config.security;
    let mut value = json!({
        "Binds": null_if_empty(&binds(config)),
        "ContainerIDFile": "",
        "LogConfig": {"Type": config.log.driver, "Config": config.log.options},
        "NetworkMode": network_mode(network),
        "PortBindings": bindings(&network.ports),
        "RestartPolicy": restart(config.restart),
        "AutoRemove": config.auto_remove,
        "VolumeDriver": "",
        "VolumesFrom": null,
        "ConsoleSize": [0, 0],
        "CapAdd": null_if_empty(&security.cap_add),
        "CapDrop": null_if_empty(&security.cap_drop),
        "CgroupnsMode": namespace(&config.namespaces.cgroup, "private"),
        "Dns": network.dns,
        "DnsOptions": network.dns_options,
        "DnsSearch": network.dns_search,
        "ExtraHosts": null_if_empty(&network.extra_hosts),
        "GroupAdd": null_if_empty(&config.process.groups),
        "IpcMode": namespace(&config.namespaces.ipc, "private"),
        "Cgroup": "",
        "Links": null,
        "OomScoreAdj": config.resources.oom_score_adj.unwrap_or(0),
        "PidMode": namespace(&config.namespaces.pid, ""),
        "Privileged": security.privileged,
        "PublishAllPorts": network.publish_all,
        "ReadonlyRootfs": security.read_only,
        "SecurityOpt": null_if_empty(&security_options(security)),
        "UTSMode": namespace(&config.namespaces.uts, ""),
        "UsernsMode": "",
        "ShmSize": config.resources.shm_size_bytes.unwrap_or(64 << 20),
        "Runtime": "ketch",
        "Isolation": "",
    });
    if let Some(object) = value.as_object_mut() {
        object.extend(resources(&config.resources));
        object.extend(rest(config));
    }
    value
}

fn resources(limits: &Resources) -> Map<String, Value> {
    let memory = limits.memory_bytes.unwrap_or(0);
    // As Docker shows it: with a memory limit and no swap limit, twice as much.
    let swap = limits
        .memory_swap_bytes
        .unwrap_or(i64::try_from(memory.saturating_mul(2)).unwrap_or(i64::MAX));
    let devices: Vec<Value> = limits
        .devices
        .iter()
        .map(|device| {
            json!({
                "PathOnHost": device.host,
                "PathInContainer": device.container,
                "CgroupPermissions": device.permissions,
            })
        })
        .collect();
    let ulimits: Vec<Value> = limits
        .ulimits
        .iter()
        .map(|limit| json!({"Name": limit.name, "Hard": limit.hard, "Soft": limit.soft}))
        .collect();
    let value = json!({
        "CpuShares": limits.cpu_shares.unwrap_or(0),
        "Memory": memory,
        "NanoCpus": limits.nano_cpus.unwrap_or(0),
        "CgroupParent": "",
        "BlkioWeight": 0,
        "BlkioWeightDevice": [],
        "BlkioDeviceReadBps": [],
        "BlkioDeviceWriteBps": [],
        "BlkioDeviceReadIOps": [],
        "BlkioDeviceWriteIOps": [],
        "CpuPeriod": limits.cpu_period_us.unwrap_or(0),
        "CpuQuota": limits.cpu_quota_us.unwrap_or(0),
        "CpuRealtimePeriod": 0,
        "CpuRealtimeRuntime": 0,
        "CpusetCpus": limits.cpuset_cpus.clone().unwrap_or_default(),
        "CpusetMems": limits.cpuset_mems.clone().unwrap_or_default(),
        "Devices": devices,
        "DeviceCgroupRules": null,
        "DeviceRequests": null,
        "MemoryReservation": limits.memory_reservation_bytes.unwrap_or(0),
        "MemorySwap": swap,
        "MemorySwappiness": null,
        "OomKillDisable": limits.oom_kill_disable,
        "PidsLimit": limits.pids_limit,
        "Ulimits": ulimits,
        "CpuCount": 0,
        "CpuPercent": 0,
        "IOMaximumIOps": 0,
        "IOMaximumBandwidth": 0,
    });
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

/// Fields that Docker leaves out where they are empty, and the lists of hidden paths.
fn rest(config: &ContainerConfig) -> Map<String, Value> {
    let mut map = Map::new();
    let mounts = mounts(config);
    if !mounts.is_empty() {
        map.insert("Mounts".to_owned(), json!(mounts));
    }
    let tmpfs = tmpfs(config);
    if !tmpfs.is_empty() {
        map.insert("Tmpfs".to_owned(), json!(tmpfs));
    }
    if !config.resources.sysctls.is_empty() {
        map.insert("Sysctls".to_owned(), json!(config.resources.sysctls));
    }
    if config.init {
        map.insert("Init".to_owned(), json!(true));
    }
    let (masked, read_only) = crate::container::spec::hidden_paths(&config.security);
    map.insert("MaskedPaths".to_owned(), json!(masked));
    map.insert("ReadonlyPaths".to_owned(), json!(read_only));
    map
}

/// `-v`: volumes and binds whose source may be made.
fn binds(config: &ContainerConfig) -> Vec<String> {
    config.mounts.iter().filter_map(bind).collect()
}

fn bind(mount: &Mount) -> Option<String> {
    let source = match &mount.source {
        MountSource::Volume {
            name: Some(name),
            anonymous: false,
            subpath: None,
            ..
        } => name,
        MountSource::Bind { path, create: true } => path,
        _ => return None,
    };
    let mut options = Vec::new();
    if mount.read_only {
        options.push("ro");
    }
    options.extend(mount.propagation.as_deref());
    let options = if options.is_empty() {
        String::new()
    } else {
        format!(":{}", options.join(","))
    };
    Some(format!("{source}:{}{options}", mount.target))
}

/// `--mount`: what [`binds`] and [`tmpfs`] do not say.
fn mounts(config: &ContainerConfig) -> Vec<Value> {
    config
        .mounts
        .iter()
        .filter(|mount| bind(mount).is_none())
        .filter_map(|mount| match &mount.source {
            MountSource::Bind { path, .. } => Some(json!({
                "Type": "bind", "Source": path, "Target": mount.target, "ReadOnly": mount.read_only,
            })),
            MountSource::Volume { name, anonymous: false, subpath, .. } => Some(json!({
                "Type": "volume", "Source": name, "Target": mount.target, "ReadOnly": mount.read_only,
                "VolumeOptions": {"Subpath": subpath},
            })),
            _ => None,
        })
        .collect()
}

fn tmpfs(config: &ContainerConfig) -> BTreeMap<String, String> {
    config
        .mounts
        .iter()
        .filter_map(|mount| match &mount.source {
            MountSource::Tmpfs {
                size_bytes,
                mode,
                options,
            } => {
                let mut all = options.clone();
                all.extend(size_bytes.map(|bytes| format!("size={bytes}")));
                all.extend(mode.map(|mode| format!("mode={mode:o}")));
                Some((mount.target.clone(), all.join(",")))
            }
            _ => None,
        })
        .collect()
}

/// `{"80/tcp": [{"HostIp": "", "HostPort": "8080"}]}`.
fn bindings(ports: &[PortMapping]) -> Value {
    let mut map: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for mapping in ports {
        let port = match (mapping.host_port, mapping.host_port_end) {
            (Some(first), Some(last)) if last != first => format!("{first}-{last}"),
            (Some(port), _) => port.to_string(),
            (None, _) => String::new(),
        };
        let address = mapping
            .host_ip
            .map(|address| address.to_string())
            .unwrap_or_default();
        map.entry(mapping.container.to_string())
            .or_default()
            .push(json!({"HostIp": address, "HostPort": port}));
    }
    json!(map)
}

/// `bridge`, a network's name, `host`, `none` or `container:<id>`.
fn network_mode(network: &NetworkConfig) -> String {
    match &network.mode {
        NetworkMode::Host => "host".to_owned(),
        NetworkMode::None => "none".to_owned(),
        NetworkMode::Container(id) => container_mode(id),
        NetworkMode::Bridge => network
            .endpoints
            .first()
            .map_or_else(|| "bridge".to_owned(), |endpoint| endpoint.network.clone()),
    }
}

fn namespace(mode: &NamespaceMode, private: &str) -> String {
    match mode {
        NamespaceMode::Private => private.to_owned(),
        NamespaceMode::Host => "host".to_owned(),
        NamespaceMode::Container(id) => container_mode(id),
    }
}

fn restart(policy: RestartPolicy) -> Value {
    let (name, count) = match policy {
        RestartPolicy::No => ("no", 0),
        RestartPolicy::Always => ("always", 0),
        RestartPolicy::UnlessStopped => ("unless-stopped", 0),
        RestartPolicy::OnFailure(count) => ("on-failure", count),
    };
    json!({"Name": name, "MaximumRetryCount": count})
}

fn security_options(security: &Security) -> Vec<String> {
    let mut all = Vec::new();
    if security.no_new_privileges {
        all.push("no-new-privileges".to_owned());
    }
    if let Some(name) = &security.apparmor {
        all.push(format!("apparmor={name}"));
    }
    match &security.seccomp {
        Seccomp::Default => {}
        Seccomp::Unconfined => all.push("seccomp=unconfined".to_owned()),
        Seccomp::Profile(text) => all.push(format!("seccomp={text}")),
    }
    all
}
