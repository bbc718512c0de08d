//! `kill`.

use ketch_runtime::oci::{self, Id};

use super::failure::Failure;
use super::{Context, Outcome};

/// Send a signal to a container's first process
#[derive(clap::Args)]
pub struct Kill {
    /// Send it to all processes of the container
    #[arg(short, long)]
    all: bool,
    /// Id of the container
    id: String,
    /// Name or number of the signal
    #[arg(default_value = "SIGTERM")]
    signal: String,
}

impl Kill {
    /// Does it.
    pub fn run(self, context: &Context) -> Outcome {
        let signal = match self.signal.as_str() {
            // None is sent: whether one could be.
            "0" => 0,
            text => ketch_spec::signal::parse(text).map_err(|_| Failure::Invalid {
                what: "signal",
                value: text.into(),
                reason: "no signal has that name or number".into(),
            })?,
        };
        oci::kill(&context.root, &Id::new(&self.id)?, signal, self.all)?;
        Ok(0)
    }
}
