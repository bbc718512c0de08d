//! `delete`.

use ketch_runtime::oci::{self, Id};

use super::{Context, Outcome};

/// Remove a container and what was made for it
#[derive(clap::Args)]
pub struct Delete {
    /// Kill it if it runs; one that is not there is no error
    #[arg(short, long)]
    force: bool,
    /// Id of the container
    id: String,
}

impl Delete {
    /// Does it.
    pub fn run(self, context: &Context) -> Outcome {
        let warnings = oci::delete(&context.root, &Id::new(&self.id)?, self.force)?;
        warnings
            .iter()
            .for_each(|warning| context.log.warn(warning));
        Ok(0)
    }
}
