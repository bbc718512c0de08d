//! `ketch compose down`.

use ketch_compose::{DownOptions, RemoveImages, observe, plan_down};

use crate::command::{Arity, Command, Outcome, Verb, integer};
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::output;

use super::containers::check_services;
use super::globals::is_on;
use super::observed::{carry_out, options};
use super::progress::Progress;
use super::project;

/// The command.
pub const COMMAND: Command = Command {
    names: &["compose down"],
    usage: "[OPTIONS] [SERVICES]",
    about: "Stop and remove containers, networks",
    arity: Arity::AtLeast(0),
    ..Command::of::<Args>()
};

#[derive(clap::Args)]
struct Args {
    /// Remove containers for services not defined in the Compose file
    #[arg(long)]
    remove_orphans: bool,
    /// Remove images used by services. "local" remove only images that don't have a custom tag ("local"|"all")
    #[arg(long, value_name = "string")]
    rmi: Option<String>,
    /// Specify a shutdown timeout in seconds
    #[arg(short, long, value_name = "int", value_parser = integer)]
    timeout: Option<i64>,
    /// Remove named volumes declared in the "volumes" section of the Compose file and anonymous volumes attached to containers
    #[arg(short, long)]
    volumes: bool,
}

impl Verb for Args {
    fn run(self, context: &Context, services: Vec<String>) -> Outcome {
        let project = project::load_all(context)?;
        check_services(&project, &services)?;
        let images = match self.rmi.as_deref() {
            None | Some("") => RemoveImages::None,
            Some("local") => RemoveImages::Local,
            Some("all") => RemoveImages::All,
            Some(other) => {
                return Err(Failure::usage(format!(
                    "invalid value for --rmi: {other:?}; use local or all"
                )));
            }
        };
        let wanted: Vec<String> = match images {
            RemoveImages::None => Vec::new(),
            _ => project.services.keys().cloned().collect(),
        };
        let observed = observe(context.engine()?, &project, &wanted)?;
        let down = DownOptions {
            services,
            volumes: self.volumes,
            remove_orphans: self.remove_orphans || is_on("COMPOSE_REMOVE_ORPHANS"),
            timeout_s: self.timeout,
            images,
        };
        let plan = plan_down(&project, &observed, &down);
        if plan.is_empty() {
            output::warn(&format!(
                "Warning: No resource found to remove for project {:?}.",
                project.name
            ));
        }
        let progress = Progress::new(context)?;
        carry_out(context, &project, &plan, &options(context), &progress)?;
        Ok(Exit::SUCCESS)
    }
}
