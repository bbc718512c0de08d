//! `ketch wait`.

use ketch_engine::container::{self, WaitCondition};

use crate::command::{Arity, Command, Outcome, Verb};
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::{output, report};

/// The command.
pub const COMMAND: Command = Command {
    names: &["container wait", "wait"],
    usage: "CONTAINER [CONTAINER...]",
    about: "Block until one or more containers stop, then print their exit codes",
    arity: Arity::AtLeast(1),
    ..Command::of::<Args>()
};

#[derive(clap::Args)]
struct Args {}

impl Verb for Args {
    fn run(self, context: &Context, operands: Vec<String>) -> Outcome {
        let engine = context.engine()?;
        let mut told = Exit::SUCCESS;
        for name in &operands {
            match container::wait(engine, name, WaitCondition::NotRunning) {
                Ok(record) => output::print_line(&record.code.to_string())?,
                Err(error) => {
                    report::item(&Failure::Engine(error), context.options().debug);
                    told = Exit::FAILURE;
                }
            }
        }
        Ok(told)
    }
}
