//! `Config`: what has nothing to do with the host.

use ketch_spec::mount::MountSource;
use serde_json::{Map, Value, json};

use super::null_if_empty;
use crate::container::config::ContainerConfig;

/// The `Config` object.
pub(super) fn of(config: &ContainerConfig, hostname: &str) -> Value {
    let process = &config.process;
    let mut value = json!({
        "Hostname": hostname,
        "Domainname": config.domainname,
        "User": process.user,
        "AttachStdin": false,
        "AttachStdout": true,
        "AttachStderr": true,
        "Tty": process.tty,
        "OpenStdin": process.open_stdin,
        "StdinOnce": process.stdin_once,
        "Env": process.env,
        "Cmd": null_if_empty(&process.command),
        "Image": config.image.reference,
        "Volumes": volumes(config),
        "WorkingDir": process.working_dir,
        "Entrypoint": null_if_empty(&process.entrypoint),
        "OnBuild": null,
        "Labels": config.labels,
    });
    let Some(object) = value.as_object_mut() else {
        return value;
    };
    if !config.network.exposed.is_empty() {
        let ports: Map<String, Value> = config
            .network
            .exposed
            .iter()
            .map(|port| (port.to_string(), json!({})))
            .collect();
        object.insert("ExposedPorts".to_owned(), Value::Object(ports));
    }
    if let Some(health) = &config.health {
        object.insert("Healthcheck".to_owned(), json!(health));
    }
    if let Some(signal) = &config.stop_signal {
        object.insert("StopSignal".to_owned(), json!(signal));
    }
    if let Some(timeout) = config.stop_timeout_s {
        object.insert("StopTimeout".to_owned(), json!(timeout));
    }
    value
}

/// Docker lists the targets of anonymous volumes here.
fn volumes(config: &ContainerConfig) -> Value {
    let targets: Map<String, Value> = config
        .mounts
        .iter()
        .filter(|mount| {
            matches!(
                mount.source,
                MountSource::Volume {
                    anonymous: true,
                    ..
                }
            )
        })
        .map(|mount| (mount.target.clone(), json!({})))
        .collect();
    if targets.is_empty() {
        Value::Null
    } else {
        Value::Object(targets)
    }
}
