//! `features`.

use super::{Outcome, print_json};

/// Print what this runtime can do, as the specification's features structure
#[derive(clap::Args)]
pub struct Features {}

impl Features {
    /// Does it.
    pub fn run(self) -> Outcome {
        print_json(&ketch_runtime::oci::features())
    }
}
