//! Images pulled and built.

use std::collections::BTreeMap;

use ketch_build::{BuildRequest, Context, DockerfileSource, NamedContext, Secret, StepNetwork};
use ketch_engine::{Error, ErrorKind, Result, image};
use ketch_spec::{Platform, Reference};

use super::{Run, operation::told};
use crate::model::{Build, FileSource, Project, Service};
use crate::request::{PROJECT, SERVICE};

/// What a command says about builds.
#[derive(Debug, Clone, Default)]
pub struct BuildOptions {
    /// `--no-cache`: run every step anew.
    pub no_cache: bool,
    /// `--pull`: ask the registry for bases.
    pub pull: bool,
    /// `--build-arg`.
    pub args: BTreeMap<String, String>,
}

/// Pulls a service's image.
pub(super) fn pull(run: &Run<'_>, service: &Service) -> Result<()> {
    let reference = parse(&service.image)?;
    let platform = service.reader().get("platform");
    let platform = platform.and_then(|platform| platform.text().ok());
    let platform = platform.map(|text| text.parse::<Platform>()).transpose();
    let platform =
        platform.map_err(|error| Error::caused(ErrorKind::Invalid, "invalid platform", &error))?;
    told(run, &service.name, "Pulling", "Pulled", || {
        let observer = run.observer.pull(&service.name);
        let pulled = image::pull(run.engine, &reference, platform.as_ref(), &*observer);
        pulled.map(drop).map_err(|error| in_service(error, service))
    })
}

/// Builds a service's image.
pub(super) fn build(run: &Run<'_>, service: &Service) -> Result<()> {
    let Some(build) = &service.build else {
        let message = format!("service {} has nothing to build", service.name);
        return Err(Error::new(ErrorKind::Internal, message));
    };
    let request = build_request(run.project, service, build, &run.options.build)?;
    told(run, &service.image, "Building", "Built", || {
        let observer = run.observer.build(&service.name);
        let built = ketch_build::build(run.engine, request, &*observer);
        let failed = |error: ketch_build::BuildError| {
            // the report has several lines: it begins on one of its own
            let report = format!("service {} failed to build\n{error}", service.name);
            Error::new(error.kind(), report)
        };
        built.map(drop).map_err(failed)
    })
}

fn in_service(error: Error, service: &Service) -> Error {
    error.context(format!("service {}", service.name))
}

fn build_request(
    project: &Project,
    service: &Service,
    build: &Build,
    options: &BuildOptions,
) -> Result<BuildRequest> {
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
        Some(other) => {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!("build network {other:?} is not supported"),
            ));
        }
    };
    let dockerfile = match (&build.dockerfile_inline, &build.dockerfile) {
        (Some(text), _) => DockerfileSource::Text(text.clone()),
        (None, Some(path)) if path.as_os_str() != "Dockerfile" => {
            DockerfileSource::Path(build.context.join(path))
        }
        _ => DockerfileSource::Default,
    };
    Ok(BuildRequest {
        context: Context::Directory(build.context.clone()),
        dockerfile,
        tags,
        args,
        target: build.target.clone(),
        no_cache: build.no_cache || options.no_cache,
        pull: build.pull || options.pull,
        labels,
        network,
        extra_hosts: build
            .extra_hosts
            .iter()
            .map(|host| host.replacen('=', ":", 1))
            .collect(),
        shm_size_bytes: build.shm_size_bytes,
        named_contexts: contexts(build),
        secrets: secrets(project, build)?,
        ..BuildRequest::default()
    })
}

fn contexts(build: &Build) -> BTreeMap<String, NamedContext> {
    let named = |(name, value): (&String, &String)| {
        let context = match value.strip_prefix("docker-image://") {
            Some(image) => NamedContext::Image(image.to_owned()),
            None => NamedContext::Directory(value.into()),
        };
        (name.clone(), context)
    };
    build.contexts.iter().map(named).collect()
}

fn secrets(project: &Project, build: &Build) -> Result<BTreeMap<String, Secret>> {
    let mut found = BTreeMap::new();
    for (id, key) in &build.secrets {
        let bytes = match project.files_by_key.get(&format!("secrets.{key}")) {
            Some(FileSource::Content(text)) => text.clone().into_bytes(),
            Some(FileSource::Host(path)) => std::fs::read(path).map_err(|error| {
                Error::caused(
                    ErrorKind::Invalid,
                    format!("secret {key}: read {path}"),
                    &error,
                )
            })?,
            None => {
                let message = format!("secret {key} is not defined");
                return Err(Error::new(ErrorKind::Invalid, message));
            }
        };
        found.insert(id.clone(), Secret(bytes));
    }
    Ok(found)
}

fn parse(text: &str) -> Result<Reference> {
    let parsed = text.parse::<Reference>();
    parsed.map_err(|error| Error::new(ErrorKind::Invalid, format!("image {text:?}: {error}")))
}
