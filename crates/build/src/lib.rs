//! Dockerfile to stages to keyed steps to layers.

mod copy;
mod dockerfile;
mod error;
mod expand;
mod ignore;
mod key;
mod observer;
mod path;
mod plan;
mod request;
mod source;

pub use error::{BuildError, Mistake, Position, Source};
pub use observer::{BuildEvent, BuildObserver, OutputStream, Silent};
pub use request::{
    BuildRequest, Built, Context, DockerfileSource, NamedContext, Secret, StepNetwork,
};

use ketch_engine::{Engine, ErrorKind};

/// Builds an image. Blocks until it is done.
///
/// # Errors
/// [`BuildError`]: its `Display` is the whole report, with BuildKit's frame where it is about a line.
pub fn build(
    _engine: &Engine,
    _request: BuildRequest,
    _observer: &dyn BuildObserver,
) -> Result<Built, BuildError> {
    Err(BuildError::Request {
        kind: ErrorKind::Unsupported,
        message: "being written".into(),
    })
}

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
