//! What to do, as a value: a graph of operations, each one engine verb with its reason. Planning calls nothing; it compares
//! a project with what was observed. The executor has no opinions.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

mod down;
mod observed;
mod up;

pub use down::{DownOptions, RemoveImages, plan_down};
pub use observed::{Observed, ObservedContainer};
pub use up::{UpOptions, plan_up, selection};

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

/// The verbs of plans.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Make a network of the project, by key.
    CreateNetwork(String),
    /// Make a volume of the project, by key.
    CreateVolume(String),
    /// Make a container.
    Create {
        /// Of which service.
        service: String,
        /// Its number.
        number: u32,
        /// Its name: a temporary one while its predecessor still has the right one.
        name: String,
        /// Anonymous volumes taken over, target to name.
        carry: BTreeMap<String, String>,
    },
    /// Start it.
    Start(Target),
    /// Wait until a service's containers are healthy, or have ended well.
    Wait {
        /// Which service.
        service: String,
        /// For what.
        condition: crate::model::Condition,
    },
    /// Stop it.
    Stop {
        /// Which.
        target: Target,
        /// Seconds until SIGKILL; None leaves it to the container.
        timeout_s: Option<i64>,
    },
    /// Remove it.
    Remove {
        /// Which.
        target: Target,
        /// Its anonymous volumes too.
        volumes: bool,
    },
    /// Give it its right name.
    Rename {
        /// Which.
        target: Target,
        /// The name.
        name: String,
    },
    /// Remove a network by name.
    RemoveNetwork(String),
    /// Remove a volume by name.
    RemoveVolume(String),
    /// Remove an image by reference.
    RemoveImage(String),
}

/// A container that is there, or that this plan makes.
#[derive(Debug, Clone, PartialEq)]
pub enum Target {
    /// It is there.
    Existing {
        /// Its id.
        id: String,
        /// Its name.
        name: String,
    },
    /// The plan makes it.
    New {
        /// Of which service.
        service: String,
        /// Its number.
        number: u32,
        /// The name it will have.
        name: String,
    },
}

impl Target {
    /// The name to show.
    pub fn name(&self) -> &str {
        match self {
            Self::Existing { name, .. } | Self::New { name, .. } => name,
        }
    }
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
}

impl Plan {
    /// Appends an operation and returns its place.
    fn push(&mut self, action: Action, after: impl IntoIterator<Item = usize>, reason: impl Into<String>) -> usize {
        self.operations.push(Operation { action, after: after.into_iter().collect(), reason: reason.into() });
        self.operations.len() - 1
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CreateNetwork(key) => write!(f, "create network {key}"),
            Self::CreateVolume(key) => write!(f, "create volume {key}"),
            Self::Create { name, .. } => write!(f, "create container {name}"),
            Self::Start(target) => write!(f, "start container {}", target.name()),
            Self::Wait { service, condition } => {
                let what = match condition {
                    crate::model::Condition::Started => "runs",
                    crate::model::Condition::Healthy => "is healthy",
                    crate::model::Condition::Completed => "has ended well",
                };
                write!(f, "wait until {service} {what}")
            }
            Self::Stop { target, .. } => write!(f, "stop container {}", target.name()),
            Self::Remove { target, .. } => write!(f, "remove container {}", target.name()),
            Self::Rename { target, name } => write!(f, "rename container {} to {name}", target.name()),
            Self::RemoveNetwork(name) => write!(f, "remove network {name}"),
            Self::RemoveVolume(name) => write!(f, "remove volume {name}"),
            Self::RemoveImage(name) => write!(f, "remove image {name}"),
        }
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
