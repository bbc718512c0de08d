//! `ketch compose top`.

use ketch_engine::container;

use crate::command::{Arity, Command, Outcome, Verb};
use crate::context::Context;
use crate::failure::Exit;
use crate::{output, table};

use super::containers::{self, Scope};
use super::project;

/// The command.
pub const COMMAND: Command = Command {
    names: &["compose top"],
    usage: "[SERVICES...]",
    about: "Display the running processes",
    arity: Arity::AtLeast(0),
    ..Command::of::<Args>()
};

#[derive(clap::Args)]
struct Args {}

impl Verb for Args {
    fn run(self, context: &Context, services: Vec<String>) -> Outcome {
        let project = project::load_or_name(context, &services)?;
        let members = containers::members(context, &project, &services, Scope::default())?;
        let mut text = String::new();
        for member in members {
            let id = member.container.config.id.as_str();
            let top = container::top(context.engine()?, id, &[])?;
            if text.is_empty() {
                text = format!("SERVICE\t#\t{}\t\n", top.titles.join("\t"));
            }
            for process in &top.processes {
                let (service, number) = (&member.seen.service, member.seen.number);
                text.push_str(&format!("{service}\t{number}\t{}\t\n", process.join("\t")));
            }
        }
        let layout = table::Layout {
            minimum: 4,
            padding: 3,
        };
        output::print(&table::align(&text, layout))?;
        Ok(Exit::SUCCESS)
    }
}
