//! `ketch diff`.

use ketch_engine::container::{self, ChangeKind};

use crate::command::{Arity, Command, Outcome, Verb};
use crate::context::Context;
use crate::failure::Exit;
use crate::output;

/// The command.
pub const COMMAND: Command = Command {
    names: &["container diff", "diff"],
    usage: "CONTAINER",
    about: "Inspect changes to files or directories on a container's filesystem",
    arity: Arity::Exactly(1),
    ..Command::of::<Args>()
};

#[derive(clap::Args)]
struct Args {}

impl Verb for Args {
    fn run(self, context: &Context, operands: Vec<String>) -> Outcome {
        let changes = container::diff(context.engine()?, &operands[0])?;
        let lines = changes.iter().map(|change| {
            let letter = match change.kind {
                ChangeKind::Modified => 'C',
                ChangeKind::Added => 'A',
                ChangeKind::Deleted => 'D',
            };
            format!("{letter} {}\n", change.path)
        });
        output::print(&lines.collect::<String>())?;
        Ok(Exit::SUCCESS)
    }
}
