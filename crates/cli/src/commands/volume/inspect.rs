//! `ketch volume inspect`.

use ketch_engine::volume;

use crate::command::{Arity, Command, Outcome, Verb};
use crate::commands::system::inspect;
use crate::context::Context;

/// The command.
pub const COMMAND: Command = Command {
    names: &["volume inspect"],
    usage: "[OPTIONS] VOLUME [VOLUME...]",
    about: "Display detailed information on one or more volumes",
    arity: Arity::AtLeast(1),
    ..Command::of::<Args>()
};

#[derive(clap::Args)]
struct Args {
    /// Format output: 'json' or a Go template
    #[arg(short, long, value_name = "string", default_value = "")]
    format: String,
}

impl Verb for Args {
    fn run(self, context: &Context, operands: Vec<String>) -> Outcome {
        inspect::print(context, &self.format, &operands, volume::inspect)
    }
}
