//! `ketch system prune`.

use ketch_engine::{image, network, volume};

use crate::command::{Command, Outcome, Verb};
use crate::commands;
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::filter::{self, Filter};
use crate::{output, prompt};

/// The command.
pub const COMMAND: Command = Command {
    names: &["system prune"],
    usage: "[OPTIONS]",
    about: "Remove unused data",
    ..Command::of::<Args>()
};

#[derive(clap::Args)]
struct Args {
    /// Remove all unused images not just dangling ones
    #[arg(short, long)]
    all: bool,
    /// Provide filter values (e.g. "label=<key>=<value>")
    #[arg(long, value_name = "filter")]
    filter: Vec<Filter>,
    /// Do not prompt for confirmation
    #[arg(short, long)]
    force: bool,
    /// Prune anonymous volumes
    #[arg(long)]
    volumes: bool,
}

impl Verb for Args {
    fn run(self, context: &Context, _: Vec<String>) -> Outcome {
        let filters = filter::collect(self.filter, &["until", "label", "label!"])?;
        if self.volumes && filters.has("until") {
            return Err(Failure::usage(
                "ERROR: The \"until\" filter is not supported with \"--volumes\"",
            ));
        }
        if !self.force && !prompt::confirm(&warning(self.all, self.volumes))? {
            return Err(Failure::Told(1));
        }
        let engine = context.engine()?;
        let containers = commands::container::prune(engine, &filters)?;
        output::print(&containers.report())?;
        let networks = network::prune(engine, &commands::network::prune::options(&filters)?)?;
        output::print(&commands::network::prune::report(&networks))?;
        let mut bytes = containers.bytes;
        if self.volumes {
            let volumes =
                volume::prune(engine, &commands::volume::prune::options(&filters, false))?;
            output::print(&commands::volume::prune::report(&volumes))?;
            bytes += volumes.bytes;
        }
        let images = image::prune(
            engine,
            &commands::image::prune::options(&filters, self.all)?,
        )?;
        output::print(&commands::image::prune::report(&images))?;
        output::print_line(&prompt::reclaimed(bytes + images.freed_bytes))?;
        Ok(Exit::SUCCESS)
    }
}

fn warning(all: bool, volumes: bool) -> String {
    let mut text = "WARNING! This will remove:\n  - all stopped containers\n  - all networks not used by at least one container\n".to_owned();
    if volumes {
        text.push_str("  - all anonymous volumes not used by at least one container\n");
    }
    text.push_str(if all {
        "  - all images without at least one container associated to them\n"
    } else {
        "  - all dangling images\n"
    });
    text
}
