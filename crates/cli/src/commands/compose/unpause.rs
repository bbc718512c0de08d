//! `ketch compose unpause`.

use ketch_compose::Lifecycle;

use crate::command::{Arity, Command, Outcome, Verb};
use crate::context::Context;

/// The command.
pub const COMMAND: Command = Command {
    names: &["compose unpause"],
    usage: "[SERVICE...]",
    about: "Unpause services",
    arity: Arity::AtLeast(0),
    ..Command::of::<Args>()
};

#[derive(clap::Args)]
struct Args {}

impl Verb for Args {
    fn run(self, context: &Context, services: Vec<String>) -> Outcome {
        super::observed::only_change(context, &services, Lifecycle::Unpause)
    }
}
