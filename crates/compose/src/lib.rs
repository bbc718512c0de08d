//! Compose: files to a project, a project and what exists to a plan, a plan to engine calls.
//!
//! - [`load`] reads files into a [`Project`]; every mistake has its file, line and column.
//! - [`plan_up`] and [`plan_down`] compare a project with what [`observe`] saw and make a [`Plan`], a value that calls
//!   nothing and can be printed.
//! - [`execute`] carries a plan out, operations side by side where they may be.
//!
//! Labels, names and rules are Docker Compose's, so that either program can look after a project of the other.

mod config;
mod dotenv;
mod error;
mod execute;
mod interpolate;
mod load;
mod merge;
mod model;
mod node;
mod normalise;
mod plan;
mod reader;
mod request;

pub use error::{LoadError, Position};
pub use execute::{
    ComposeObserver, ImageOptions, MAX_PARALLEL, PullMode, attached_name, containers, ensure_images, execute, observe,
};
pub use load::{LoadOptions, load};
pub use model::{Attachment, Build, Condition, Dependency, Network, Project, PullPolicy, Service, Volume};
pub use plan::{
    Action, DownOptions, Observed, ObservedContainer, Operation, Plan, PlanError, RemoveImages, Target, UpOptions,
    plan_down, plan_up, selection,
};
pub use request::{
    CONFIG_HASH, IMAGE, NETWORK, NUMBER, ONE_OFF, PROJECT, SERVICE, VOLUME, config_hash, container_name, create_request,
};
