//! Limits, devices, restarts and logging.

use ketch_engine::Result;
use ketch_engine::container::config::{Device, LogConfig, Resources, RestartPolicy, Ulimit};

use super::body::{DeviceBody, HostConfig, LogBody, RestartBody, invalid, unsupported};

/// The limits of a body; whether they go together is for the engine to say.
///
/// # Errors
/// `Invalid` for numbers out of range, `Unsupported` for a swappiness.
pub fn resources(host: &mut HostConfig) -> Result<Resources> {
    if host.memory_swappiness.is_some_and(|value| value != -1) {
        return Err(unsupported("HostConfig.MemorySwappiness"));
    }
    let score = i32::try_from(host.oom_score_adj).ok();
    let score = score
        .filter(|score| (-1000..=1000).contains(score))
        .ok_or_else(|| {
            invalid(format!(
                "Invalid value {}, range for oom score adj is [-1000, 1000]",
                host.oom_score_adj
            ))
        })?;
    Ok(Resources {
        memory_bytes: positive("Memory", host.memory)?,
        memory_swap_bytes: Some(host.memory_swap).filter(|bytes| *bytes != 0),
        memory_reservation_bytes: positive("MemoryReservation", host.memory_reservation)?,
        nano_cpus: positive("NanoCpus", host.nano_cpus)?,
        cpu_shares: positive("CpuShares", host.cpu_shares)?,
        cpu_period_us: positive("CpuPeriod", host.cpu_period)?,
        cpu_quota_us: Some(host.cpu_quota).filter(|quota| *quota != 0),
        cpuset_cpus: host.cpuset_cpus.take().filter(|text| !text.is_empty()),
        cpuset_mems: host.cpuset_mems.take().filter(|text| !text.is_empty()),
        pids_limit: host.pids_limit.filter(|limit| *limit != 0),
        oom_score_adj: Some(score).filter(|score| *score != 0),
        oom_kill_disable: host.oom_kill_disable.unwrap_or(false),
        shm_size_bytes: positive("ShmSize", host.shm_size)?,
        ulimits: ulimits(host),
        devices: host
            .devices
            .take()
            .unwrap_or_default()
            .into_iter()
            .map(device)
            .collect::<Result<_>>()?,
        sysctls: host.sysctls.take().unwrap_or_default(),
    })
}

fn positive(name: &str, value: i64) -> Result<Option<u64>> {
    match u64::try_from(value) {
        Ok(0) => Ok(None),
        Ok(value) => Ok(Some(value)),
        Err(_) => Err(invalid(format!(
            "invalid HostConfig.{name}: {value} is negative"
        ))),
    }
}

fn ulimits(host: &mut HostConfig) -> Vec<Ulimit> {
    let all = host.ulimits.take().unwrap_or_default().into_iter();
    all.map(|limit| Ulimit {
        name: limit.name,
        soft: limit.soft,
        hard: limit.hard,
    })
    .collect()
}

fn device(body: DeviceBody) -> Result<Device> {
    let host = body.path_on_host;
    let or = |text: String, default: &str| {
        if text.is_empty() {
            default.to_owned()
        } else {
            text
        }
    };
    let container = or(body.path_in_container, &host);
    let permissions = or(body.cgroup_permissions, "rwm");
    // The engine checks the rest.
    if !host.starts_with('/') {
        return Err(invalid(format!("{host} is not an absolute path")));
    }
    Ok(Device {
        host,
        container,
        permissions,
    })
}

/// The policy of a body.
///
/// # Errors
/// `Invalid` in Docker's words.
pub fn restart(body: Option<RestartBody>) -> Result<RestartPolicy> {
    let body = body.unwrap_or_default();
    let count = u32::try_from(body.maximum_retry_count)
        .map_err(|_| invalid("invalid restart policy: maximum retry count cannot be negative"))?;
    let policy = match body.name.as_str() {
        "" | "no" => RestartPolicy::No,
        "always" => RestartPolicy::Always,
        "unless-stopped" => RestartPolicy::UnlessStopped,
        "on-failure" => return Ok(RestartPolicy::OnFailure(count)),
        other => {
            return Err(invalid(format!(
                "invalid restart policy: unknown policy '{other}'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'"
            )));
        }
    };
    if count != 0 {
        return Err(invalid(
            "invalid restart policy: maximum retry count can only be used with 'on-failure'",
        ));
    }
    Ok(policy)
}

/// Where output goes.
pub fn log(body: Option<LogBody>) -> LogConfig {
    let body = body.unwrap_or_default();
    let default = LogConfig::default();
    LogConfig {
        driver: if body.r#type.is_empty() {
            default.driver
        } else {
            body.r#type
        },
        options: body.config.unwrap_or_default(),
    }
}
