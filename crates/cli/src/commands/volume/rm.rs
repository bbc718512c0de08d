//! `ketch volume rm`.

use ketch_engine::volume;

use crate::command::{Arity, Command, Outcome, Verb};
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::{output, report};

/// The command.
pub const COMMAND: Command = Command {
    names: &["volume rm", "volume remove"],
    usage: "[OPTIONS] VOLUME [VOLUME...]",
    about: "Remove one or more volumes",
    arity: Arity::AtLeast(1),
    ..Command::of::<Args>()
};

#[derive(clap::Args)]
struct Args {
    /// Force the removal of one or more volumes
    #[arg(short, long)]
    force: bool,
}

impl Verb for Args {
    fn run(self, context: &Context, operands: Vec<String>) -> Outcome {
        let engine = context.engine()?;
        let mut told = Exit::SUCCESS;
        for name in &operands {
            match volume::remove(engine, name, self.force) {
                Ok(()) => output::print_line(name)?,
                Err(error) => {
                    report::item(&Failure::Engine(error), context.options().debug);
                    told = Exit::FAILURE;
                }
            }
        }
        Ok(told)
    }
}
