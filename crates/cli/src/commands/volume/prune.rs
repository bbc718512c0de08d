//! `ketch volume prune`.

use ketch_engine::volume::{self, PruneOptions, Pruned};

use crate::command::{Command, Outcome, Verb};
use crate::context::Context;
use crate::failure::Exit;
use crate::filter::{self, Filter, Filters};
use crate::{output, prompt};

/// The command.
pub const COMMAND: Command = Command {
    names: &["volume prune"],
    usage: "[OPTIONS]",
    about: "Remove unused local volumes",
    ..Command::of::<Args>()
};

#[derive(clap::Args)]
struct Args {
    /// Remove all unused volumes, not just anonymous ones
    #[arg(short, long)]
    all: bool,
    /// Provide filter values (e.g. "label=<label>")
    #[arg(long, value_name = "filter")]
    filter: Vec<Filter>,
    /// Do not prompt for confirmation
    #[arg(short, long)]
    force: bool,
}

impl Verb for Args {
    fn run(self, context: &Context, _: Vec<String>) -> Outcome {
        let filters = filter::collect(self.filter, &["label", "label!", "all"])?;
        let all = self.all || filters.boolean("all")? == Some(true);
        let what = if all {
            "local volumes"
        } else {
            "anonymous local volumes"
        };
        let warning =
            format!("WARNING! This will remove all {what} not used by at least one container.");
        if !self.force && !prompt::confirm(&warning)? {
            return Ok(Exit::SUCCESS);
        }
        let options = options(&filters, all);
        let pruned = volume::prune(context.engine()?, &options)?;
        output::print(&report(&pruned))?;
        output::print_line(&prompt::reclaimed(pruned.bytes))?;
        Ok(Exit::SUCCESS)
    }
}

/// The engine's options for label filters.
pub fn options(filters: &Filters, all: bool) -> PruneOptions {
    PruneOptions {
        all,
        labels: filters.values("label").to_vec(),
        without_labels: filters.values("label!").to_vec(),
    }
}

/// The section of the report; empty if nothing was removed.
pub fn report(pruned: &Pruned) -> String {
    if pruned.volumes.is_empty() {
        return String::new();
    }
    format!("Deleted Volumes:\n{}\n\n", pruned.volumes.join("\n"))
}
