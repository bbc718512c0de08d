//! `pause` and `resume`.

use ketch_runtime::oci::{self, Id};

use super::{Context, Outcome};

/// Freeze all processes of a container
#[derive(clap::Args)]
pub struct Pause {
    /// Id of the container
    id: String,
}

/// Let a paused container go on
#[derive(clap::Args)]
pub struct Resume {
    /// Id of the container
    id: String,
}

impl Pause {
    /// Does it.
    pub fn run(self, context: &Context) -> Outcome {
        oci::pause(&context.root, &Id::new(&self.id)?)?;
        Ok(0)
    }
}

impl Resume {
    /// Does it.
    pub fn run(self, context: &Context) -> Outcome {
        oci::resume(&context.root, &Id::new(&self.id)?)?;
        Ok(0)
    }
}
