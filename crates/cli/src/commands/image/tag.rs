//! `ketch tag`.

use ketch_engine::image;

use crate::command::{Arity, Command, Outcome, Verb};
use crate::context::Context;
use crate::failure::Exit;

/// The command.
pub const COMMAND: Command = Command {
    names: &["image tag", "tag"],
    usage: "SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]",
    about: "Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE",
    arity: Arity::Exactly(2),
    ..Command::of::<Args>()
};

#[derive(clap::Args)]
struct Args {}

impl Verb for Args {
    fn run(self, context: &Context, operands: Vec<String>) -> Outcome {
        image::tag(context.engine()?, &operands[0], &operands[1])?;
        Ok(Exit::SUCCESS)
    }
}
