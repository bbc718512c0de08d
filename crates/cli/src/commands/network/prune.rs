//! `ketch network prune`.

use ketch_engine::network::{self, PruneOptions};

use crate::command::{Command, Outcome, Verb};
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::filter::{self, Filter, Filters};
use crate::{output, prompt};

/// The command.
pub const COMMAND: Command = Command {
    names: &["network prune"],
    usage: "[OPTIONS]",
    about: "Remove all unused networks",
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

impl Verb for Args {
    fn run(self, context: &Context, _: Vec<String>) -> Outcome {
        let filters = filter::collect(self.filter, &["until", "label", "label!"])?;
        let warning =
            "WARNING! This will remove all custom networks not used by at least one container.";
        if !self.force && !prompt::confirm(warning)? {
            return Ok(Exit::SUCCESS);
        }
        let removed = network::prune(context.engine()?, &options(&filters)?)?;
        output::print(&report(&removed))?;
        Ok(Exit::SUCCESS)
    }
}

/// The engine's options for the filters.
///
/// # Errors
/// An `until` that is no time.
pub fn options(filters: &Filters) -> Result<PruneOptions, Failure> {
    Ok(PruneOptions {
        labels: filters.values("label").to_vec(),
        without_labels: filters.values("label!").to_vec(),
        until: prompt::until(filters)?,
    })
}

/// The section of the report; empty if nothing was removed.
pub fn report(removed: &[String]) -> String {
    if removed.is_empty() {
        String::new()
    } else {
        format!("Deleted Networks:\n{}\n\n", removed.join("\n"))
    }
}
