//! `ketch compose stop`.

use ketch_compose::Lifecycle;

use crate::command::{Arity, Command, Outcome, Verb, integer};
use crate::context::Context;

/// The command.
pub const COMMAND: Command = Command {
    names: &["compose stop"],
    usage: "[OPTIONS] [SERVICE...]",
    about: "Stop services",
    arity: Arity::AtLeast(0),
    ..Command::of::<Args>()
};

#[derive(clap::Args)]
struct Args {
    /// Specify a shutdown timeout in seconds
    #[arg(short, long, value_name = "int", value_parser = integer)]
    timeout: Option<i64>,
}

impl Verb for Args {
    fn run(self, context: &Context, services: Vec<String>) -> Outcome {
        let timeout_s = self.timeout;
        super::observed::only_change(context, &services, Lifecycle::Stop { timeout_s })
    }
}
