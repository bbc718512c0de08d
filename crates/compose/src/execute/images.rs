//! Images first: what is to be built is built, what is missing is pulled.

use std::collections::BTreeMap;
use std::path::PathBuf;

use ketch_build::{BuildRequest, Context, DockerfileSource, StepNetwork};
use ketch_engine::{Engine, Error, ErrorKind, Result, image};
use ketch_spec::{Platform, Reference};

use super::ComposeObserver;
use crate::model::{Build, Project, PullPolicy, Service};
use crate::request::{PROJECT, SERVICE};

/// What a command says about images.
#[derive(Debug, Clone, Default)]
pub struct ImageOptions {
    /// `--build`: build even what is there.
    pub build: bool,
    /// `--no-build`: build nothing.
    pub no_build: bool,
    /// `--no-cache`: run every step anew.
    pub no_cache: bool,
    /// `--pull`.
    pub pull: PullMode,
    /// `--build-arg`.
    pub args: BTreeMap<String, String>,
}

/// `--pull` of `up`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum PullMode {
    /// As the files say.
    #[default]
    Policy,
    /// Even what is there.
    Always,
    /// What is missing.
    Missing,
    /// Nothing.
    Never,
}

/// Makes sure that the images of the named services are here.
///
/// # Errors
/// The first build or pull that fails; an image that is missing and may neither be built nor pulled.
pub fn ensure_images(
    engine: &Engine,
    project: &Project,
    services: &[String],
    options: &ImageOptions,
    observer: &dyn ComposeObserver,
) -> Result<()> {
    let mut seen = Vec::new();
    for service in services.iter().filter_map(|name| project.services.get(name)) {
        // two services of one image need it once, but a build of their own each
        if service.build.is_none() && seen.contains(&&service.image) {
            continue;
        }
        ensure(engine, project, service, options, observer).map_err(|error| error.context(format!("service {}", service.name)))?;
        seen.push(&service.image);
    }
    Ok(())
}

fn ensure(
    engine: &Engine,
    project: &Project,
    service: &Service,
    options: &ImageOptions,
    observer: &dyn ComposeObserver,
) -> Result<()> {
    let here = match image::resolve(engine, &service.image) {
        Ok(_) => true,
        Err(error) if error.kind == ErrorKind::NotFound => false,
        Err(error) => return Err(error),
    };
    if let Some(build) = &service.build {
        let wanted = options.build || !here || service.pull_policy == PullPolicy::Build;
        if wanted && !options.no_build {
            return build_image(engine, project, service, build, options, observer);
        }
        if here {
            return Ok(());
        }
    }
    let pull = match (options.pull, service.pull_policy) {
        (PullMode::Always, _) | (PullMode::Policy, PullPolicy::Always) => service.build.is_none(),
        (PullMode::Never, _) | (PullMode::Policy, PullPolicy::Never) => false,
        _ => !here,
    };
    if pull {
        return pull_image(engine, service, observer);
    }
    if here { Ok(()) } else { Err(Error::new(ErrorKind::NotFound, format!("No such image: {}", service.image))) }
}

fn pull_image(engine: &Engine, service: &Service, observer: &dyn ComposeObserver) -> Result<()> {
    let reference = parse(&service.image)?;
    let platform = service.reader().get("platform").and_then(|platform| platform.text().ok());
    let platform = platform.map(|text| text.parse::<Platform>()).transpose();
    let platform = platform.map_err(|error| Error::caused(ErrorKind::Invalid, "invalid platform", &error))?;
    let subject = format!("{} ", service.name);
    observer.event(subject.trim_end(), "Pulling");
    image::pull(engine, &reference, platform.as_ref(), &*observer.pull(&service.name))?;
    observer.event(subject.trim_end(), "Pulled");
    Ok(())
}

fn build_image(
    engine: &Engine,
    project: &Project,
    service: &Service,
    build: &Build,
    options: &ImageOptions,
    observer: &dyn ComposeObserver,
) -> Result<()> {
    let mut tags = vec![parse(&service.image)?];
    for tag in &build.tags {
        tags.push(parse(tag)?);
    }
    let mut labels = build.labels.clone();
    labels.insert(PROJECT.into(), project.name.clone());
    labels.insert(SERVICE.into(), service.name.clone());
    let mut args = build.args.clone();
    args.extend(options.args.clone());
    let network = match build.network.as_deref() {
        None | Some("default" | "bridge") => StepNetwork::Default,
        Some("none") => StepNetwork::None,
        Some("host") => StepNetwork::Host,
        Some(other) => return Err(Error::new(ErrorKind::Unsupported, format!("build network {other:?} is not supported"))),
    };
    let dockerfile = match (&build.dockerfile_inline, &build.dockerfile) {
        (Some(text), _) => DockerfileSource::Text(text.clone()),
        (None, Some(path)) if *path != PathBuf::from("Dockerfile") => DockerfileSource::Path(build.context.join(path)),
        _ => DockerfileSource::Default,
    };
    let request = BuildRequest {
        context: Context::Directory(build.context.clone()),
        dockerfile,
        tags,
        args,
        target: build.target.clone(),
        no_cache: build.no_cache || options.no_cache,
        pull: build.pull,
        labels,
        network,
        extra_hosts: build.extra_hosts.iter().map(|host| host.replacen('=', ":", 1)).collect(),
        shm_size_bytes: build.shm_size_bytes,
        ..BuildRequest::default()
    };
    observer.event(&service.image, "Building");
    ketch_build::build(engine, request, &*observer.build(&service.name))
        .map_err(|error| Error::new(error.kind(), error.to_string()))?;
    observer.event(&service.image, "Built");
    Ok(())
}

fn parse(text: &str) -> Result<Reference> {
    let parsed = text.parse::<Reference>();
    parsed.map_err(|error| Error::new(ErrorKind::Invalid, format!("image {text:?}: {error}")))
}
