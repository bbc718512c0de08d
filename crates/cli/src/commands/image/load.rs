//! `ketch load`.

use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;

use ketch_engine::image::{self, Loaded};

use crate::archive_progress::{ArchiveProgress, Work};
use crate::command::{Command, Outcome, Verb};
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::{output, platforms};

/// The command.
pub const COMMAND: Command = Command {
    names: &["image load", "load"],
    usage: "[OPTIONS]",
    about: "Load an image from a tar archive or STDIN",
    details: "Archives are those of 'docker save' (all forms since Docker 1.10), of podman, skopeo\nand buildkit, and OCI archives, plain or compressed with gzip or zstd. If the input is a\ndirectory, it is read as an OCI image layout.",
    ..Command::of::<Args>()
};

#[derive(clap::Args)]
struct Args {
    /// Read from tar archive file or OCI directory, instead of STDIN
    #[arg(short, long, value_name = "string")]
    input: Option<PathBuf>,
    /// Load only the given platforms ('os[/arch[/variant]]')
    #[arg(long, value_name = "strings")]
    platform: Vec<String>,
    /// Suppress the load output
    #[arg(short, long)]
    quiet: bool,
}

impl Verb for Args {
    fn run(self, context: &Context, _: Vec<String>) -> Outcome {
        let platforms = platforms::several(&self.platform)?;
        let progress = ArchiveProgress::new(Work::Load, self.quiet);
        let loaded = match &self.input {
            Some(path) if path.is_dir() => {
                image::load_directory(context.engine()?, path, &platforms, &progress)
            }
            Some(path) => {
                let file = File::open(path).map_err(|source| Failure::File {
                    action: "open",
                    path: path.clone(),
                    source,
                })?;
                image::load(context.engine()?, file, &platforms, &progress)
            }
            None if rustix::termios::isatty(io::stdin()) => {
                return Err(Failure::usage(
                    "requested load from stdin, but stdin is empty",
                ));
            }
            None => {
                let reader: Box<dyn Read> = Box::new(io::stdin().lock());
                image::load(context.engine()?, reader, &platforms, &progress)
            }
        };
        progress.finish();
        output::print(&loaded?.iter().map(lines).collect::<String>())?;
        Ok(Exit::SUCCESS)
    }
}

/// What Docker's engine tells of one image.
fn lines(loaded: &Loaded) -> String {
    let mut text = String::new();
    for (name, old) in &loaded.taken {
        text.push_str(&format!(
            "The image {} already exists, renaming the old one with ID {old} to empty string\n",
            name.familiar()
        ));
    }
    if loaded.references.is_empty() {
        text.push_str(&format!("Loaded image ID: {}\n", loaded.id));
    }
    for reference in &loaded.references {
        text.push_str(&format!("Loaded image: {}\n", reference.familiar()));
    }
    text
}
