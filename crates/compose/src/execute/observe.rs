//! What exists of a project, read from the engine by labels.

use std::collections::BTreeMap;

use ketch_engine::container::{Container, Status};
use ketch_engine::{Engine, ErrorKind, Result};
use ketch_spec::mount::MountSource;

use crate::model::Project;
use crate::plan::{Observed, ObservedContainer};
use crate::request::{CONFIG_HASH, NUMBER, ONE_OFF, PROJECT, SERVICE};

/// Looks.
///
/// # Errors
/// The engine's.
pub fn observe(engine: &Engine, project: &Project) -> Result<Observed> {
    let mut observed = Observed::default();
    observed.containers = containers(engine, &project.name)?.iter().map(describe).collect();
    for network in ketch_engine::network::list(engine)? {
        if network.labels.get(PROJECT) == Some(&project.name) {
            observed.own_networks.insert(network.name.clone());
        }
        observed.networks.insert(network.name);
    }
    for volume in ketch_engine::volume::list(engine)? {
        if volume.record.labels.get(PROJECT) == Some(&project.name) {
            observed.own_volumes.insert(volume.record.name.clone());
        }
        observed.volumes.insert(volume.record.name);
    }
    for service in project.services.values() {
        match ketch_engine::image::resolve(engine, &service.image) {
            Ok(image) => {
                observed.images.insert(service.image.clone(), image.id.to_string());
            }
            Err(error) if error.kind == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(observed)
}

/// The containers of a project, by name.
///
/// # Errors
/// The engine's.
pub fn containers(engine: &Engine, project: &str) -> Result<Vec<Container>> {
    let mut containers = ketch_engine::container::list(engine)?;
    containers.retain(|container| container.config.labels.get(PROJECT).is_some_and(|label| label == project));
    containers.sort_by(|a, b| a.config.name.cmp(&b.config.name));
    Ok(containers)
}

fn describe(container: &Container) -> ObservedContainer {
    let label = |key: &str| container.config.labels.get(key).cloned().unwrap_or_default();
    let depends_on = label("com.docker.compose.depends_on");
    ObservedContainer {
        id: container.config.id.to_string(),
        name: container.config.name.clone(),
        service: label(SERVICE),
        number: label(NUMBER).parse().unwrap_or(0),
        one_off: label(ONE_OFF) == "True",
        config_hash: label(CONFIG_HASH),
        image_id: container.config.image.id.as_ref().map(ToString::to_string).unwrap_or_default(),
        running: matches!(container.state.status, Status::Running | Status::Paused | Status::Restarting),
        depends_on: depends_on
            .split(',')
            .filter_map(|item| item.split(':').next())
            .filter(|name| !name.is_empty())
            .map(ToOwned::to_owned)
            .collect(),
        anonymous: anonymous(container),
    }
}

fn anonymous(container: &Container) -> BTreeMap<String, String> {
    container
        .config
        .mounts
        .iter()
        .filter_map(|mount| match &mount.source {
            MountSource::Volume { name: Some(name), anonymous: true, .. } => Some((mount.target.clone(), name.clone())),
            _ => None,
        })
        .collect()
}
