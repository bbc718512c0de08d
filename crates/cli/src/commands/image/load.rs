//! `ketch load`.

use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;

use ketch_engine::image::{self, Silent};

use crate::command::{Command, Outcome, Refused, Verb};
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::output;

/// The command.
pub const COMMAND: Command = Command {
    names: &["image load", "load"],
    usage: "[OPTIONS]",
    about: "Load an image from a tar archive or STDIN",
    refused: &[Refused::value("platform")],
    ..Command::of::<Args>()
};

#[derive(clap::Args)]
struct Args {
    /// Read from tar archive file, instead of STDIN
    #[arg(short, long, value_name = "string")]
    input: Option<PathBuf>,
    /// Suppress the load output
    #[arg(short, long)]
    quiet: bool,
}

impl Verb for Args {
    fn run(self, context: &Context, _: Vec<String>) -> Outcome {
        let _ = self.quiet;
        let reader: Box<dyn Read + Send> = match self.input {
            Some(path) => {
                let file = File::open(&path).map_err(|source| Failure::File {
                    action: "open",
                    path,
                    source,
                })?;
                Box::new(file)
            }
            None if rustix::termios::isatty(io::stdin()) => {
                return Err(Failure::usage(
                    "requested load from stdin, but stdin is empty",
                ));
            }
            None => Box::new(io::stdin()),
        };
        let mut out = output::Output::new();
        for loaded in image::load(context.engine()?, reader, &Silent)? {
            if loaded.references.is_empty() {
                out.line(&format!("Loaded image ID: {}", loaded.id))?;
            }
            for reference in &loaded.references {
                out.line(&format!("Loaded image: {}", reference.familiar()))?;
            }
        }
        out.finish()?;
        Ok(Exit::SUCCESS)
    }
}
