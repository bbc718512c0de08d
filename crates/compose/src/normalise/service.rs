//! One service.

use super::{
    Surroundings, boolean, environment, list, map, owned_map, pairs, ports, text, texts, volumes,
};
use crate::error::LoadError;
use crate::node::{Node, Value};
use crate::reader::Reader;

const KEYS: &[&str] = &[
    "attach",
    "build",
    "cap_add",
    "cap_drop",
    "cgroup",
    "command",
    "configs",
    "container_name",
    "cpu_period",
    "cpu_quota",
    "cpu_shares",
    "cpus",
    "cpuset",
    "depends_on",
    "deploy",
    "develop",
    "devices",
    "dns",
    "dns_opt",
    "dns_search",
    "domainname",
    "entrypoint",
    "env_file",
    "environment",
    "expose",
    "extra_hosts",
    "group_add",
    "healthcheck",
    "hostname",
    "image",
    "init",
    "ipc",
    "label_file",
    "labels",
    "links",
    "logging",
    "mac_address",
    "mem_limit",
    "mem_reservation",
    "memswap_limit",
    "network_mode",
    "networks",
    "oom_kill_disable",
    "oom_score_adj",
    "pid",
    "pids_limit",
    "platform",
    "ports",
    "privileged",
    "profiles",
    "pull_policy",
    "read_only",
    "restart",
    "scale",
    "secrets",
    "security_opt",
    "shm_size",
    "stdin_open",
    "stop_grace_period",
    "stop_signal",
    "sysctls",
    "tmpfs",
    "tty",
    "ulimits",
    "user",
    "userns_mode",
    "uts",
    "volumes",
    "volumes_from",
    "working_dir",
];

/// Known to the Compose Specification, and not supported: each is refused by name.
pub const REFUSED: &[&str] = &[
    "annotations",
    "blkio_config",
    "cgroup_parent",
    "cpu_count",
    "cpu_percent",
    "cpu_rt_period",
    "cpu_rt_runtime",
    "credential_spec",
    "device_cgroup_rules",
    "external_links",
    "gpus",
    "isolation",
    "mem_swappiness",
    "models",
    "post_start",
    "pre_start",
    "pre_stop",
    "provider",
    "pull_refresh_after",
    "runtime",
    "storage_opt",
    "use_api_socket",
];

/// Normalises a service; keys come out sorted.
pub(super) fn service(reader: &Reader<'_>, around: &Surroundings<'_>) -> Result<Node, LoadError> {
    reader.check_keys(KEYS, REFUSED)?;
    if reader.get("image").is_none() && reader.get("build").is_none() {
        return Err(reader.error("has neither an image nor a build context specified"));
    }
    let at = reader.position();
    let mut entries: Vec<(String, Node)> = Vec::new();
    for (key, value) in reader.entries()? {
        if value.is_null() && !matches!(key, "command" | "entrypoint") || key.starts_with("x-") {
            continue;
        }
        if let Some(node) = field(key, &value, around)? {
            entries.push((key.to_owned(), node));
        }
    }
    if let Some(environment) = environment::environment(reader, around)? {
        entries.push(("environment".into(), environment));
    }
    if let Some(labels) = environment::labels(reader, around)? {
        entries.push(("labels".into(), labels));
    }
    if reader.get("network_mode").is_none() && reader.get("networks").is_none() {
        let nothing = Node {
            value: Value::Null,
            at: at.clone(),
            tag: None,
        };
        entries.push(("networks".into(), map(vec![("default", nothing)], at)));
    } else if reader.get("network_mode").is_some() && reader.get("networks").is_some() {
        return Err(reader.error("declares mutually exclusive `network_mode` and `networks`"));
    }
    entries.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok(owned_map(entries, at))
}

/// The long form of one key; None where it says nothing.
fn field(
    key: &str,
    value: &Reader<'_>,
    around: &Surroundings<'_>,
) -> Result<Option<Node>, LoadError> {
    let at = value.position();
    Ok(Some(match key {
        "environment" | "env_file" | "labels" | "label_file" => return Ok(None),
        "userns_mode" if !matches!(value.text()?.as_str(), "" | "host") => {
            return Err(value.error("can only be host"));
        }
        "build" => super::build::build(value, around)?,
        "command" | "entrypoint" if value.is_null() => return Ok(None),
        "command" | "entrypoint" => texts(value.command()?, at),
        "ports" => ports::ports(value)?,
        "volumes" => volumes::volumes(value, around)?,
        "networks" => named(value, NETWORK_KEYS)?,
        "depends_on" => depends_on(value)?,
        "sysctls" => pairs(value, &['='])?,
        "extra_hosts" => extra_hosts(value)?,
        "healthcheck" => healthcheck(value)?,
        "tmpfs" | "dns" | "dns_search" | "dns_opt" | "cap_add" | "cap_drop" | "security_opt"
        | "group_add" | "expose" | "profiles" | "devices" | "links" | "volumes_from" => {
            texts(value.texts()?, at)
        }
        "secrets" | "configs" => references(value)?,
        _ => value.node().clone(),
    }))
}

const NETWORK_KEYS: &[&str] = &[
    "aliases",
    "ipv4_address",
    "ipv6_address",
    "mac_address",
    "priority",
    "gw_priority",
];

/// A list of names, or a mapping of names to details, as a mapping.
fn named(value: &Reader<'_>, keys: &[&str]) -> Result<Node, LoadError> {
    let at = value.position();
    if value.is_list() {
        let nothing = |name| {
            (
                name,
                Node {
                    value: Value::Null,
                    at: at.clone(),
                    tag: None,
                },
            )
        };
        return Ok(owned_map(
            value.texts()?.into_iter().map(nothing).collect(),
            at,
        ));
    }
    let mut entries = value.entries()?;
    for (_, details) in &entries {
        details.check_keys(keys, &["driver_opts", "link_local_ips", "interface_name"])?;
    }
    entries.sort_by_key(|(name, _)| *name);
    Ok(owned_map(
        entries
            .into_iter()
            .map(|(name, details)| (name.to_owned(), details.node().clone()))
            .collect(),
        at,
    ))
}

fn depends_on(value: &Reader<'_>) -> Result<Node, LoadError> {
    let at = value.position();
    let long = |condition: String, restart: bool, required: bool| {
        let mut entries = vec![
            ("condition", text(condition, at)),
            ("required", boolean(required, at)),
        ];
        if restart {
            entries.push(("restart", boolean(true, at)));
        }
        map(entries, at)
    };
    let mut entries = Vec::new();
    if value.is_list() {
        for name in value.texts()? {
            entries.push((name, long("service_started".into(), false, true)));
        }
        return Ok(owned_map(entries, at));
    }
    for (name, details) in value.entries()? {
        details.check_keys(&["condition", "restart", "required"], &[])?;
        if details.is_null() {
            entries.push((name.to_owned(), long("service_started".into(), false, true)));
            continue;
        }
        let condition = details
            .get("condition")
            .ok_or_else(|| details.error("must have a condition"))?;
        let known = [
            "service_started",
            "service_healthy",
            "service_completed_successfully",
        ];
        if !known.contains(&condition.text()?.as_str()) {
            return Err(condition.error(format!("must be one of {}", known.join(", "))));
        }
        let flag = |key, default| details.get(key).map_or(Ok(default), |flag| flag.boolean());
        entries.push((
            name.to_owned(),
            long(
                condition.text()?,
                flag("restart", false)?,
                flag("required", true)?,
            ),
        ));
    }
    entries.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok(owned_map(entries, at))
}

/// `name=address` and `name:address`, also as a mapping, as `name=address`.
pub(super) fn extra_hosts(value: &Reader<'_>) -> Result<Node, LoadError> {
    let hosts = value.pairs(&['=', ':'])?;
    let joined: Result<Vec<_>, _> = hosts
        .into_iter()
        .map(|(name, address)| match address {
            Some(address) => Ok(format!("{name}={}", address.trim_matches(['[', ']']))),
            None => Err(value.error(format!("has no address for {name:?}"))),
        })
        .collect();
    Ok(texts(joined?, value.position()))
}

fn healthcheck(value: &Reader<'_>) -> Result<Node, LoadError> {
    value.check_keys(
        &[
            "test",
            "interval",
            "timeout",
            "retries",
            "start_period",
            "start_interval",
            "disable",
        ],
        &[],
    )?;
    let at = value.position();
    if value
        .get("disable")
        .is_some_and(|disable| disable.boolean().unwrap_or(false))
    {
        return Ok(map(vec![("test", texts(vec!["NONE".into()], at))], at));
    }
    let mut entries = Vec::new();
    for (key, item) in value.entries()? {
        let node = match key {
            "test" if item.is_list() => {
                let words = item.texts()?;
                if !matches!(
                    words.first().map(String::as_str),
                    Some("NONE" | "CMD" | "CMD-SHELL")
                ) {
                    return Err(item.error("must begin with NONE, CMD or CMD-SHELL"));
                }
                texts(words, item.position())
            }
            "test" => texts(vec!["CMD-SHELL".into(), item.text()?], item.position()),
            "interval" | "timeout" | "start_period" | "start_interval" => text(
                ketch_spec::duration::go_format(item.duration()?),
                item.position(),
            ),
            "disable" => continue,
            _ if key.starts_with("x-") || item.is_null() => continue,
            _ => item.node().clone(),
        };
        entries.push((key.to_owned(), node));
    }
    Ok(owned_map(entries, at))
}

/// Secrets and configs: short forms become `{source, target}`.
pub(super) fn references(value: &Reader<'_>) -> Result<Node, LoadError> {
    let mut items = Vec::new();
    for item in value.items()? {
        let at = item.position();
        if item.is_map() {
            item.check_keys(&["source", "target", "uid", "gid", "mode"], &[])?;
            item.get("source")
                .ok_or_else(|| item.error("must have a source"))?;
            items.push(item.node().clone());
        } else {
            items.push(map(vec![("source", text(item.text()?, at))], at));
        }
    }
    Ok(list(items, value.position()))
}
