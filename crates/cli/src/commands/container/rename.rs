//! `ketch rename`.

use ketch_engine::container;

use crate::command::{Arity, Command, Outcome, Verb};
use crate::context::Context;
use crate::failure::Exit;

/// The command.
pub const COMMAND: Command = Command {
    names: &["container rename", "rename"],
    usage: "CONTAINER NEW_NAME",
    about: "Rename a container",
    arity: Arity::Exactly(2),
    ..Command::of::<Args>()
};

#[derive(clap::Args)]
struct Args {}

impl Verb for Args {
    fn run(self, context: &Context, operands: Vec<String>) -> Outcome {
        container::rename(
            context.engine()?,
            &operands[0],
            operands[1].trim_start_matches('/'),
        )?;
        Ok(Exit::SUCCESS)
    }
}
