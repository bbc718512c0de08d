//! Compose: files to a project, a project and what exists to a plan, a plan to engine calls.
mod error;
mod node;
mod interpolate;
mod dotenv;
mod merge;
pub use error::{LoadError, Position};
