//! `ketch stop`.

use ketch_engine::container::{self, StopOptions};

use crate::command::{Arity, Command, Outcome, Verb};
use crate::context::Context;
use crate::failure::Failure;

/// The command.
pub const COMMAND: Command = Command {
    names: &["container stop", "stop"],
    usage: "[OPTIONS] CONTAINER [CONTAINER...]",
    about: "Stop one or more running containers",
    arity: Arity::AtLeast(1),
    ..Command::of::<Args>()
};

/// How to stop; `restart` has the same flags.
#[derive(clap::Args)]
pub(super) struct StopFlags {
    /// Signal to send to the container
    #[arg(short, long, value_name = "string")]
    signal: Option<String>,
    /// Seconds to wait before killing the container
    #[arg(short, long, alias = "time", value_name = "int", value_parser = crate::command::integer)]
    timeout: Option<i64>,
}

impl StopFlags {
    /// The flags as the engine takes them.
    ///
    /// # Errors
    /// A signal that is none.
    pub(super) fn options(&self) -> Result<StopOptions, Failure> {
        let signal = match self.signal.as_deref() {
            None | Some("") => None,
            Some(text) => Some(super::signal(text)?),
        };
        Ok(StopOptions {
            signal,
            timeout_s: self.timeout,
        })
    }
}

#[derive(clap::Args)]
struct Args {
    #[command(flatten)]
    stop: StopFlags,
}

impl Verb for Args {
    fn run(self, context: &Context, operands: Vec<String>) -> Outcome {
        let options = self.stop.options()?;
        super::each(context, &operands, |engine, name| {
            container::stop(engine, name, options)
        })
    }
}
