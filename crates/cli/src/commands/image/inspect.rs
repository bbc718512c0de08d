//! `ketch image inspect`.

use ketch_engine::image;

use crate::command::{Arity, Command, Outcome, Refused, Verb};
use crate::commands::system::inspect;
use crate::context::Context;

/// The command.
pub const COMMAND: Command = Command {
    names: &["image inspect"],
    usage: "[OPTIONS] IMAGE [IMAGE...]",
    about: "Display detailed information on one or more images",
    arity: Arity::AtLeast(1),
    refused: &[Refused::value("platform")],
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
        inspect::print(context, &self.format, &operands, image::inspect)
    }
}
