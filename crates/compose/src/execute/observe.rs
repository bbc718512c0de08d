//! What exists of a project, read from the engine by labels.

use std::collections::{BTreeMap, BTreeSet};

use ketch_engine::container::{Container, Status};
use ketch_engine::{Engine, ErrorKind, Result};
use ketch_spec::mount::MountSource;

use crate::model::Project;
use crate::plan::{Observed, ObservedContainer};
use crate::request::{CONFIG_HASH, NUMBER, ONE_OFF, PROJECT, SERVICE};

/// Looks at everything: containers, networks, volumes, and the images of the named services.
///
/// # Errors
/// The engine's.
pub fn observe(engine: &Engine, project: &Project, services: &[String]) -> Result<Observed> {
    let mut observed = observe_containers(engine, &project.name)?;
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
    observe_images(engine, project, services, &mut observed)?;
    Ok(observed)
}

/// Looks at containers only.
///
/// # Errors
/// The engine's.
pub fn observe_containers(engine: &Engine, project: &str) -> Result<Observed> {
    Ok(Observed {
        containers: containers(engine, project)?.iter().map(describe).collect(),
        ..Observed::default()
    })
}

/// Looks which images of the named services are here, each once.
///
/// # Errors
/// The engine's.
pub fn observe_images(
    engine: &Engine,
    project: &Project,
    services: &[String],
    observed: &mut Observed,
) -> Result<()> {
    let services = services
        .iter()
        .filter_map(|name| project.services.get(name));
    let wanted: BTreeSet<&String> = services.map(|service| &service.image).collect();
    for reference in wanted {
        match ketch_engine::image::resolve(engine, reference) {
            Ok(image) => {
                let id = image.id.to_string();
                observed.images.insert(reference.clone(), id);
            }
            Err(error) if error.kind == ErrorKind::NotFound => {
                observed.images.remove(reference);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The containers of a project, by name.
///
/// # Errors
/// The engine's.
pub fn containers(engine: &Engine, project: &str) -> Result<Vec<Container>> {
    let mut containers = ketch_engine::container::list(engine)?;
    containers.retain(|container| {
        container
            .config
            .labels
            .get(PROJECT)
            .is_some_and(|label| label == project)
    });
    containers.sort_by(|a, b| a.config.name.cmp(&b.config.name));
    Ok(containers)
}

/// A container as planning sees it.
pub fn describe(container: &Container) -> ObservedContainer {
    let label = |key: &str| {
        container
            .config
            .labels
            .get(key)
            .cloned()
            .unwrap_or_default()
    };
    let depends_on = label("com.docker.compose.depends_on");
    ObservedContainer {
        id: container.config.id.to_string(),
        name: container.config.name.clone(),
        service: label(SERVICE),
        number: label(NUMBER).parse().unwrap_or(0),
        one_off: label(ONE_OFF) == "True",
        config_hash: label(CONFIG_HASH),
        image_id: container
            .config
            .image
            .id
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default(),
        running: matches!(
            container.state.status,
            Status::Running | Status::Paused | Status::Restarting
        ),
        paused: container.state.status == Status::Paused,
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
            MountSource::Volume {
                name: Some(name),
                anonymous: true,
                ..
            } => Some((mount.target.clone(), name.clone())),
            _ => None,
        })
        .collect()
}

/// What `logs` and an attached `up` put before a container's lines: its name without the project's.
pub fn attached_name(project: &str, container: &str) -> String {
    let bare = container.strip_prefix(project);
    let bare = bare.and_then(|rest| rest.strip_prefix('-'));
    bare.unwrap_or(container).to_owned()
}
