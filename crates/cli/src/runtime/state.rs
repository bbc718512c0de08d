//! `state`, and how states are written.

use std::collections::BTreeMap;
use std::path::PathBuf;

use jiff::Timestamp;
use ketch_runtime::Status;
use ketch_runtime::oci::{self, FullState, Id};
use serde::Serialize;

use super::{Context, Outcome, print_json};

/// Print the state of a container
#[derive(clap::Args)]
pub struct State {
    /// Id of the container
    id: String,
}

/// A state as runc writes it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Rendered {
    oci_version: String,
    pub id: String,
    pub pid: u32,
    pub status: Status,
    pub bundle: PathBuf,
    rootfs: PathBuf,
    pub created: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, String>,
    pub owner: String,
}

impl Rendered {
    /// From the runtime's own.
    pub fn new(full: FullState) -> Self {
        let state = full.state;
        let created = Timestamp::from_nanosecond(full.created_ns.into());
        Self {
            oci_version: state.oci_version,
            id: state.id,
            pid: state.pid,
            status: state.status,
            bundle: state.bundle,
            rootfs: full.rootfs,
            created: created.map_or_else(|_| String::new(), |time| time.to_string()),
            annotations: state.annotations,
            owner: owner_name(full.owner),
        }
    }
}

/// The user's name, where it is known; empty else, as runc has it for `state`.
fn owner_name(uid: u32) -> String {
    if uid == 0 {
        "root".into()
    } else {
        String::new()
    }
}

impl State {
    /// Does it.
    pub fn run(self, context: &Context) -> Outcome {
        let state = oci::state(&context.root, &Id::new(&self.id)?)?;
        print_json(&Rendered::new(state))
    }
}
