//! What is there, as far as planning wants to know.

use std::collections::{BTreeMap, BTreeSet};

/// What exists of a project.
#[derive(Debug, Clone, Default)]
pub struct Observed {
    /// Its containers.
    pub containers: Vec<ObservedContainer>,
    /// Names of all networks.
    pub networks: BTreeSet<String>,
    /// Names of networks that carry the project's label.
    pub own_networks: BTreeSet<String>,
    /// Names of all volumes.
    pub volumes: BTreeSet<String>,
    /// Names of volumes that carry the project's label.
    pub own_volumes: BTreeSet<String>,
    /// Image ids by the reference that services use; those that are not here are left out.
    pub images: BTreeMap<String, String>,
}

/// One container.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ObservedContainer {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its service.
    pub service: String,
    /// Its number.
    pub number: u32,
    /// Made by `run`.
    pub one_off: bool,
    /// The hash of what it was made from.
    pub config_hash: String,
    /// The image it runs.
    pub image_id: String,
    /// It runs, is paused or restarts.
    pub running: bool,
    /// It is paused.
    pub paused: bool,
    /// Services it depends on, from its label.
    pub depends_on: Vec<String>,
    /// Anonymous volumes, target to name.
    pub anonymous: BTreeMap<String, String>,
}
