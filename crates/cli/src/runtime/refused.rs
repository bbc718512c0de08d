//! Verbs of runc that this runtime does not have.

use super::Outcome;
use super::failure::Failure;

/// Not supported
#[derive(clap::Args)]
pub struct Checkpoint {
    /// Whatever is given
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    rest: Vec<String>,
}

/// Not supported
#[derive(clap::Args)]
pub struct Restore {
    /// Whatever is given
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    rest: Vec<String>,
}

const REASON: &str = "CRIU is not used";

impl Checkpoint {
    /// Refuses.
    pub fn run(self) -> Outcome {
        drop(self.rest);
        Err(Failure::refused("checkpoint", REASON))
    }
}

impl Restore {
    /// Refuses.
    pub fn run(self) -> Outcome {
        drop(self.rest);
        Err(Failure::refused("restore", REASON))
    }
}
