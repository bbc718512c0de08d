//! Compose: files to a project, a project and what exists to a plan, a plan to engine calls.
mod config;
mod dotenv;
mod error;
mod interpolate;
mod load;
mod merge;
mod model;
mod node;
mod normalise;
mod reader;

pub use error::{LoadError, Position};
pub use load::{LoadOptions, load};
pub use model::{Attachment, Build, Condition, Dependency, Network, Project, PullPolicy, Service, Volume};
