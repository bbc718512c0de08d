//! Limits and devices.

use ketch_engine::container::config::{Device, Ulimit};
use ketch_engine::container::request::CreateRequest;

use super::{bytes, pair};
use crate::command::integer;
use crate::failure::Failure;

/// The flags.
#[derive(clap::Args)]
#[group(skip)]
pub struct Flags {
    /// Memory limit
    #[arg(short, long, value_name = "bytes", value_parser = bytes)]
    memory: Option<u64>,
    /// Swap limit equal to memory plus swap: '-1' to enable unlimited swap
    #[arg(long, value_name = "bytes", value_parser = swap)]
    memory_swap: Option<i64>,
    /// Memory soft limit
    #[arg(long, value_name = "bytes", value_parser = bytes)]
    memory_reservation: Option<u64>,
    /// Number of CPUs
    #[arg(long, value_name = "decimal", value_parser = nano_cpus)]
    cpus: Option<u64>,
    /// CPU shares (relative weight)
    #[arg(short, long, value_name = "int", value_parser = integer)]
    cpu_shares: Option<i64>,
    /// Limit CPU CFS (Completely Fair Scheduler) period
    #[arg(long, value_name = "int", value_parser = integer)]
    cpu_period: Option<i64>,
    /// Limit CPU CFS (Completely Fair Scheduler) quota
    #[arg(long, value_name = "int", value_parser = integer)]
    cpu_quota: Option<i64>,
    /// CPUs in which to allow execution (0-3, 0,1)
    #[arg(long, value_name = "string")]
    cpuset_cpus: Option<String>,
    /// MEMs in which to allow execution (0-3, 0,1)
    #[arg(long, value_name = "string")]
    cpuset_mems: Option<String>,
    /// Tune container pids limit (set -1 for unlimited)
    #[arg(long, value_name = "int", value_parser = integer)]
    pids_limit: Option<i64>,
    /// Tune host's OOM preferences (-1000 to 1000)
    #[arg(long, value_name = "int", value_parser = integer)]
    oom_score_adj: Option<i64>,
    /// Disable OOM Killer
    #[arg(long)]
    oom_kill_disable: bool,
    /// Size of /dev/shm
    #[arg(long, value_name = "bytes", value_parser = bytes)]
    shm_size: Option<u64>,
    /// Ulimit options
    #[arg(long, value_name = "ulimit", value_parser = ulimit)]
    ulimit: Vec<Ulimit>,
    /// Add a host device to the container
    #[arg(long, value_name = "list")]
    device: Vec<String>,
    /// Sysctl options
    #[arg(long, value_name = "map", value_parser = sysctl)]
    sysctl: Vec<(String, String)>,
}

impl Flags {
    /// Puts the flags into the request.
    pub fn apply(self, request: &mut CreateRequest) -> Result<(), Failure> {
        let limits = &mut request.resources;
        limits.memory_bytes = self.memory.filter(|bytes| *bytes > 0);
        limits.memory_swap_bytes = self.memory_swap.filter(|bytes| *bytes != 0);
        limits.memory_reservation_bytes = self.memory_reservation.filter(|bytes| *bytes > 0);
        limits.nano_cpus = self.cpus.filter(|cpus| *cpus > 0);
        limits.cpu_shares = not_negative("--cpu-shares", self.cpu_shares)?;
        limits.cpu_period_us = not_negative("--cpu-period", self.cpu_period)?;
        limits.cpu_quota_us = self.cpu_quota.filter(|quota| *quota != 0);
        if limits.nano_cpus.is_some()
            && (limits.cpu_period_us.is_some() || limits.cpu_quota_us.is_some())
        {
            return Err(Failure::request(
                "Conflicting options: Nano CPUs and CPU Period or Quota cannot both be set.",
            ));
        }
        limits.cpuset_cpus = self.cpuset_cpus.filter(|set| !set.is_empty());
        limits.cpuset_mems = self.cpuset_mems.filter(|set| !set.is_empty());
        limits.pids_limit = self.pids_limit.filter(|limit| *limit != 0);
        limits.oom_score_adj = match self.oom_score_adj {
            None => None,
            Some(value @ -1000..=1000) => i32::try_from(value).ok(),
            Some(value) => {
                return Err(Failure::request(format!(
                    "Invalid value {value}, range for oom score adj is [-1000, 1000]"
                )));
            }
        };
        limits.oom_kill_disable = self.oom_kill_disable;
        limits.shm_size_bytes = self.shm_size;
        limits.ulimits = self.ulimit;
        for text in &self.device {
            limits.devices.push(device(text)?);
        }
        limits.sysctls = self.sysctl.into_iter().collect();
        if limits.memory_swap_bytes.is_some_and(|swap| swap > 0) {
            check_swap(limits.memory_bytes, limits.memory_swap_bytes)?;
        }
        Ok(())
    }
}

fn check_swap(memory: Option<u64>, swap: Option<i64>) -> Result<(), Failure> {
    let swap = swap.and_then(|swap| u64::try_from(swap).ok()).unwrap_or(0);
    match memory {
        None => Err(Failure::request(
            "You should always set the Memory limit when using Memoryswap limit, see usage",
        )),
        Some(memory) if swap < memory => Err(Failure::request(
            "Minimum memoryswap limit should be larger than memory limit, see usage",
        )),
        Some(_) => Ok(()),
    }
}

fn not_negative(flag: &str, value: Option<i64>) -> Result<Option<u64>, Failure> {
    match value {
        None | Some(0) => Ok(None),
        Some(value) => match u64::try_from(value) {
            Ok(value) => Ok(Some(value)),
            Err(_) => Err(Failure::request(format!(
                "invalid value {value} for {flag}: it is negative"
            ))),
        },
    }
}

fn swap(text: &str) -> Result<i64, String> {
    if text == "-1" {
        return Ok(-1);
    }
    i64::try_from(bytes(text)?).map_err(|_| format!("invalid size: '{text}'"))
}

/// A decimal number of processors in billionths, without the error of floating point.
fn nano_cpus(text: &str) -> Result<u64, String> {
    let wrong = || format!("failed to parse {text} as a rational number");
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if whole.is_empty() && fraction.is_empty()
        || !fraction.bytes().all(|byte| byte.is_ascii_digit())
    {
        return Err(wrong());
    }
    if fraction.trim_end_matches('0').len() > 9 {
        return Err("value is too precise".into());
    }
    let whole: u64 = if whole.is_empty() {
        0
    } else {
        whole.parse().map_err(|_| wrong())?
    };
    let digits: String = fraction
        .chars()
        .chain(std::iter::repeat('0'))
        .take(9)
        .collect();
    let nanos: u64 = digits.parse().map_err(|_| wrong())?;
    whole
        .checked_mul(1_000_000_000)
        .and_then(|cpus| cpus.checked_add(nanos))
        .ok_or_else(wrong)
}

const ULIMITS: [&str; 15] = [
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

/// Value parser of `--ulimit name=soft[:hard]`.
fn ulimit(text: &str) -> Result<Ulimit, String> {
    let (name, limits) = text
        .split_once('=')
        .ok_or_else(|| format!("invalid ulimit argument: {text}"))?;
    if !ULIMITS.contains(&name) {
        return Err(format!("invalid ulimit type: {name}"));
    }
    let number = |text: &str| integer(text).map_err(|_| format!("invalid ulimit value: {text}"));
    let (soft, hard) = match limits.split_once(':') {
        Some((soft, hard)) => (number(soft)?, number(hard)?),
        None => (number(limits)?, number(limits)?),
    };
    if hard >= 0 && (soft > hard || soft == -1) {
        return Err(format!(
            "ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}"
        ));
    }
    Ok(Ulimit {
        name: name.to_owned(),
        soft,
        hard,
    })
}

/// `host[:container[:rwm]]` or `host:rwm`.
fn device(text: &str) -> Result<Device, Failure> {
    let is_permissions =
        |text: &str| !text.is_empty() && text.bytes().all(|byte| b"rwm".contains(&byte));
    let parts: Vec<&str> = text.split(':').collect();
    let (host, container, permissions) = match parts.as_slice() {
        [host] => (*host, *host, "rwm"),
        [host, permissions] if is_permissions(permissions) => (*host, *host, *permissions),
        [host, container] => (*host, *container, "rwm"),
        [host, container, permissions] if is_permissions(permissions) => {
            (*host, *container, *permissions)
        }
        [_, _, permissions] => {
            return Err(Failure::request(format!(
                "invalid device mode: {permissions}"
            )));
        }
        _ => {
            return Err(Failure::request(format!(
                "invalid device specification: {text}"
            )));
        }
    };
    if host.contains('=') {
        return Err(Failure::request(format!(
            "CDI device {host} is not supported"
        )));
    }
    for path in [host, container] {
        if !path.starts_with('/') {
            return Err(Failure::request(format!("{path} is not an absolute path")));
        }
    }
    Ok(Device {
        host: host.into(),
        container: container.into(),
        permissions: permissions.into(),
    })
}

fn sysctl(text: &str) -> Result<(String, String), String> {
    pair(text).map_err(|_| format!("sysctl '{text}' is not allowed"))
}
