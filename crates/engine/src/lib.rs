//! The engine: images, containers, volumes and networks, and the verbs on them.
//!
//! One file a verb: `container::stop` is `container/stop.rs`. State is files under the data root and the run root
//! ([`paths`] is the only code that joins their names); readers take no lock, writers follow the owner-lock rule
//! ([`lock`]). The engine never prints, never reads the environment and never assumes it is root. It does not clone:
//! a container's processes are made by its monitor, which the engine starts by executing [`EngineOptions::executable`].

use std::path::PathBuf;

pub mod container;
pub mod error;
pub mod event;
pub mod image;
pub mod layer;
pub mod lock;
pub mod names;
pub mod network;
pub mod paths;
pub mod record;
pub mod volume;

pub use error::{Error, ErrorKind, Result};
pub use paths::Paths;

/// What the caller decides for a whole engine.
#[derive(Debug, Clone)]
pub struct EngineOptions {
    /// Persistent state (`/var/lib/ketch`).
    pub data_root: PathBuf,
    /// State that is gone at boot (`/run/ketch`).
    pub run_root: PathBuf,
    /// The program to execute as a monitor: ourselves.
    pub executable: PathBuf,
    /// Where registry credentials are (`~/.docker/config.json`), if anywhere.
    pub registry_config: Option<PathBuf>,
}

/// A handle on the state: cheap to make, to clone and to share between threads; holds no lock.
#[derive(Debug, Clone)]
pub struct Engine {
    options: EngineOptions,
    paths: Paths,
}
