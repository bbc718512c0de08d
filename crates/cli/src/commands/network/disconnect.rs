//! `ketch network disconnect`.

use ketch_engine::network;

use crate::command::{Arity, Command, Outcome, Verb};
use crate::context::Context;
use crate::failure::Exit;

/// The command.
pub const COMMAND: Command = Command {
    names: &["network disconnect"],
    usage: "[OPTIONS] NETWORK CONTAINER",
    about: "Disconnect a container from a network",
    arity: Arity::Exactly(2),
    ..Command::of::<Args>()
};

#[derive(clap::Args)]
struct Args {
    /// Force the container to disconnect from a network
    #[arg(short, long)]
    force: bool,
}

impl Verb for Args {
    fn run(self, context: &Context, operands: Vec<String>) -> Outcome {
        network::disconnect(context.engine()?, &operands[0], &operands[1], self.force)?;
        Ok(Exit::SUCCESS)
    }
}
