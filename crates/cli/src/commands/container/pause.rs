//! `ketch pause`.

use ketch_engine::container;

use crate::command::{Arity, Command, Outcome, Verb};
use crate::context::Context;

/// The command.
pub const COMMAND: Command = Command {
    names: &["container pause", "pause"],
    usage: "CONTAINER [CONTAINER...]",
    about: "Pause all processes within one or more containers",
    arity: Arity::AtLeast(1),
    ..Command::of::<Args>()
};

#[derive(clap::Args)]
struct Args {}

impl Verb for Args {
    fn run(self, context: &Context, operands: Vec<String>) -> Outcome {
        super::each(context, &operands, |engine, name| {
            container::pause(engine, name).map(drop)
        })
    }
}
