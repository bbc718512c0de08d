//! `ketch restart`.

use ketch_engine::container::{self, StopOptions};

use crate::command::{Arity, Command, Outcome, Verb};
use crate::context::Context;

/// The command.
pub const COMMAND: Command = Command {
    names: &["container restart", "restart"],
    usage: "[OPTIONS] CONTAINER [CONTAINER...]",
    about: "Restart one or more containers",
    arity: Arity::AtLeast(1),
    ..Command::of::<Args>()
};

#[derive(clap::Args)]
struct Args {
    /// Signal to send to the container
    #[arg(short, long, value_name = "string")]
    signal: Option<String>,
    /// Seconds to wait before killing the container
    #[arg(short, long, alias = "time", value_name = "int", value_parser = crate::command::integer)]
    timeout: Option<i64>,
}

impl Verb for Args {
    fn run(self, context: &Context, operands: Vec<String>) -> Outcome {
        let signal = match self.signal.as_deref() {
            None | Some("") => None,
            Some(text) => Some(super::signal(text)?),
        };
        let timeout_s = self.timeout;
        super::each(context, &operands, |engine, name| {
            container::restart(engine, name, StopOptions { signal, timeout_s }).map(drop)
        })
    }
}
