//! Which containers use an image.

use ketch_spec::Digest;
use ketch_spec::image::Descriptor;

use super::variant::ids_of;
use crate::container::{self, Container, Status};
use crate::{Engine, Result};

/// The containers made from the image that a record means, of whatever platform, hidden ones left out.
pub(super) fn containers_of(engine: &Engine, target: &Descriptor) -> Result<Vec<Container>> {
    let ids = ids_of(engine, target)?;
    let mut containers = container::list(engine)?;
    containers.retain(|container| uses(container, &ids));
    Ok(containers)
}

/// Whether the container was made from one of the images with these ids.
pub(super) fn uses(container: &Container, ids: &[Digest]) -> bool {
    let image = container.config.image.id.as_ref();
    image.is_some_and(|image| ids.contains(image))
}

/// Whether the container has processes, in Docker's sense: a paused or restarting one counts.
pub(super) fn is_running(container: &Container) -> bool {
    matches!(
        container.state.status,
        Status::Running | Status::Paused | Status::Restarting
    )
}
