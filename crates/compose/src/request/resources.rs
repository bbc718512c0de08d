//! Limits, privileges and namespaces of a service.

use ketch_engine::container::config::{
    Device, NamespaceMode, Namespaces, Resources, Seccomp, Security, Ulimit,
};

use super::Result;
use crate::model::strings;
use crate::reader::Reader;

/// `deploy.resources`. What else `deploy` may say is for a swarm, and means nothing on one machine.
fn deployed<'a>(reader: &Reader<'a>) -> Result<Option<Reader<'a>>> {
    let Some(deploy) = reader.get("deploy") else {
        return Ok(None);
    };
    let known = [
        "replicas",
        "restart_policy",
        "resources",
        "mode",
        "placement",
        "update_config",
        "rollback_config",
        "endpoint_mode",
        "labels",
    ];
    deploy.check_keys(&known, &[])?;
    Ok(deploy.get("resources"))
}

/// Limits, from the service's own keys and from `deploy.resources`.
pub(super) fn resources(reader: &Reader<'_>) -> Result<Resources> {
    let deploy = deployed(reader)?;
    let limit = |key: &str| {
        deploy
            .as_ref()
            .and_then(|resources| resources.get("limits"))
            .and_then(|limits| limits.get(key))
    };
    let reservation = |key: &str| {
        deploy
            .as_ref()
            .and_then(|resources| resources.get("reservations"))
            .and_then(|list| list.get(key))
    };
    for key in ["devices", "generic_resources"] {
        if let Some(value) = reservation(key) {
            return Err(value.error("is not supported"));
        }
    }
    let bytes = |value: Option<Reader<'_>>| value.map(|value| value.bytes()).transpose();
    let text = |key: &str| reader.get(key).map(|value| value.text()).transpose();
    let swap = match reader.get("memswap_limit") {
        Some(value) if value.text()? == "-1" => Some(-1),
        other => bytes(other)?.and_then(|bytes| i64::try_from(bytes).ok()),
    };
    Ok(Resources {
        memory_bytes: bytes(reader.get("mem_limit").or_else(|| limit("memory")))?,
        memory_swap_bytes: swap,
        memory_reservation_bytes: bytes(
            reader
                .get("mem_reservation")
                .or_else(|| reservation("memory")),
        )?,
        nano_cpus: reader
            .get("cpus")
            .or_else(|| limit("cpus"))
            .map(|cpus| nano_cpus(&cpus))
            .transpose()?,
        cpu_shares: reader
            .get("cpu_shares")
            .map(|value| value.parsed("a number"))
            .transpose()?,
        cpu_period_us: reader
            .get("cpu_period")
            .map(|value| value.parsed("microseconds"))
            .transpose()?,
        cpu_quota_us: reader
            .get("cpu_quota")
            .map(|value| value.parsed("microseconds"))
            .transpose()?,
        cpuset_cpus: text("cpuset")?,
        cpuset_mems: None,
        pids_limit: reader
            .get("pids_limit")
            .or_else(|| limit("pids"))
            .map(|value| value.parsed("a number"))
            .transpose()?,
        oom_score_adj: reader
            .get("oom_score_adj")
            .map(|value| value.parsed("a number"))
            .transpose()?,
        oom_kill_disable: reader
            .get("oom_kill_disable")
            .map_or(Ok(false), |value| value.boolean())?,
        shm_size_bytes: bytes(reader.get("shm_size"))?,
        ulimits: ulimits(reader)?,
        devices: devices(reader)?,
        sysctls: strings(reader.get("sysctls"))?,
    })
}

fn nano_cpus(value: &Reader<'_>) -> Result<u64> {
    let cpus: f64 = value.parsed("a number of processors")?;
    if !cpus.is_finite() || !(0.0..=1e6).contains(&cpus) {
        return Err(value.error("must be a number of processors"));
    }
    // the range was checked: at most 10^15
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let nano = (cpus * 1e9).round() as u64;
    Ok(nano)
}

fn ulimits(reader: &Reader<'_>) -> Result<Vec<Ulimit>> {
    let Some(ulimits) = reader.get("ulimits") else {
        return Ok(Vec::new());
    };
    let mut found = Vec::new();
    for (name, value) in ulimits.entries()? {
        let (soft, hard) = match value.is_map() {
            true => {
                value.check_keys(&["soft", "hard"], &[])?;
                let part = |key: &str| {
                    value
                        .get(key)
                        .ok_or_else(|| value.error(format!("must have {key}")))?
                        .parsed::<i64>("a number")
                };
                (part("soft")?, part("hard")?)
            }
            false => {
                let both = value.parsed("a number")?;
                (both, both)
            }
        };
        found.push(Ulimit {
            name: name.to_owned(),
            soft,
            hard,
        });
    }
    Ok(found)
}

fn devices(reader: &Reader<'_>) -> Result<Vec<Device>> {
    let Some(devices) = reader.get("devices") else {
        return Ok(Vec::new());
    };
    let one = |text: String| {
        let mut parts = text.split(':');
        let host = parts.next().unwrap_or_default().to_owned();
        let container = parts.next().unwrap_or(&host).to_owned();
        Device {
            container,
            permissions: parts.next().unwrap_or("rwm").to_owned(),
            host,
        }
    };
    Ok(devices.texts()?.into_iter().map(one).collect())
}

/// Privileges.
pub(super) fn security(reader: &Reader<'_>) -> Result<Security> {
    let texts = |key: &str| {
        reader
            .get(key)
            .map_or(Ok(Vec::new()), |value| value.texts())
    };
    let flag = |key: &str| reader.get(key).map_or(Ok(false), |value| value.boolean());
    let mut security = Security {
        privileged: flag("privileged")?,
        cap_add: texts("cap_add")?,
        cap_drop: texts("cap_drop")?,
        read_only: flag("read_only")?,
        ..Security::default()
    };
    let Some(options) = reader.get("security_opt") else {
        return Ok(security);
    };
    for option in options.texts()? {
        let (name, value) = option.split_once(['=', ':']).unwrap_or((&option, ""));
        match (name, value) {
            ("no-new-privileges", "" | "true") => security.no_new_privileges = true,
            ("no-new-privileges", "false") => security.no_new_privileges = false,
            ("seccomp", "unconfined") => security.seccomp = Seccomp::Unconfined,
            ("systempaths", "unconfined") => security.system_paths_unconfined = true,
            ("seccomp", path) => {
                let profile = crate::text_file::read(path.as_ref());
                let profile = profile.map_err(|error| {
                    options.error(format!("profile {path} cannot be read: {error}"))
                })?;
                security.seccomp = Seccomp::Profile(profile);
            }
            _ => return Err(options.error(format!("{option:?} is not supported"))),
        }
    }
    Ok(security)
}

/// Namespaces shared with the host or with another service's container.
pub(super) fn namespaces(
    reader: &Reader<'_>,
    container_of: &dyn Fn(&str) -> Option<String>,
) -> Result<Namespaces> {
    let mode = |key: &str| -> Result<NamespaceMode> {
        let Some(value) = reader.get(key) else {
            return Ok(NamespaceMode::Private);
        };
        let text = value.text()?;
        match text.as_str() {
            "host" => Ok(NamespaceMode::Host),
            "private" | "shareable" => Ok(NamespaceMode::Private),
            other => {
                let id = other
                    .strip_prefix("service:")
                    .and_then(container_of)
                    .and_then(|id| id.parse().ok());
                id.map(NamespaceMode::Container)
                    .ok_or_else(|| value.error(format!("{other:?} is not supported")))
            }
        }
    };
    Ok(Namespaces {
        pid: mode("pid")?,
        ipc: mode("ipc")?,
        uts: mode("uts")?,
        cgroup: mode("cgroup")?,
    })
}
