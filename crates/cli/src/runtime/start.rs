//! `start`.

use ketch_runtime::oci::{self, Id};

use super::{Context, Outcome};

/// Let a created container run its program
#[derive(clap::Args)]
pub struct Start {
    /// Id of the container
    id: String,
}

impl Start {
    /// Does it.
    pub fn run(self, context: &Context) -> Outcome {
        let warnings = oci::start(&context.root, &Id::new(&self.id)?)?;
        warnings
            .iter()
            .for_each(|warning| context.log.warn(warning));
        Ok(0)
    }
}
