//! `ketch compose rm`.

use ketch_compose::{ObservedContainer, observe_containers, plan_remove};

use crate::command::{Arity, Command, Outcome, Verb};
use crate::context::Context;
use crate::failure::Exit;
use crate::{output, prompt};

use super::containers::check_services;
use super::observed::{carry_out, options};
use super::progress::Progress;
use super::project;

/// The command.
pub const COMMAND: Command = Command {
    names: &["compose rm"],
    usage: "[OPTIONS] [SERVICE...]",
    about: "Removes stopped service containers",
    arity: Arity::AtLeast(0),
    ..Command::of::<Args>()
};

#[derive(clap::Args)]
struct Args {
    /// Don't ask to confirm removal
    #[arg(short, long)]
    force: bool,
    /// Stop the containers, if required, before removing
    #[arg(short, long)]
    stop: bool,
    /// Remove any anonymous volumes attached to containers
    #[arg(short, long)]
    volumes: bool,
}

impl Verb for Args {
    fn run(self, context: &Context, services: Vec<String>) -> Outcome {
        let project = project::load_or_name(context, &services)?;
        check_services(&project, &services)?;
        let observed = observe_containers(context.engine()?, &project.name)?;
        let plan = plan_remove(&observed, &services, self.stop, self.volumes);
        if plan.is_empty() {
            output::warn("No stopped containers");
            return Ok(Exit::SUCCESS);
        }
        if !self.force && !context.compose().dry_run {
            let going = |container: &&ObservedContainer| {
                let named = services.is_empty() || services.contains(&container.service);
                named && (self.stop || !container.running)
            };
            let names: Vec<&str> = observed
                .containers
                .iter()
                .filter(going)
                .map(|container| container.name.as_str())
                .collect();
            if !prompt::confirm(&format!("Going to remove {}", names.join(", ")))? {
                return Ok(Exit::SUCCESS);
            }
        }
        let progress = Progress::new(context)?;
        carry_out(context, &project, &plan, &options(context), &progress)?;
        Ok(Exit::SUCCESS)
    }
}
