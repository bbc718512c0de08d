//! `ketch import`.

use std::fs::File;
use std::io;

use ketch_engine::image::{self, ImportOptions};
use ketch_spec::Reference;

use crate::archive_progress::{ArchiveProgress, Work};
use crate::command::{Arity, Command, Outcome, Verb};
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::{output, platforms};

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
    /// Suppress the progress
    #[arg(short, long)]
    quiet: bool,
}

impl Verb for Args {
    fn run(self, context: &Context, operands: Vec<String>) -> Outcome {
        let reference = operands
            .get(1)
            .map(|text| text.parse::<Reference>())
            .transpose()
            .map_err(|error| Failure::usage(error.to_string()))?;
        let source = operands[0].as_str();
        let options = ImportOptions {
            reference,
            changes: self.change,
            message: self.message,
            platform: platforms::one(self.platform.as_deref())?,
        };
        let progress = ArchiveProgress::new(Work::Import, self.quiet);
        let engine = context.engine()?;
        let imported = if source == "-" {
            image::import(engine, io::stdin().lock(), &options, &progress)
        } else if is_url(source) {
            image::import_url(engine, source, &options, &progress)
        } else {
            let file = File::open(source).map_err(|error| Failure::File {
                action: "open",
                path: source.into(),
                source: error,
            })?;
            image::import(engine, file, &options, &progress)
        };
        progress.finish();
        output::print_line(&imported?.to_string())?;
        Ok(Exit::SUCCESS)
    }
}

fn is_url(source: &str) -> bool {
    source.starts_with("http://") || source.starts_with("https://")
}
