//! `ketch import`.

use std::fs::File;
use std::io::{self, Read};

use ketch_engine::image::{self, ImportOptions};
use ketch_spec::{Platform, Reference};

use crate::command::{Arity, Command, Outcome, Verb};
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::output;

/// The command.
pub const COMMAND: Command = Command {
    names: &["image import", "import"],
    usage: "[OPTIONS] file|URL|- [REPOSITORY[:TAG]]",
    about: "Import the contents from a tarball to create a filesystem image",
    arity: Arity::AtLeast(1),
    ..Command::of::<Args>()
};

#[derive(clap::Args)]
struct Args {
    /// Apply Dockerfile instruction to the created image
    #[arg(short, long, value_name = "list")]
    change: Vec<String>,
    /// Set commit message for imported image
    #[arg(short, long, value_name = "string", default_value = "")]
    message: String,
    /// Set platform if server is multi-platform capable
    #[arg(long, value_name = "string")]
    platform: Option<String>,
}

impl Verb for Args {
    fn run(self, context: &Context, operands: Vec<String>) -> Outcome {
        let wrong = |error: &dyn std::fmt::Display| Failure::usage(error.to_string());
        let reference = operands
            .get(1)
            .map(|text| text.parse::<Reference>())
            .transpose()
            .map_err(|error| wrong(&error))?;
        let platform = self
            .platform
            .filter(|text| !text.is_empty())
            .map(|text| text.parse::<Platform>())
            .transpose()
            .map_err(|error| wrong(&error))?;
        let options = ImportOptions {
            reference,
            changes: self.change,
            message: self.message,
            platform,
        };
        let source = &operands[0];
        if source.starts_with("http://") || source.starts_with("https://") {
            return Err(Failure::usage(
                "importing from a URL is not supported: download the file and import it",
            ));
        }
        let reader: Box<dyn Read + Send> = if source == "-" {
            Box::new(io::stdin())
        } else {
            let failure = |error| Failure::File {
                action: "open",
                path: source.into(),
                source: error,
            };
            Box::new(File::open(source).map_err(failure)?)
        };
        let id = image::import(context.engine()?, reader, &options)?;
        output::print_line(&id.to_string())?;
        Ok(Exit::SUCCESS)
    }
}
