//! `ketch export`.

use std::path::PathBuf;

use ketch_engine::container;

use crate::command::{Arity, Command, Outcome, Verb};
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::output_file;

/// The command.
pub const COMMAND: Command = Command {
    names: &["container export", "export"],
    usage: "[OPTIONS] CONTAINER",
    about: "Export a container's filesystem as a tar archive",
    arity: Arity::Exactly(1),
    ..Command::of::<Args>()
};

#[derive(clap::Args)]
struct Args {
    /// Write to a file, instead of STDOUT
    #[arg(short, long, value_name = "string")]
    output: Option<PathBuf>,
}

impl Verb for Args {
    fn run(self, context: &Context, operands: Vec<String>) -> Outcome {
        let write = |out: &mut dyn std::io::Write| {
            container::export(context.engine()?, &operands[0], out).map_err(Failure::from)
        };
        match &self.output {
            Some(path) => output_file::write(path, "failed to export container", write)?,
            None => output_file::write_stdout("save", write)?,
        }
        Ok(Exit::SUCCESS)
    }
}
