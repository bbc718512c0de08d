//! The operations that plans are made of.

use std::collections::BTreeMap;
use std::fmt;

use crate::model::Condition;

/// The verbs of plans.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Pull the image of a service.
    Pull(String),
    /// Build the image of a service.
    Build(String),
    /// Pull the image of a service that can also be built, and build it if that fails.
    PullOrBuild(String),
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
        /// Name and id of the one whose place it takes.
        replaces: Option<(String, String)>,
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
        condition: Condition,
        /// Whether in vain is a failure.
        required: bool,
    },
    /// Stop it.
    Stop {
        /// Which.
        target: Target,
        /// Seconds until SIGKILL; None leaves it to the container.
        timeout_s: Option<i64>,
    },
    /// Stop it, if it runs, and start it.
    Restart {
        /// Which.
        target: Target,
        /// Seconds until SIGKILL; None leaves it to the container.
        timeout_s: Option<i64>,
    },
    /// Send it a signal.
    Kill {
        /// Which.
        target: Target,
        /// The signal's number.
        signal: i32,
    },
    /// Freeze its processes.
    Pause(Target),
    /// Let them go on.
    Unpause(Target),
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

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pull(service) => write!(f, "pull image of {service}"),
            Self::Build(service) => write!(f, "build image of {service}"),
            Self::PullOrBuild(service) => write!(f, "pull or build image of {service}"),
            Self::CreateNetwork(key) => write!(f, "create network {key}"),
            Self::CreateVolume(key) => write!(f, "create volume {key}"),
            Self::Create { name, .. } => write!(f, "create container {name}"),
            Self::Start(target) => write!(f, "start container {}", target.name()),
            Self::Wait {
                service, condition, ..
            } => {
                let what = match condition {
                    Condition::Started => "runs",
                    Condition::Healthy => "is healthy",
                    Condition::Completed => "has ended well",
                };
                write!(f, "wait until {service} {what}")
            }
            Self::Stop { target, .. } => write!(f, "stop container {}", target.name()),
            Self::Restart { target, .. } => write!(f, "restart container {}", target.name()),
            Self::Kill { target, signal } => {
                write!(f, "kill container {} with signal {signal}", target.name())
            }
            Self::Pause(target) => write!(f, "pause container {}", target.name()),
            Self::Unpause(target) => write!(f, "unpause container {}", target.name()),
            Self::Remove { target, .. } => write!(f, "remove container {}", target.name()),
            Self::Rename { target, name } => {
                write!(f, "rename container {} to {name}", target.name())
            }
            Self::RemoveNetwork(name) => write!(f, "remove network {name}"),
            Self::RemoveVolume(name) => write!(f, "remove volume {name}"),
            Self::RemoveImage(name) => write!(f, "remove image {name}"),
        }
    }
}
