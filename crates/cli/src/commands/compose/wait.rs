//! `ketch compose wait`: until the first of services ends.

use std::sync::mpsc;

use ketch_compose::{DownOptions, observe, plan_down};
use ketch_engine::container::{self, WaitCondition};

use crate::command::{Arity, Command, Outcome, Verb};
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::output;

use super::containers::{self, Scope};
use super::observed::{carry_out, options};
use super::progress::Progress;
use super::project;

/// The command.
pub const COMMAND: Command = Command {
    names: &["compose wait"],
    usage: "SERVICE [SERVICE...] [OPTIONS]",
    about: "Block until containers of all (or specified) services stop",
    arity: Arity::AtLeast(1),
    ..Command::of::<Args>()
};

#[derive(clap::Args)]
struct Args {
    /// Drops project when the first container stops
    #[arg(long)]
    down_project: bool,
}

impl Verb for Args {
    fn run(self, context: &Context, services: Vec<String>) -> Outcome {
        let project = project::load_or_name(context, &services)?;
        let scope = Scope {
            stopped: true,
            ..Scope::default()
        };
        let members = containers::members(context, &project, &services, scope)?;
        if members.is_empty() {
            return Err(Failure::usage("no containers for project"));
        }
        let engine = context.engine()?;
        let mut last = Exit::SUCCESS;
        let (sender, receiver) = mpsc::channel();
        for member in members {
            let (engine, sender) = (engine.clone(), sender.clone());
            // Not joined: with --down-project the first end is enough.
            std::thread::spawn(move || {
                let id = member.container.config.id.as_str();
                let ended = container::wait(&engine, id, WaitCondition::NotRunning);
                let _ = sender.send((member.container.config.name, ended));
            });
        }
        drop(sender);
        for (name, ended) in receiver {
            let code = ended?.code;
            output::print_line(&format!(
                "container {name:?} exited with status code {code}"
            ))?;
            last = Exit::from_code(code);
            if self.down_project {
                break;
            }
        }
        if self.down_project {
            let observed = observe(engine, &project, &[])?;
            let plan = plan_down(&project, &observed, &DownOptions::default());
            let progress = Progress::new(context)?;
            carry_out(context, &project, &plan, &options(context), &progress)?;
        }
        Ok(last)
    }
}
