//! Containers for tests that need no kernel objects.

use std::fs;

use jiff::Timestamp;
use serde_json::Map;

use super::config::{ContainerConfig, ImageSource, NetworkConfig, VERSION};
use super::load;
use super::state::{ContainerState, Status};
use crate::{Engine, names};

/// A config with nothing asked for.
pub(crate) fn config() -> ContainerConfig {
    ContainerConfig {
        version: VERSION,
        id: names::draw_id().unwrap(),
        name: "test".into(),
        created: Timestamp::now(),
        image: ImageSource {
            reference: "busybox:latest".into(),
            id: None,
            layers: Vec::new(),
        },
        process: Default::default(),
        hostname: String::new(),
        domainname: String::new(),
        labels: Default::default(),
        mounts: Vec::new(),
        network: NetworkConfig::default(),
        resources: Default::default(),
        security: Default::default(),
        namespaces: Default::default(),
        restart: Default::default(),
        auto_remove: false,
        init: false,
        stop_signal: None,
        stop_timeout_s: None,
        health: None,
        log: Default::default(),
        hidden: false,
        writable_dir: None,
        other: Map::new(),
    }
}

/// Puts a container of a given name and status on disk.
pub(crate) fn put(engine: &Engine, name: &str, status: Status) -> ContainerConfig {
    let config = ContainerConfig {
        name: name.into(),
        ..config()
    };
    fs::create_dir_all(engine.paths().log_dir(&config.id)).unwrap();
    names::claim(engine, names::CONTAINER, name, &config.id, |_| true).unwrap();
    load::write_config(engine, &config).unwrap();
    load::write_state(
        engine,
        &config,
        &ContainerState {
            status,
            ..ContainerState::created()
        },
    )
    .unwrap();
    config
}
