//! `ketch container prune`.

use jiff::Timestamp;
use ketch_engine::container::{self, RemoveOptions, Status};
use ketch_engine::{Engine, ErrorKind};

use crate::command::{Command, Outcome, Verb};
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::filter::{self, Filter, Filters};
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
            return Err(Failure::Told(1));
        }
        let pruned = prune(context.engine()?, &filters)?;
        output::print(&pruned.report())?;
        output::print_line(&prompt::reclaimed(pruned.bytes))?;
        Ok(Exit::SUCCESS)
    }
}

/// What was removed.
#[derive(Debug, Default)]
pub struct Pruned {
    /// Ids.
    pub ids: Vec<String>,
    /// Bytes of writable layers.
    pub bytes: u64,
}

impl Pruned {
    /// The section of the report; empty if nothing was removed.
    pub fn report(&self) -> String {
        if self.ids.is_empty() {
            String::new()
        } else {
            format!("Deleted Containers:\n{}\n\n", self.ids.join("\n"))
        }
    }
}

/// Removes the containers that do not run and match.
///
/// # Errors
/// The first removal that failed for another reason than that the container is in use or gone.
pub fn prune(engine: &Engine, filters: &Filters) -> Result<Pruned, Failure> {
    let until: Option<Timestamp> = prompt::until(filters)?;
    let mut pruned = Pruned::default();
    for found in container::list(engine)? {
        let ended = matches!(
            found.state.status,
            Status::Created | Status::Exited | Status::Dead
        );
        let old = until.is_none_or(|until| found.config.created < until);
        if !ended || !old || !filters.labels(&found.config.labels) {
            continue;
        }
        let id = &found.config.id;
        let bytes = container::size(engine, id).map_or(0, |sizes| sizes.writable_bytes);
        match container::remove(
            engine,
            id.as_str(),
            RemoveOptions {
                force: false,
                volumes: false,
            },
        ) {
            Ok(()) => {
                pruned.ids.push(id.to_string());
                pruned.bytes += bytes;
            }
            Err(error) if matches!(error.kind, ErrorKind::Conflict | ErrorKind::NotFound) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(pruned)
}
