//! `ketch restart`.

use ketch_engine::container;

use super::stop::StopFlags;
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
    #[command(flatten)]
    stop: StopFlags,
}

impl Verb for Args {
    fn run(self, context: &Context, operands: Vec<String>) -> Outcome {
        let options = self.stop.options()?;
        super::each(context, &operands, |engine, name| {
            container::restart(engine, name, options)
        })
    }
}
