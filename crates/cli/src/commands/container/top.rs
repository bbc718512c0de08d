//! `ketch top`.

use ketch_engine::container;

use crate::command::{Arity, Command, Outcome, Verb};
use crate::context::Context;
use crate::failure::Exit;
use crate::{output, table};

/// The command.
pub const COMMAND: Command = Command {
    names: &["container top", "top"],
    usage: "CONTAINER [ps OPTIONS]",
    about: "Display the running processes of a container",
    arity: Arity::AtLeast(1),
    interspersed: false,
    ..Command::of::<Args>()
};

#[derive(clap::Args)]
struct Args {}

impl Verb for Args {
    fn run(self, context: &Context, operands: Vec<String>) -> Outcome {
        let top = container::top(context.engine()?, &operands[0], &operands[1..])?;
        let mut text = top.titles.join("\t");
        text.push('\n');
        for process in &top.processes {
            text.push_str(&process.join("\t"));
            text.push('\n');
        }
        output::print(&table::align(&text, table::PROCESSES))?;
        Ok(Exit::SUCCESS)
    }
}
