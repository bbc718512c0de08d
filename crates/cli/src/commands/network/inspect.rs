//! `ketch network inspect`.

use ketch_engine::network;

use crate::command::{Arity, Command, Outcome, Verb};
use crate::commands::system::inspect;
use crate::context::Context;

/// The command.
pub const COMMAND: Command = Command {
    names: &["network inspect"],
    usage: "[OPTIONS] NETWORK [NETWORK...]",
    about: "Display detailed information on one or more networks",
    arity: Arity::AtLeast(1),
    ..Command::of::<Args>()
};

#[derive(clap::Args)]
struct Args {
    /// Format output: 'json' or a Go template
    #[arg(short, long, value_name = "string", default_value = "")]
    format: String,
    /// Verbose output for diagnostics (there is no more to tell about a local network)
    #[arg(short, long)]
    verbose: bool,
}

impl Verb for Args {
    fn run(self, context: &Context, operands: Vec<String>) -> Outcome {
        let _ = self.verbose;
        inspect::print(context, &self.format, &operands, network::inspect)
    }
}
