//! What to do, as a value: a graph of operations, each one engine verb with its reason. Planning calls nothing; it
//! compares a project with what was observed. The executor has no opinions.

use std::collections::BTreeSet;
use std::fmt;

mod action;
mod down;
mod images;
mod lifecycle;
mod observed;
mod selection;
mod up;

pub use action::{Action, Target};
pub use down::{DownOptions, RemoveImages, plan_down};
pub use images::{ImageOptions, PullMode, plan_builds, plan_images, plan_pulls};
pub use lifecycle::{Lifecycle, plan_lifecycle, plan_remove};
pub use observed::{Observed, ObservedContainer};
pub use selection::selection;
pub use up::{UpOptions, plan_up};

/// Operations and their order.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Plan {
    /// Each may begin when those it names in `after` have ended; they come before it in the list.
    pub operations: Vec<Operation>,
}

/// One engine verb.
#[derive(Debug, Clone, PartialEq)]
pub struct Operation {
    /// Which.
    pub action: Action,
    /// Operations that must have ended, by their place in the plan.
    pub after: BTreeSet<usize>,
    /// Why.
    pub reason: String,
}

/// A project that cannot be had as it is.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// A service that the command names is not in the project.
    #[error("no such service: {0}")]
    NoSuchService(String),
    /// An external network is not there.
    #[error("network {0} declared as external, but could not be found")]
    ExternalNetwork(String),
    /// An external volume is not there.
    #[error("external volume {0:?} not found")]
    ExternalVolume(String),
    /// A fixed name and more than one container.
    #[error("service {0:?} has a container_name and can only have one container")]
    FixedName(String),
    /// An image that is not here, and may be neither built nor pulled.
    #[error("No such image: {image} (service {service} may neither pull nor build it)")]
    NoImage {
        /// Which service.
        service: String,
        /// The image.
        image: String,
    },
}

impl Plan {
    /// Appends an operation and returns its place.
    fn push(
        &mut self,
        action: Action,
        after: impl IntoIterator<Item = usize>,
        reason: impl Into<String>,
    ) -> usize {
        self.operations.push(Operation {
            action,
            after: after.into_iter().collect(),
            reason: reason.into(),
        });
        self.operations.len() - 1
    }

    /// Whether something happens to the container with this id.
    pub fn touches(&self, id: &str) -> bool {
        let is_it =
            |target: &Target| matches!(target, Target::Existing { id: own, .. } if own == id);
        self.operations
            .iter()
            .any(|operation| match &operation.action {
                Action::Start(target) | Action::Pause(target) | Action::Unpause(target) => {
                    is_it(target)
                }
                Action::Stop { target, .. }
                | Action::Restart { target, .. }
                | Action::Kill { target, .. }
                | Action::Remove { target, .. }
                | Action::Rename { target, .. } => is_it(target),
                _ => false,
            })
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.operations.is_empty()
    }
}

impl fmt::Display for Plan {
    /// One line an operation, with its reason: what `--dry-run` prints.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for operation in &self.operations {
            writeln!(f, "{} ({})", operation.action, operation.reason)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
