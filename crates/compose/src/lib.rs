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
mod one_off;
mod plan;
mod reader;
mod request;
mod text_file;

pub use error::{LoadError, Position};
pub use execute::{
    BuildOptions, ComposeObserver, ExecuteOptions, MAX_PARALLEL, attached_name, containers,
    describe, execute, observe, observe_containers, observe_images,
};
pub use load::{LoadOptions, load};
pub use model::{
    Attachment, Build, Condition, Dependency, FileSource, Network, Project, PullPolicy, Service,
    Volume,
};
pub use normalise::REFUSED as REFUSED_SERVICE_KEYS;
pub use one_off::{OneOff, create_one_off};
pub use plan::{
    Action, DownOptions, ImageOptions, Lifecycle, Observed, ObservedContainer, Operation, Plan,
    PlanError, PullMode, RemoveImages, Target, UpOptions, plan_builds, plan_down, plan_images,
    plan_lifecycle, plan_pulls, plan_remove, plan_up, selection,
};
pub use reader::split_words;
pub use request::{
    CONFIG_HASH, IMAGE, NETWORK, NUMBER, ONE_OFF, PROJECT, SERVICE, VOLUME, config_hash,
    container_name,
};
