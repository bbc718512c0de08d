//! What `create` refuses before anything is made, in Docker's words.

use ketch_spec::mount::MountSource;

use super::config::{
    ContainerConfig, NamespaceMode, NetworkMode, Resources, RestartPolicy, Seccomp,
};
use super::spec::{self, capabilities, seccomp};
use super::{apparmor, files};
use crate::{Error, ErrorKind, Result};

/// Docker's least memory limit, in bytes.
const MIN_MEMORY_BYTES: u64 = 6 << 20;

/// Checks a whole config, and returns warnings.
///
/// # Errors
/// `Invalid` in Docker's words; `Unsupported` for what this version does not have.
pub(super) fn check(config: &ContainerConfig) -> Result<Vec<String>> {
    check_life(config)?;
    check_network(config)?;
    check_security(config)?;
    check_mounts(config)?;
    check_log(config)?;
    check_sysctls(config)?;
    for limit in &config.resources.ulimits {
        spec::rlimit(limit)?;
    }
    let mut warnings = Vec::new();
    check_resources(&config.resources, &mut warnings)?;
    Ok(warnings)
}

fn check_life(config: &ContainerConfig) -> Result<()> {
    if config.auto_remove && config.restart != RestartPolicy::No {
        return Err(invalid(
            "can't create 'AutoRemove' container with restart policy",
        ));
    }
    if let Some(signal) = &config.stop_signal {
        ketch_spec::signal::parse(signal)
            .map_err(|_| invalid(format!("Invalid signal: {signal}")))?;
    }
    if config.stop_timeout_s.is_some_and(|timeout| timeout < -1) {
        return Err(invalid("stop timeout must be -1 or more"));
    }
    if let Some(health) = &config.health {
        let least = 1_000_000;
        let fields = [
            ("Interval", health.interval),
            ("Timeout", health.timeout),
            ("StartPeriod", health.start_period),
            ("StartInterval", health.start_interval),
        ];
        for (name, value) in fields {
            if value != 0 && value < least {
                return Err(invalid(format!(
                    "{name} in Healthcheck cannot be less than 1ms"
                )));
            }
        }
        if health.retries < 0 {
            return Err(invalid("Retries in Healthcheck cannot be negative"));
        }
    }
    if config.hostname.len() > 64
        || config
            .hostname
            .chars()
            .any(|c| c.is_whitespace() || c == '/')
    {
        return Err(invalid(format!("invalid hostname: {}", config.hostname)));
    }
    Ok(())
}

fn check_network(config: &ContainerConfig) -> Result<()> {
    let network = &config.network;
    for entry in &network.extra_hosts {
        files::check_extra_host(entry)?;
    }
    for server in &network.dns {
        if server.parse::<std::net::IpAddr>().is_err() {
            return Err(invalid(format!(
                "bad nameserver address: {server}: IP address is not correctly formatted"
            )));
        }
    }
    if config.namespaces.uts == NamespaceMode::Host && !config.hostname.is_empty() {
        return Err(invalid("conflicting options: hostname and the UTS mode"));
    }
    if matches!(config.namespaces.ipc, NamespaceMode::Container(_)) {
        // The namespace could be joined, but not the other's /dev/shm, which is what nearly everybody wants of it.
        return Err(Error::new(
            ErrorKind::Unsupported,
            "the IPC mode container:ID is not supported by this version",
        )
        .hint("use --ipc host in both containers"));
    }
    if matches!(network.mode, NetworkMode::Container(_)) {
        let conflicts = [
            (!config.hostname.is_empty(), "hostname and the network mode"),
            (!network.dns.is_empty(), "dns and the network mode"),
            (
                !network.extra_hosts.is_empty(),
                "custom host-to-IP mapping and the network mode",
            ),
            (
                !network.ports.is_empty() || network.publish_all,
                "port publishing and the container type network mode",
            ),
        ];
        for (conflict, what) in conflicts {
            if conflict {
                return Err(invalid(format!("conflicting options: {what}")));
            }
        }
    }
    Ok(())
}

fn check_security(config: &ContainerConfig) -> Result<()> {
    capabilities::of(&config.security)?;
    apparmor::check(&config.security)?;
    if let Seccomp::Profile(text) = &config.security.seccomp {
        seccomp::check(text)?;
    }
    for device in &config.resources.devices {
        if device.permissions.is_empty() || device.permissions.chars().any(|c| !"rwm".contains(c)) {
            return Err(invalid(format!(
                "invalid device mode: {}",
                device.permissions
            )));
        }
        if !device.container.starts_with('/') {
            return Err(invalid(format!(
                "{} is not an absolute path",
                device.container
            )));
        }
    }
    Ok(())
}

fn check_mounts(config: &ContainerConfig) -> Result<()> {
    const PROPAGATIONS: [&str; 6] = [
        "private", "rprivate", "shared", "rshared", "slave", "rslave",
    ];
    for mount in &config.mounts {
        if let Some(mode) = &mount.propagation
            && !mode.is_empty()
            && !PROPAGATIONS.contains(&mode.as_str())
        {
            return Err(invalid(format!("invalid propagation mode: {mode}")));
        }
        match &mount.source {
            MountSource::Bind {
                path,
                create: false,
            } => spec::ensure_source(path, false)?,
            MountSource::Bind { path, create: true } if !path.starts_with('/') => {
                return Err(invalid(format!(
                    "invalid mount path: '{path}' mount path must be absolute"
                )));
            }
            _ => {}
        }
    }
    Ok(())
}

fn check_log(config: &ContainerConfig) -> Result<()> {
    let log = &config.log;
    match log.driver.as_str() {
        "json-file" | "none" => {}
        other => {
            return Err(invalid(format!(
                "logger: no log driver named '{other}' is registered"
            ))
            .hint("the log drivers are json-file and none"));
        }
    }
    for (key, value) in &log.options {
        match key.as_str() {
            "max-size" => {
                if value != "-1" && ketch_spec::size::parse_bytes(value).is_err() {
                    return Err(invalid(format!("invalid value for max-size: {value}")));
                }
            }
            "max-file" => {
                if value.parse::<u32>().ok().is_none_or(|count| count == 0) {
                    return Err(invalid("max-file cannot be less than 1"));
                }
            }
            other => {
                return Err(invalid(format!(
                    "unknown log opt '{other}' for {} log driver",
                    log.driver
                )));
            }
        }
    }
    let files = log
        .options
        .get("max-file")
        .and_then(|text| text.parse::<u32>().ok())
        .unwrap_or(1);
    if files > 1 && log.options.get("max-size").is_none_or(|size| size == "-1") {
        return Err(invalid(
            "max-size has to be set when max-file is larger than 1",
        ));
    }
    Ok(())
}

/// Only settings that are a namespace's own may be changed from a container.
fn check_sysctls(config: &ContainerConfig) -> Result<()> {
    const IPC: [&str; 8] = [
        "kernel.msgmax",
        "kernel.msgmnb",
        "kernel.msgmni",
        "kernel.sem",
        "kernel.shmall",
        "kernel.shmmax",
        "kernel.shmmni",
        "kernel.shm_rmid_forced",
    ];
    for key in config.resources.sysctls.keys() {
        let network = key.starts_with("net.");
        let ipc = IPC.contains(&key.as_str()) || key.starts_with("fs.mqueue.");
        if network && config.network.mode == NetworkMode::Host {
            return Err(invalid(format!(
                "sysctl {key:?} not allowed in host network namespace"
            )));
        }
        if ipc && config.namespaces.ipc == NamespaceMode::Host {
            return Err(invalid(format!(
                "sysctl {key:?} not allowed in host ipc namespace"
            )));
        }
        if !network && !ipc || key.contains('/') || key.contains("..") {
            return Err(invalid(format!("sysctl '{key}' is not allowed")));
        }
    }
    Ok(())
}

fn check_resources(resources: &Resources, warnings: &mut Vec<String>) -> Result<()> {
    check_memory(resources)?;
    check_cpu(resources)?;
    if resources
        .oom_score_adj
        .is_some_and(|score| !(-1000..=1000).contains(&score))
    {
        let score = resources.oom_score_adj.unwrap_or_default();
        return Err(invalid(format!(
            "Invalid value {score}, range for oom score adj is [-1000, 1000]"
        )));
    }
    if resources.oom_kill_disable && resources.memory_bytes.is_none() {
        warnings.push("OOM killer is disabled for the container, but no memory limit is set, this can result in the system running out of resources.".into());
    }
    Ok(())
}

fn check_cpu(resources: &Resources) -> Result<()> {
    if let Some(nano) = resources.nano_cpus.filter(|&nano| nano > 0) {
        for (name, value) in [
            ("Period", resources.cpu_period_us.is_some_and(|us| us > 0)),
            ("Quota", resources.cpu_quota_us.is_some_and(|us| us > 0)),
        ] {
            if value {
                return Err(invalid(format!(
                    "Conflicting options: Nano CPUs and CPU {name} cannot both be set"
                )));
            }
        }
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        if nano > processors as u64 * 1_000_000_000 {
            return Err(invalid(format!(
                "range of CPUs is from 0.01 to {processors}.00, as there are only {processors} CPUs available"
            )));
        }
    }
    if resources
        .cpu_period_us
        .is_some_and(|us| us > 0 && !(1_000..=1_000_000).contains(&us))
    {
        return Err(invalid(
            "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)",
        ));
    }
    if resources
        .cpu_quota_us
        .is_some_and(|us| us > 0 && us < 1_000)
    {
        return Err(invalid(
            "CPU cfs quota can not be less than 1ms (i.e. 1000)",
        ));
    }
    for (name, list) in [
        ("cpus", &resources.cpuset_cpus),
        ("mems", &resources.cpuset_mems),
    ] {
        if let Some(list) = list
            && !is_number_list(list)
        {
            return Err(invalid(format!("Invalid value {list} for cpuset {name}")));
        }
    }
    Ok(())
}

fn check_memory(resources: &Resources) -> Result<()> {
    let memory = resources.memory_bytes.unwrap_or(0);
    if memory > 0 && memory < MIN_MEMORY_BYTES {
        return Err(invalid("Minimum memory limit allowed is 6MB"));
    }
    match resources.memory_swap_bytes {
        Some(swap) if swap > 0 && memory == 0 => {
            return Err(invalid(
                "You should always set the Memory limit when using Memoryswap limit, see usage",
            ));
        }
        Some(swap) if swap > 0 && (swap as u64) < memory => {
            return Err(invalid(
                "Minimum memoryswap limit should be larger than memory limit, see usage",
            ));
        }
        _ => {}
    }
    let reservation = resources.memory_reservation_bytes.unwrap_or(0);
    if reservation > 0 && reservation < MIN_MEMORY_BYTES {
        return Err(invalid("Minimum memory reservation allowed is 6MB"));
    }
    if memory > 0 && reservation > memory {
        return Err(invalid(
            "Minimum memory limit can not be less than memory reservation limit, see usage",
        ));
    }
    Ok(())
}

/// `0-2,4`.
fn is_number_list(list: &str) -> bool {
    list.split(',').all(|part| {
        let mut ends = part.splitn(2, '-').map(|end| end.trim().parse::<u32>());
        match (ends.next(), ends.next()) {
            (Some(Ok(_)), None) => true,
            (Some(Ok(first)), Some(Ok(last))) => first <= last,
            _ => false,
        }
    })
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Invalid, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::test_support::config;

    fn refused(change: impl FnOnce(&mut ContainerConfig)) -> String {
        let mut config = config();
        change(&mut config);
        check(&config).unwrap_err().message
    }

    #[test]
    fn dockers_words() {
        assert!(check(&config()).unwrap().is_empty());
        assert_eq!(
            refused(|c| c.resources.memory_bytes = Some(1)),
            "Minimum memory limit allowed is 6MB"
        );
        assert_eq!(
            refused(|c| c.stop_signal = Some("NOPE".into())),
            "Invalid signal: NOPE"
        );
        assert_eq!(
            refused(|c| c.log.driver = "gelf".into()),
            "logger: no log driver named 'gelf' is registered"
        );
        assert_eq!(
            refused(|c| drop(c.log.options.insert("tag".into(), "x".into()))),
            "unknown log opt 'tag' for json-file log driver"
        );
        assert_eq!(
            refused(|c| drop(
                c.resources
                    .sysctls
                    .insert("kernel.hostname".into(), "x".into())
            )),
            "sysctl 'kernel.hostname' is not allowed"
        );
        assert!(
            refused(|c| c.resources.nano_cpus = Some(1 << 50))
                .starts_with("range of CPUs is from 0.01 to ")
        );
        assert_eq!(
            refused(|c| {
                c.auto_remove = true;
                c.restart = RestartPolicy::Always;
            }),
            "can't create 'AutoRemove' container with restart policy"
        );
        assert_eq!(
            refused(|c| {
                c.network.mode = NetworkMode::Container(c.id.clone());
                c.network.dns = vec!["1.1.1.1".into()];
            }),
            "conflicting options: dns and the network mode"
        );
    }

    #[test]
    fn number_lists() {
        for good in ["0", "0-2", "0,3,5-6"] {
            assert!(is_number_list(good), "{good}");
        }
        for bad in ["", "a", "2-1", "1-", ",", "1,"] {
            assert!(!is_number_list(bad), "{bad}");
        }
    }
}
