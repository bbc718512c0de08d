//! `inspect`: a container in Docker's JSON (Engine API 1.51, `ContainerInspectResponse`).

mod asked;
mod host_config;
mod networks;

use ketch_spec::Id;
use ketch_spec::mount::MountSource;
use serde_json::{Value, json};

use super::config::{ContainerConfig, NetworkMode};
use super::spec::hostname;
use super::state::{ContainerState, HealthState, Status};
use super::{apparmor, load, root};
use crate::{Engine, Result, volume};

/// Docker's "never".
const NEVER: &str = "0001-01-01T00:00:00Z";

/// A container in Docker's JSON.
///
/// # Errors
/// `NotFound`.
pub fn inspect(engine: &Engine, wanted: &str) -> Result<Value> {
    let id = load::resolve(engine, wanted)?;
    let (config, state) = load::load(engine, &id)?;
    let words: Vec<&String> = config
        .process
        .entrypoint
        .iter()
        .chain(&config.process.command)
        .collect();
    let paths = engine.paths();
    // With another container's network come its files.
    let files_of = match &config.network.mode {
        NetworkMode::Container(other) => other,
        _ => &id,
    };
    let log_path = match config.log.driver.as_str() {
        "json-file" => json!(paths.log_file(&id)),
        _ => json!(""),
    };
    Ok(json!({
        "Id": id,
        "Created": config.created.to_string(),
        "Path": words.first(),
        "Args": words.get(1..).unwrap_or_default(),
        "State": state_json(&state),
        "Image": config.image.id,
        "ResolvConfPath": paths.resolv_conf(files_of),
        "HostnamePath": paths.hostname(files_of),
        "HostsPath": paths.hosts(files_of),
        "LogPath": log_path,
        "Name": format!("/{}", config.name),
        "RestartCount": state.restart_count,
        "Driver": "overlay2",
        "Platform": "linux",
        "MountLabel": "",
        "ProcessLabel": "",
        "AppArmorProfile": apparmor::shown(&config.security),
        "ExecIDs": null,
        "HostConfig": host_config::of(&config),
        "GraphDriver": graph_driver(engine, &config),
        "Mounts": mounts(engine, &config),
        "Config": asked::of(&config, &hostname(&config)),
        "NetworkSettings": networks::of(engine, &config, &state),
    }))
}

fn state_json(state: &ContainerState) -> Value {
    let status = state.status;
    let exit = state.exit.as_ref();
    let ran = status != Status::Created;
    let mut value = json!({
        "Status": status.to_string(),
        // Docker says of a paused or restarting container that it runs, too.
        "Running": load::is_live(status),
        "Paused": status == Status::Paused,
        "Restarting": status == Status::Restarting,
        "OOMKilled": exit.is_some_and(|exit| exit.out_of_memory),
        "Dead": status == Status::Dead,
        "Pid": state.pid,
        "ExitCode": if load::is_live(status) && status != Status::Restarting { 0 } else { exit.map_or(0, |exit| exit.code) },
        "Error": exit.filter(|_| !load::is_live(status)).map_or("", |exit| exit.error.as_str()),
        "StartedAt": state.started.map_or(NEVER.to_owned(), |time| time.to_string()),
        "FinishedAt": exit.filter(|_| ran || exit.is_some()).map_or(NEVER.to_owned(), |exit| exit.at.to_string()),
    });
    if let (Some(health), Some(object)) = (&state.health, value.as_object_mut()) {
        object.insert("Health".to_owned(), health_json(health));
    }
    value
}

fn health_json(health: &HealthState) -> Value {
    let log: Vec<Value> = health
        .log
        .iter()
        .map(|probe| {
            json!({
                "Start": probe.start.to_string(),
                "End": probe.end.to_string(),
                "ExitCode": probe.exit_code,
                "Output": probe.output,
            })
        })
        .collect();
    json!({"Status": health.status, "FailingStreak": health.failing_streak, "Log": log})
}

/// Where the layers are. There is no merged directory on the host: the root is mounted in the container only.
fn graph_driver(engine: &Engine, config: &ContainerConfig) -> Value {
    let (upper, work) = root::dirs(engine, config);
    let lowers: Vec<String> = config
        .image
        .layers
        .iter()
        .rev()
        .filter_map(|layer| crate::layer::shown_dir(engine, layer).ok())
        .map(|path| path.to_string_lossy().into_owned())
        .collect();
    json!({
        "Name": "overlay2",
        "Data": {"LowerDir": lowers.join(":"), "UpperDir": upper, "WorkDir": work, "MergedDir": ""},
    })
}

fn mounts(engine: &Engine, config: &ContainerConfig) -> Vec<Value> {
    config
        .mounts
        .iter()
        .map(|mount| {
            let propagation = mount.propagation.clone().unwrap_or_default();
            let mode = if mount.read_only { "ro" } else { "" };
            match &mount.source {
                MountSource::Volume { name, .. } => {
                    let name = name.clone().unwrap_or_default();
                    let source = volume::data_source(engine, &name).unwrap_or_else(|_| engine.paths().volume_data(&name));
                    json!({
                        "Type": "volume", "Name": name, "Source": source, "Destination": mount.target,
                        "Driver": volume::DRIVER, "Mode": if mode.is_empty() { "z" } else { mode }, "RW": !mount.read_only,
                        "Propagation": propagation,
                    })
                }
                MountSource::Bind { path, .. } => json!({
                    "Type": "bind", "Source": path, "Destination": mount.target, "Mode": mode, "RW": !mount.read_only,
                    "Propagation": if propagation.is_empty() { "rprivate".to_owned() } else { propagation },
                }),
                MountSource::Tmpfs { .. } => json!({
                    "Type": "tmpfs", "Source": "", "Destination": mount.target, "Mode": mode, "RW": !mount.read_only,
                    "Propagation": propagation,
                }),
            }
        })
        .collect()
}

/// Docker's `null` for an empty list or map.
fn null_if_empty<T: serde::Serialize>(items: &[T]) -> Value {
    if items.is_empty() {
        Value::Null
    } else {
        json!(items)
    }
}

/// `container:<id>`, `host` and the like.
fn container_mode(id: &Id) -> String {
    format!("container:{id}")
}

#[cfg(test)]
mod tests;
