//! `ketch image prune`.

use ketch_engine::image::{self, PruneOptions, Pruned, RemovedImage};

use crate::command::{Command, Outcome, Verb};
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::filter::{self, Filter, Filters};
use crate::{output, prompt};

/// The command.
pub const COMMAND: Command = Command {
    names: &["image prune"],
    usage: "[OPTIONS]",
    about: "Remove unused images",
    ..Command::of::<Args>()
};

#[derive(clap::Args)]
struct Args {
    /// Remove all unused images, not just dangling ones
    #[arg(short, long)]
    all: bool,
    /// Provide filter values (e.g. "until=<timestamp>")
    #[arg(long, value_name = "filter")]
    filter: Vec<Filter>,
    /// Do not prompt for confirmation
    #[arg(short, long)]
    force: bool,
}

impl Verb for Args {
    fn run(self, context: &Context, _: Vec<String>) -> Outcome {
        let filters = filter::collect(self.filter, &["until", "label", "label!", "dangling"])?;
        let all = self.all || filters.boolean("dangling")? == Some(false);
        let warning = if all {
            "WARNING! This will remove all images without at least one container associated to them."
        } else {
            "WARNING! This will remove all dangling images."
        };
        if !self.force && !prompt::confirm(warning)? {
            return Ok(Exit::SUCCESS);
        }
        let pruned = image::prune(context.engine()?, &options(&filters, all)?)?;
        output::print(&report(&pruned))?;
        output::print_line(&prompt::reclaimed(pruned.freed_bytes))?;
        Ok(Exit::SUCCESS)
    }
}

/// The engine's options for the filters.
///
/// # Errors
/// An `until` that is no time.
pub fn options(filters: &Filters, all: bool) -> Result<PruneOptions, Failure> {
    Ok(PruneOptions {
        all,
        until: prompt::until(filters)?,
        labels: filters.values("label").to_vec(),
        without_labels: filters.values("label!").to_vec(),
    })
}

/// The section of the report; empty if nothing was removed.
pub fn report(pruned: &Pruned) -> String {
    if pruned.removed.is_empty() {
        return String::new();
    }
    let lines: Vec<String> = pruned
        .removed
        .iter()
        .map(|line| match line {
            RemovedImage::Untagged(name) => format!("untagged: {name}"),
            RemovedImage::Deleted(id) => format!("deleted: {id}"),
        })
        .collect();
    format!("Deleted Images:\n{}\n\n", lines.join("\n"))
}
