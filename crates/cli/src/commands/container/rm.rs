//! `ketch rm`.

use ketch_engine::ErrorKind;
use ketch_engine::container::{self, RemoveOptions};

use crate::command::{Arity, Command, Outcome, Refused, Verb};
use crate::context::Context;

use super::Tell;

/// The command.
pub const COMMAND: Command = Command {
    names: &["container rm", "container remove", "rm"],
    usage: "[OPTIONS] CONTAINER [CONTAINER...]",
    about: "Remove one or more containers",
    arity: Arity::AtLeast(1),
    refused: &[Refused::boolean("link").short('l')],
    ..Command::of::<Args>()
};

#[derive(clap::Args)]
struct Args {
    /// Force the removal of a running container (uses SIGKILL)
    #[arg(short, long)]
    force: bool,
    /// Remove anonymous volumes associated with the container
    #[arg(short, long)]
    volumes: bool,
}

impl Verb for Args {
    fn run(self, context: &Context, operands: Vec<String>) -> Outcome {
        let (force, volumes) = (self.force, self.volumes);
        super::each_told(context, &operands, |engine, name| {
            // Docker's client takes a leading slash off, as `docker inspect` shows names with one.
            let name = name.trim_start_matches('/');
            match container::remove(engine, name, RemoveOptions { force, volumes }) {
                // Told, but no failure: scripts remove what may not be there.
                Err(error) if force && error.kind == ErrorKind::NotFound => {
                    crate::output::warn(&format!("Error: {error}"));
                    Ok(Tell::Nothing)
                }
                other => other.map(|_| Tell::Name),
            }
        })
    }
}
