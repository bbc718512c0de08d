//! `ketch container prune`.

use ketch_engine::container::{self, Pruned};

use crate::command::{Command, Outcome, Verb};
use crate::context::Context;
use crate::failure::Exit;
use crate::filter::{self, Filter};
use crate::{output, prompt};

/// The command.
pub const COMMAND: Command = Command {
    names: &["container prune"],
    usage: "[OPTIONS]",
    about: "Remove all stopped containers",
    ..Command::of::<Args>()
};

#[derive(clap::Args)]
struct Args {
    /// Provide filter values (e.g. "until=<timestamp>")
    #[arg(long, value_name = "filter")]
    filter: Vec<Filter>,
    /// Do not prompt for confirmation
    #[arg(short, long)]
    force: bool,
}

/// Filters that it knows.
pub const KEYS: [&str; 3] = ["until", "label", "label!"];

impl Verb for Args {
    fn run(self, context: &Context, _: Vec<String>) -> Outcome {
        let filters = filter::collect(self.filter, &KEYS)?;
        if !self.force && !prompt::confirm("WARNING! This will remove all stopped containers.")? {
            return Ok(Exit::SUCCESS);
        }
        let until = prompt::until(&filters)?;
        let pruned = container::prune(context.engine()?, &filters, until)?;
        output::print(&report(&pruned))?;
        output::print_line(&prompt::reclaimed(pruned.bytes))?;
        Ok(Exit::SUCCESS)
    }
}

/// The section of the report; empty if nothing was removed.
pub fn report(pruned: &Pruned) -> String {
    if pruned.ids.is_empty() {
        String::new()
    } else {
        format!("Deleted Containers:\n{}\n\n", pruned.ids.join("\n"))
    }
}
