//! `ketch compose restart`.

use ketch_compose::{Lifecycle, Project};

use crate::command::{Arity, Command, Outcome, Verb, integer};
use crate::context::Context;
use crate::failure::Exit;

use super::{observed, project};

/// The command.
pub const COMMAND: Command = Command {
    names: &["compose restart"],
    usage: "[OPTIONS] [SERVICE...]",
    about: "Restart service containers",
    arity: Arity::AtLeast(0),
    ..Command::of::<Args>()
};

#[derive(clap::Args)]
struct Args {
    /// Don't restart dependent services
    #[arg(long)]
    no_deps: bool,
    /// Specify a shutdown timeout in seconds
    #[arg(short, long, value_name = "int", value_parser = integer)]
    timeout: Option<i64>,
}

impl Verb for Args {
    fn run(self, context: &Context, mut services: Vec<String>) -> Outcome {
        let project = project::load_or_name(context, &services)?;
        if !self.no_deps && !services.is_empty() {
            add_dependents(&project, &mut services);
        }
        let timeout_s = self.timeout;
        let what = Lifecycle::Restart { timeout_s };
        observed::change(context, &project, &services, what)?;
        Ok(Exit::SUCCESS)
    }
}

/// Adds the services that say `restart: true` of one that is restarted, and theirs.
fn add_dependents(project: &Project, services: &mut Vec<String>) {
    let mut at = 0;
    while let Some(name) = services.get(at).cloned() {
        for (other, service) in &project.services {
            let restarts = service
                .depends_on
                .get(&name)
                .is_some_and(|dependency| dependency.restart);
            if restarts && !services.contains(other) {
                services.push(other.clone());
            }
        }
        at += 1;
    }
}
