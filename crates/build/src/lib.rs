//! Dockerfile to stages to keyed steps to layers.
//!
//! A build goes through stages that know nothing of each other: `dockerfile` (text to typed instructions, every
//! mistake with its place), `plan` (which stages the target needs, what each instruction means with its variables
//! filled in: a value), `source` (which files a COPY reads, and their digest), `execute` (steps whose key is not known
//! are done, and recorded), and at the end one image record. Until that record nothing of a build is visible but cache
//! records of finished steps; a build that is killed leaves drafts, which the next collection removes.

mod bases;
mod context;
mod copy;
mod dockerfile;
mod error;
mod execute;
mod expand;
#[doc(hidden)]
pub mod fuzz;
mod ignore;
mod key;
mod observer;
mod path;
mod plan;
mod progress;
mod request;
mod source;

pub use error::{BuildError, FailedStep, Mistake, Position, Source};
pub use observer::{BuildEvent, BuildObserver, OutputStream, Silent};
pub use request::{
    BuildRequest, Built, Context, DockerfileSource, NamedContext, Secret, StepNetwork,
};

use std::collections::BTreeMap;
use std::path::PathBuf;

use ketch_engine::{Engine, Error as EngineError, ErrorKind};
use ketch_spec::Platform;

use execute::{Execution, Settings};
use progress::Progress;
use source::{SourceRoot, StatCache};

/// Builds an image. Blocks until it is done.
///
/// # Errors
/// [`BuildError`]: its `Display` is the whole report, with BuildKit's frame where it is about a line.
pub fn build(
    engine: &Engine,
    mut request: BuildRequest,
    observer: &dyn BuildObserver,
) -> Result<Built, BuildError> {
    let progress = Progress::new(observer);
    let platform = platform(&request)?;
    let vertex = progress.start(&format!(
        "[internal] load build definition from {}",
        dockerfile_name(&request)
    ));
    let loaded = context::open(engine, &mut request).and_then(|(context, source)| {
        let file = dockerfile::parse(&source.text).map_err(|mistakes| wrong(&source, mistakes))?;
        Ok((context, source, file))
    });
    let (context, source, file) = loaded
        .inspect_err(|error| vertex.failed(error.message().lines().next().unwrap_or_default()))?;
    vertex.done();
    // From the first look at what is here until the record that keeps it.
    let lock = engine.store().lock_shared().map_err(|error| {
        EngineError::caused(ErrorKind::Internal, "cannot lock the image store", &error)
    })?;
    let graph = plan::Graph::new(&file, &request, &platform)
        .map_err(|mistakes| wrong(&source, mistakes))?;
    let images = bases::load(
        engine,
        &graph.images,
        &platform,
        request.pull,
        &progress,
        &source,
    )?;
    let configs = images
        .iter()
        .map(|(name, image)| (name.clone(), image.config.clone()))
        .collect();
    let plan = plan::plan(&file, &request, &graph, &configs, &platform)
        .map_err(|mistakes| wrong(&source, mistakes))?;
    for (line, text) in &plan.warnings {
        progress.warn(*line, text);
    }
    let named = named_contexts(engine, &request)?;
    let execution = Execution {
        engine,
        settings: Settings::of(&request),
        plan: &plan,
        images: &images,
        context: &context,
        named: &named,
        source: &source,
        progress: &progress,
    };
    let made = execution.run().and_then(|outcome| {
        let image_id = execute::commit(&execution, &outcome, &platform, &request.tags)?;
        Ok((image_id, outcome))
    });
    drop(lock);
    let tidied = tidy(engine);
    let (image_id, outcome) = made?;
    tidied?;
    Ok(Built {
        image_id,
        tags: request.tags,
        ran: outcome.ran,
        cached: outcome.cached,
    })
}

/// Removes what killed builds left unfinished, and does what a collector left to us.
fn tidy(engine: &Engine) -> Result<(), BuildError> {
    let drafts = engine.paths().ingest_dir().join("work");
    let left = std::fs::read_dir(drafts).is_ok_and(|mut listing| listing.next().is_some());
    if left {
        ketch_engine::image::collect(engine)?;
    } else {
        ketch_engine::image::collect_if_pending(engine)?;
    }
    Ok(())
}

fn wrong(source: &Source, mistakes: Vec<Mistake>) -> BuildError {
    BuildError::Mistakes {
        dockerfile: source.clone(),
        mistakes,
    }
}

/// The Dockerfile's name in titles.
fn dockerfile_name(request: &BuildRequest) -> String {
    match &request.dockerfile {
        DockerfileSource::Path(path) => path.file_name().map_or_else(
            || "Dockerfile".into(),
            |name| name.to_string_lossy().into_owned(),
        ),
        DockerfileSource::Default | DockerfileSource::Text(_) => "Dockerfile".into(),
    }
}

/// The platform to build for: this machine's.
fn platform(request: &BuildRequest) -> Result<Platform, BuildError> {
    let host = Platform::host();
    match &request.platform {
        Some(wanted) if !wanted.matches(&host) => {
            let message =
                format!("building for {wanted} is not supported on {host}: it needs an emulator");
            Err(BuildError::Request {
                kind: ErrorKind::Unsupported,
                message,
            })
        }
        _ => Ok(host),
    }
}

fn named_contexts(
    engine: &Engine,
    request: &BuildRequest,
) -> Result<BTreeMap<PathBuf, (SourceRoot, StatCache)>, BuildError> {
    let mut opened = BTreeMap::new();
    for context in request.named_contexts.values() {
        if let NamedContext::Directory(path) = context {
            opened.insert(path.clone(), context::open_named(engine, path)?);
        }
    }
    Ok(opened)
}

#[cfg(test)]
mod tests;

/// A file or folder of the specification data that lies beside the checkout (or where `KETCH_SPEC_DATA` says). Where
/// it is absent, the test that asked says so and must return: it has then shown nothing.
#[cfg(test)]
#[allow(clippy::print_stderr)]
fn spec_data(name: &str) -> Option<std::path::PathBuf> {
    let folder = std::env::var_os("KETCH_SPEC_DATA").map_or_else(
        || std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/spec/data"),
        std::path::PathBuf::from,
    );
    let path = folder.join(name);
    if path.exists() {
        return Some(path);
    }
    eprintln!(
        "NOT RUN: the specification data is not at {}; this test shows nothing",
        path.display()
    );
    None
}
