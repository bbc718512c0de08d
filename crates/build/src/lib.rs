//! Dockerfile to stages to keyed steps to layers.

mod error;
mod observer;
mod request;

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
