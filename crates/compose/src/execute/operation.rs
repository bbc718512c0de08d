//! One operation: one engine verb.

use std::time::Duration;

use ketch_engine::container::state::HealthStatus;
use ketch_engine::container::{self, RemoveOptions, StartOptions, Status, StopOptions, WaitCondition, Watch};
use ketch_engine::network::{self, NetworkRequest};
use ketch_engine::volume::{self, VolumeRequest};
use ketch_engine::{Error, ErrorKind, Result, image};

use super::{Run, observe};
use crate::model::Condition;
use crate::plan::{Action, Target};
use crate::request::{self, IMAGE, NETWORK, PROJECT, SERVICE, VOLUME};

/// Does it, and tells the observer.
pub(super) fn perform(run: &Run<'_>, action: &Action) -> Result<()> {
    match action {
        Action::CreateNetwork(key) => create_network(run, key),
        Action::CreateVolume(key) => create_volume(run, key),
        Action::Create { service, number, name, carry } => create(run, service, *number, name, carry),
        Action::Start(target) => told(run, &subject(target), "Starting", "Started", || {
            container::start(run.engine, &id(run, target)?, StartOptions::default()).map(drop).or_else(already)
        }),
        Action::Wait { service, condition } => wait(run, service, *condition),
        Action::Stop { target, timeout_s } => told(run, &subject(target), "Stopping", "Stopped", || {
            let options = StopOptions { timeout_s: *timeout_s, ..StopOptions::default() };
            container::stop(run.engine, &id(run, target)?, options).or_else(already)
        }),
        Action::Remove { target, volumes } => told(run, &subject(target), "Removing", "Removed", || {
            container::remove(run.engine, &id(run, target)?, RemoveOptions { force: true, volumes: *volumes })
        }),
        Action::Rename { target, name } => container::rename(run.engine, &id(run, target)?, name),
        Action::RemoveNetwork(name) => told(run, &format!("Network {name}"), "Removing", "Removed", || {
            network::remove(run.engine, name).or_else(gone)
        }),
        Action::RemoveVolume(name) => told(run, &format!("Volume {name}"), "Removing", "Removed", || {
            volume::remove(run.engine, name, true)
        }),
        Action::RemoveImage(name) => told(run, &format!("Image {name}"), "Removing", "Removed", || {
            image::remove(run.engine, name, false, false).map(drop).or_else(gone)
        }),
    }
}

/// What it was to become, it is already.
fn already(error: Error) -> Result<()> {
    if error.kind == ErrorKind::NotModified { Ok(()) } else { Err(error) }
}

fn gone(error: Error) -> Result<()> {
    if error.kind == ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

fn told(run: &Run<'_>, subject: &str, before: &str, after: &str, work: impl FnOnce() -> Result<()>) -> Result<()> {
    run.observer.event(subject, before);
    match work() {
        Ok(()) => {
            run.observer.event(subject, after);
            Ok(())
        }
        Err(error) => {
            run.observer.event(subject, "Error");
            Err(error)
        }
    }
}

fn subject(target: &Target) -> String {
    format!("Container {}", target.name())
}

fn id(run: &Run<'_>, target: &Target) -> Result<String> {
    match target {
        Target::Existing { id, .. } => Ok(id.clone()),
        Target::New { service, number, name } => {
            let made = run.lock().made.get(&(service.clone(), *number)).cloned();
            made.ok_or_else(|| Error::new(ErrorKind::Internal, format!("container {name} was not made")))
        }
    }
}

fn create_network(run: &Run<'_>, key: &str) -> Result<()> {
    let wanted = &run.project.networks[key];
    let mut labels = wanted.labels.clone();
    labels.insert(PROJECT.into(), run.project.name.clone());
    labels.insert(NETWORK.into(), key.to_owned());
    let request = NetworkRequest {
        name: wanted.name.clone(),
        driver: wanted.driver.clone().unwrap_or_default(),
        subnets: wanted.subnet.iter().cloned().collect(),
        gateways: wanted.gateway.iter().cloned().collect(),
        ip_ranges: wanted.ip_range.iter().cloned().collect(),
        internal: wanted.internal,
        ipv6: wanted.ipv6,
        labels,
        options: wanted.driver_opts.clone(),
        ..NetworkRequest::default()
    };
    told(run, &format!("Network {}", wanted.name), "Creating", "Created", || network::create(run.engine, request).map(drop))
}

fn create_volume(run: &Run<'_>, key: &str) -> Result<()> {
    let wanted = &run.project.volumes[key];
    let mut labels = wanted.labels.clone();
    labels.insert(PROJECT.into(), run.project.name.clone());
    labels.insert(VOLUME.into(), key.to_owned());
    let request = VolumeRequest {
        name: Some(wanted.name.clone()),
        driver: wanted.driver.clone().unwrap_or_default(),
        labels,
        options: wanted.driver_opts.clone(),
    };
    told(run, &format!("Volume {}", wanted.name), "Creating", "Created", || volume::create(run.engine, request).map(drop))
}

fn create(
    run: &Run<'_>,
    service: &str,
    number: u32,
    name: &str,
    carry: &std::collections::BTreeMap<String, String>,
) -> Result<()> {
    let wanted = &run.project.services[service];
    let container_of = |service: &str| first_container(run, service);
    let request = request::create_request(run.project, wanted, number, &container_of);
    let mut request = request.map_err(|error| Error::new(ErrorKind::Invalid, error.to_string()))?;
    request.name = Some(name.to_owned());
    request::carry_over(&mut request.mounts, carry);
    let image = image::resolve(run.engine, &wanted.image)?;
    request.labels.insert(IMAGE.into(), image.id.to_string());
    told(run, &format!("Container {}", request::container_name(run.project, wanted, number)), "Creating", "Created", || {
        let created = container::create(run.engine, request, &image::Silent)?;
        run.lock().made.insert((service.to_owned(), number), created.id.to_string());
        Ok(())
    })
}

/// The id of a service's first container: made by this run, or there before.
fn first_container(run: &Run<'_>, service: &str) -> Option<String> {
    let made = run.lock().made.iter().find(|((name, _), _)| name == service).map(|(_, id)| id.clone());
    made.or_else(|| {
        let containers = observe::containers(run.engine, &run.project.name).ok()?;
        let found = containers.iter().find(|container| container.config.labels.get(SERVICE).is_some_and(|label| label == service))?;
        Some(found.config.id.to_string())
    })
}

fn wait(run: &Run<'_>, service: &str, condition: Condition) -> Result<()> {
    for found in observe::containers(run.engine, &run.project.name)? {
        let labels = &found.config.labels;
        if labels.get(SERVICE).is_none_or(|label| label != service) || labels.get(request::ONE_OFF).is_some_and(|label| label == "True") {
            continue;
        }
        let subject = format!("Container {}", found.config.name);
        match condition {
            Condition::Started => {}
            Condition::Healthy => told(run, &subject, "Waiting", "Healthy", || healthy(run, &found))?,
            Condition::Completed => told(run, &subject, "Waiting", "Exited", || {
                let exit = container::wait(run.engine, found.config.id.as_str(), WaitCondition::NotRunning)?;
                let failed = || {
                    let message = format!("service {service:?} didn't complete successfully: exit {}", exit.code);
                    Error::new(ErrorKind::Conflict, message)
                };
                if exit.code == 0 { Ok(()) } else { Err(failed()) }
            })?,
        }
    }
    Ok(())
}

/// Waits until a container is healthy; one without a health check need only run.
fn healthy(run: &Run<'_>, found: &container::Container) -> Result<()> {
    let id = &found.config.id;
    let unhealthy = |why: &str| {
        Error::new(ErrorKind::Conflict, format!("dependency failed to start: container {} {why}", found.config.name))
    };
    let watch = Watch::container(run.engine, id)?;
    loop {
        let (_, state) = container::load(run.engine, id)?;
        match (state.status, state.health.map(|health| health.status)) {
            (Status::Running | Status::Paused, Some(HealthStatus::Healthy) | None) => return Ok(()),
            (Status::Running | Status::Paused, Some(HealthStatus::Unhealthy)) => return Err(unhealthy("is unhealthy")),
            (Status::Exited | Status::Dead, _) => {
                let code = state.exit.map_or(0, |exit| exit.code);
                return Err(unhealthy(&format!("exited ({code})")));
            }
            _ => watch.wait(Duration::from_secs(1))?,
        }
    }
}

/// What `logs` and an attached `up` put before a container's lines: its name without the project's.
pub fn attached_name(project: &str, container: &str) -> String {
    container.strip_prefix(&format!("{project}-")).unwrap_or(container).to_owned()
}
