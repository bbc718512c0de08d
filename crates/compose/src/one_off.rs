//! `run`: one more container of a service, for one command.

use ketch_engine::container::{self, Created, NetworkRequest};
use ketch_engine::{Engine, Error, ErrorKind, Result, image};
use ketch_spec::mount::Mount;
use ketch_spec::port::PortMapping;

use crate::execute::{copy_files, observe_containers};
use crate::model::{Project, Service};
use crate::request::{self, IMAGE, NUMBER, ONE_OFF, SLUG};

/// What `run` was told; `None` and empty mean "as the service says".
#[derive(Debug, Clone, Default)]
pub struct OneOff {
    /// Name; None draws `project-service-run-RANDOM`.
    pub name: Option<String>,
    /// Twelve hexadecimal digits that no other run has.
    pub slug: String,
    /// The command.
    pub command: Vec<String>,
    /// The entrypoint.
    pub entrypoint: Option<Vec<String>>,
    /// Added to the environment: `NAME=value`.
    pub env: Vec<String>,
    /// User.
    pub user: Option<String>,
    /// Working directory.
    pub working_dir: Option<String>,
    /// Added to the labels.
    pub labels: Vec<(String, String)>,
    /// Added to the mounts, in place of those with the same target.
    pub mounts: Vec<Mount>,
    /// Published ports.
    pub ports: Vec<PortMapping>,
    /// Publish the service's ports, too.
    pub service_ports: bool,
    /// Answer to the service's name and aliases.
    pub use_aliases: bool,
    /// A terminal.
    pub tty: bool,
    /// Standard input stays open.
    pub stdin: bool,
    /// And is closed when the first client leaves.
    pub stdin_once: bool,
    /// Remove it at its exit.
    pub auto_remove: bool,
    /// Capabilities to add.
    pub cap_add: Vec<String>,
    /// Capabilities to drop.
    pub cap_drop: Vec<String>,
}

/// Makes the container.
///
/// # Errors
/// A service that is not as it must be; the engine's.
pub fn create_one_off(
    engine: &Engine,
    project: &Project,
    service: &Service,
    run: &OneOff,
) -> Result<Created> {
    let observed = observe_containers(engine, &project.name)?;
    let container_of = |wanted: &str| {
        let mut all = observed.containers.iter();
        let found = all.find(|found| found.service == wanted && !found.one_off);
        found.map(|found| found.id.clone())
    };
    let wrong = |error: crate::LoadError| Error::new(ErrorKind::Invalid, error.to_string());
    let mut request = request::create_request(project, service, 1, &container_of).map_err(wrong)?;
    let drawn = || format!("{}-{}-run-{}", project.name, service.name, run.slug);
    request.name = Some(run.name.clone().unwrap_or_else(drawn));
    if !run.command.is_empty() {
        request.command.clone_from(&run.command);
    }
    if let Some(entrypoint) = &run.entrypoint {
        request.entrypoint = Some(entrypoint.clone());
        request.command.clone_from(&run.command);
    }
    request.env.extend(run.env.iter().cloned());
    request.user = run.user.clone().or(request.user);
    request.working_dir = run.working_dir.clone().or(request.working_dir);
    request.tty = run.tty;
    request.open_stdin = run.stdin;
    request.stdin_once = run.stdin_once;
    request.auto_remove = run.auto_remove;
    request.restart = ketch_engine::container::config::RestartPolicy::No;
    for mount in &run.mounts {
        request.mounts.retain(|other| other.target != mount.target);
        request.mounts.push(mount.clone());
    }
    if !run.service_ports {
        request.ports.clear();
    }
    request.ports.extend(run.ports.iter().cloned());
    if !run.use_aliases
        && let NetworkRequest::Networks(endpoints) = &mut request.network
    {
        // the service's name is for its regular containers
        endpoints
            .iter_mut()
            .for_each(|endpoint| endpoint.aliases.clear());
    }
    request.security.cap_add.extend(run.cap_add.iter().cloned());
    request
        .security
        .cap_drop
        .extend(run.cap_drop.iter().cloned());
    request.labels.extend(run.labels.iter().cloned());
    request.labels.remove(NUMBER);
    request.labels.insert(ONE_OFF.into(), "True".into());
    request.labels.insert(SLUG.into(), run.slug.clone());
    let image = image::resolve(engine, &service.image)?;
    request.labels.insert(IMAGE.into(), image.id.to_string());
    let files = request::files_to_copy(project, service).map_err(wrong)?;
    let created = container::create(engine, request, &image::Silent)?;
    copy_files(engine, created.id.as_str(), &files)?;
    Ok(created)
}
