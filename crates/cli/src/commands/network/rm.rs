//! `ketch network rm`.

use ketch_engine::{ErrorKind, network};

use crate::command::{Arity, Command, Outcome, Verb};
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::{output, report};

/// The command.
pub const COMMAND: Command = Command {
    names: &["network rm", "network remove"],
    usage: "NETWORK [NETWORK...]",
    about: "Remove one or more networks",
    arity: Arity::AtLeast(1),
    ..Command::of::<Args>()
};

#[derive(clap::Args)]
struct Args {
    /// Do not error if the network does not exist
    #[arg(short, long)]
    force: bool,
}

impl Verb for Args {
    fn run(self, context: &Context, operands: Vec<String>) -> Outcome {
        let engine = context.engine()?;
        let mut failed = false;
        for name in &operands {
            match network::remove(engine, name) {
                Ok(()) => output::print_line(name)?,
                Err(error) if self.force && error.kind == ErrorKind::NotFound => {}
                Err(error) => {
                    report::item(&Failure::Engine(error), context.options().debug);
                    failed = true;
                }
            }
        }
        if failed {
            // Docker's client says so after the errors, and scripts cut it off.
            output::warn("exit status 1");
        }
        Ok(if failed { Exit::FAILURE } else { Exit::SUCCESS })
    }
}
