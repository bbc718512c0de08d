//! `ketch compose kill`.

use ketch_compose::{Lifecycle, observe_containers, plan_lifecycle};

use crate::command::{Arity, Command, Outcome, Refused, Verb};
use crate::commands::container::signal;
use crate::context::Context;
use crate::failure::{Exit, Failure};

use super::containers::check_services;
use super::observed::{carry_out, options};
use super::progress::Progress;
use super::project;

/// The command.
pub const COMMAND: Command = Command {
    names: &["compose kill"],
    usage: "[OPTIONS] [SERVICE...]",
    about: "Force stop service containers",
    arity: Arity::AtLeast(0),
    refused: &[Refused::boolean("remove-orphans")],
    ..Command::of::<Args>()
};

#[derive(clap::Args)]
struct Args {
    /// SIGNAL to send to the container
    #[arg(short, long, value_name = "string", default_value = "SIGKILL")]
    signal: String,
}

impl Verb for Args {
    fn run(self, context: &Context, services: Vec<String>) -> Outcome {
        let signal = signal(&self.signal)?;
        let project = project::load_or_name(context, &services)?;
        check_services(&project, &services)?;
        let observed = observe_containers(context.engine()?, &project.name)?;
        let plan = plan_lifecycle(&project, &observed, &services, Lifecycle::Kill { signal });
        if plan.is_empty() {
            return Err(Failure::usage("no container to kill"));
        }
        let progress = Progress::new(context)?;
        carry_out(context, &project, &plan, &options(context), &progress)?;
        Ok(Exit::SUCCESS)
    }
}
