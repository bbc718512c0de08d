//! One operation: one engine verb.

use ketch_engine::container::{self, RemoveOptions, StartOptions, StopOptions};
use ketch_engine::network::{self, NetworkRequest};
use ketch_engine::volume::{self, VolumeRequest};
use ketch_engine::{Error, ErrorKind, Result, image};

use super::{Run, copy_files, images, observe, wait};
use crate::plan::{Action, Target};
use crate::request::{self, IMAGE, NETWORK, PROJECT, REPLACE, VOLUME};

/// Does it, and tells the observer.
pub(super) fn perform(run: &Run<'_>, action: &Action) -> Result<()> {
    match action {
        Action::Pull(service) => images::pull(run, &run.project.services[service]),
        Action::Build(service) => images::build(run, &run.project.services[service]),
        Action::PullOrBuild(service) => {
            let service = &run.project.services[service];
            images::pull(run, service).or_else(|error| {
                run.observer.warning(&error.to_string());
                images::build(run, service)
            })
        }
        Action::CreateNetwork(key) => create_network(run, key),
        Action::CreateVolume(key) => create_volume(run, key),
        Action::Create { .. } => create(run, action),
        Action::Wait {
            service,
            condition,
            required,
        } => wait::wait(run, service, *condition, *required),
        Action::RemoveNetwork(name) => unless_used(run, &format!("Network {name}"), || {
            network::remove(run.engine, name).or_else(gone)
        }),
        Action::RemoveVolume(name) => unless_used(run, &format!("Volume {name}"), || {
            volume::remove(run.engine, name, true).or_else(gone)
        }),
        Action::RemoveImage(name) => unless_used(run, &format!("Image {name}"), || {
            let removed = image::remove(run.engine, name, &image::RemoveOptions::default());
            removed.map(drop).or_else(gone)
        }),
        other => change(run, other),
    }
}

/// What happens to one container.
fn change(run: &Run<'_>, action: &Action) -> Result<()> {
    let engine = run.engine;
    let with = |target: &Target, before, after, verb: &dyn Fn(&str) -> Result<()>| {
        told(run, &subject(target), before, after, || {
            let done = verb(&id(run, target)?);
            done.map_err(|error| error.context(format!("container {}", target.name())))
        })
    };
    match action {
        Action::Start(target) => with(target, "Starting", "Started", &|id| {
            let started = container::start(engine, id, StartOptions::default());
            started.map(drop).or_else(already)
        }),
        Action::Stop { target, timeout_s } => with(target, "Stopping", "Stopped", &|id| {
            container::stop(engine, id, stop_options(*timeout_s)).or_else(already)
        }),
        Action::Restart { target, timeout_s } => with(target, "Restarting", "Started", &|id| {
            container::restart(engine, id, stop_options(*timeout_s)).map(drop)
        }),
        Action::Kill { target, signal } => with(target, "Killing", "Killed", &|id| {
            container::kill(engine, id, *signal)
        }),
        Action::Pause(target) => with(target, "Pausing", "Paused", &|id| {
            container::pause(engine, id)
        }),
        Action::Unpause(target) => with(target, "Unpausing", "Unpaused", &|id| {
            container::unpause(engine, id)
        }),
        Action::Remove { target, volumes } => with(target, "Removing", "Removed", &|id| {
            let options = RemoveOptions {
                force: true,
                volumes: *volumes,
            };
            container::remove(engine, id, options).or_else(gone)
        }),
        Action::Rename { target, name } => container::rename(engine, &id(run, target)?, name),
        other => {
            let message = format!("{other} is no change of a container");
            Err(Error::new(ErrorKind::Internal, message))
        }
    }
}

fn stop_options(timeout_s: Option<i64>) -> StopOptions {
    StopOptions {
        timeout_s,
        ..StopOptions::default()
    }
}

/// What it was to become, it is already.
fn already(error: Error) -> Result<()> {
    if error.kind == ErrorKind::NotModified {
        Ok(())
    } else {
        Err(error)
    }
}

fn gone(error: Error) -> Result<()> {
    if error.kind == ErrorKind::NotFound {
        Ok(())
    } else {
        Err(error)
    }
}

/// Removes what nobody uses; what is in use stays, as with Docker Compose.
fn unless_used(run: &Run<'_>, subject: &str, work: impl FnOnce() -> Result<()>) -> Result<()> {
    run.observer.event(subject, "Removing");
    let (status, outcome) = match work() {
        Ok(()) => ("Removed", Ok(())),
        // the two kinds that Docker's engine has for it
        Err(error) if matches!(error.kind, ErrorKind::Conflict | ErrorKind::Forbidden) => {
            ("Resource is still in use", Ok(()))
        }
        Err(error) => ("Error", Err(error)),
    };
    run.observer.event(subject, status);
    outcome
}

pub(super) fn told(
    run: &Run<'_>,
    subject: &str,
    before: &str,
    after: &str,
    work: impl FnOnce() -> Result<()>,
) -> Result<()> {
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
        Target::New {
            service,
            number,
            name,
        } => {
            let made = run.lock().made.get(&(service.clone(), *number)).cloned();
            made.ok_or_else(|| {
                Error::new(
                    ErrorKind::Internal,
                    format!("container {name} was not made"),
                )
            })
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
    told(
        run,
        &format!("Network {}", wanted.name),
        "Creating",
        "Created",
        || network::create(run.engine, request).map(drop),
    )
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
    told(
        run,
        &format!("Volume {}", wanted.name),
        "Creating",
        "Created",
        || volume::create(run.engine, request).map(drop),
    )
}

fn create(run: &Run<'_>, action: &Action) -> Result<()> {
    let Action::Create {
        service,
        number,
        name,
        replaces,
        carry,
    } = action
    else {
        return Err(Error::new(
            ErrorKind::Internal,
            format!("{action} creates nothing"),
        ));
    };
    let wanted = &run.project.services[service];
    let container_of = |service: &str| first_container(run, service);
    let wrong = |error: crate::LoadError| Error::new(ErrorKind::Invalid, error.to_string());
    let request = request::create_request(run.project, wanted, *number, &container_of);
    let mut request = request.map_err(wrong)?;
    request.name = Some(name.clone());
    request::carry_over(&mut request.mounts, carry);
    if let Some((_, id)) = replaces {
        request.labels.insert(REPLACE.into(), id.clone());
    }
    let image = image::resolve(run.engine, &wanted.image)?;
    request.labels.insert(IMAGE.into(), image.id.to_string());
    let files = request::files_to_copy(run.project, wanted).map_err(wrong)?;
    let (shown, before, after) = match replaces {
        Some((old, _)) => (old.clone(), "Recreate", "Recreated"),
        None => (name.clone(), "Creating", "Created"),
    };
    told(run, &format!("Container {shown}"), before, after, || {
        let created = container::create(run.engine, request, &image::Silent)
            .map_err(|error| error.context(format!("service {service}")))?;
        for warning in &created.warnings {
            run.observer.warning(&format!("{shown}: {warning}"));
        }
        let id = created.id.to_string();
        copy_files(run.engine, &id, &files)?;
        run.lock().made.insert((service.clone(), *number), id);
        Ok(())
    })
}

/// The id of a service's first container: made by this run, or there before.
fn first_container(run: &Run<'_>, service: &str) -> Option<String> {
    let is_of = |((name, _), _): &(&(String, u32), &String)| name == service;
    let made = run.lock().made.iter().find(is_of).map(|(_, id)| id.clone());
    made.or_else(|| {
        let containers = observe::containers(run.engine, &run.project.name).ok()?;
        let found = containers.iter().map(observe::describe);
        let mut found = found.filter(|found| found.service == service && !found.one_off);
        found.next().map(|found| found.id)
    })
}
