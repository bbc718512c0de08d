//! `events`.

use super::failure::Failure;
use super::{Context, Outcome};

/// Print what a container uses
#[derive(clap::Args)]
pub struct Events {
    /// Print it once
    #[arg(long)]
    stats: bool,
    /// Id of the container
    id: String,
}

impl Events {
    /// Does it.
    pub fn run(self, context: &Context) -> Outcome {
        if !self.stats {
            return Err(Failure::refused("events", ""));
        }
        let id = ketch_runtime::oci::Id::new(&self.id)?;
        ketch_runtime::oci::stats(&context.root, &id)?;
        Ok(0)
    }
}
