//! `ketch commit`.

use ketch_engine::container::{self, CommitOptions};
use ketch_spec::Reference;

use crate::command::{Arity, Command, Outcome, Verb};
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::output;

/// The command.
pub const COMMAND: Command = Command {
    names: &["container commit", "commit"],
    usage: "[OPTIONS] CONTAINER [REPOSITORY[:TAG]]",
    about: "Create a new image from a container's changes",
    arity: Arity::Between(1, 2),
    ..Command::of::<Args>()
};

#[derive(clap::Args)]
struct Args {
    /// Author (e.g., "John Hannibal Smith <hannibal@a-team.com>")
    #[arg(short, long, value_name = "string", default_value = "")]
    author: String,
    /// Apply Dockerfile instruction to the created image
    #[arg(short, long, value_name = "list")]
    change: Vec<String>,
    /// Commit message
    #[arg(short, long, value_name = "string", default_value = "")]
    message: String,
    /// Pause container during commit
    #[arg(short, long, default_value = "true", action = clap::ArgAction::Set)]
    pause: bool,
}

impl Verb for Args {
    fn run(self, context: &Context, operands: Vec<String>) -> Outcome {
        let reference = operands
            .get(1)
            .map(|text| text.parse::<Reference>())
            .transpose()
            .map_err(|error| Failure::usage(error.to_string()))?;
        if reference.as_ref().is_some_and(|name| name.digest.is_some()) {
            return Err(Failure::usage("cannot commit to digest reference"));
        }
        let options = CommitOptions {
            reference,
            author: self.author,
            message: self.message,
            changes: self.change,
            pause: self.pause,
        };
        let id = container::commit(context.engine()?, &operands[0], &options)?;
        output::print_line(&id.to_string())?;
        Ok(Exit::SUCCESS)
    }
}
