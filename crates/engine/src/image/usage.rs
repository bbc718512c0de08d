//! Which containers use an image.

use ketch_spec::Digest;

use crate::container::{self, Container, Status};
use crate::{Engine, Result};

/// The containers made from the image with this id, hidden ones left out.
pub(super) fn containers_of(engine: &Engine, id: &Digest) -> Result<Vec<Container>> {
    let mut containers = container::list(engine)?;
    containers.retain(|container| container.config.image.id.as_ref() == Some(id));
    Ok(containers)
}

/// Whether the container has processes, in Docker's sense: a paused or restarting one counts.
pub(super) fn is_running(container: &Container) -> bool {
    matches!(
        container.state.status,
        Status::Running | Status::Paused | Status::Restarting
    )
}
