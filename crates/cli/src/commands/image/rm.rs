//! `ketch rmi`.

use ketch_engine::ErrorKind;
use ketch_engine::image::{self, RemoveOptions, RemovedImage};

use crate::command::{Arity, Command, Outcome, Verb};
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::{output, platforms, report};

/// The command.
pub const COMMAND: Command = Command {
    names: &["image rm", "image remove", "rmi"],
    usage: "[OPTIONS] IMAGE [IMAGE...]",
    about: "Remove one or more images",
    arity: Arity::AtLeast(1),
    ..Command::of::<Args>()
};

#[derive(clap::Args)]
struct Args {
    /// Force removal of the image
    #[arg(short, long)]
    force: bool,
    /// Do not delete untagged parents
    #[arg(long)]
    no_prune: bool,
    /// Remove only the given platforms ('os[/arch[/variant]]') of a multi-platform image
    #[arg(long, value_name = "strings")]
    platform: Vec<String>,
}

impl Verb for Args {
    fn run(self, context: &Context, operands: Vec<String>) -> Outcome {
        let options = RemoveOptions {
            force: self.force,
            no_prune: self.no_prune,
            platforms: platforms::several(&self.platform)?,
        };
        let engine = context.engine()?;
        let mut told = Exit::SUCCESS;
        for name in &operands {
            match image::remove(engine, name, &options) {
                Ok(removed) => output::print(&lines(&removed))?,
                Err(error) => {
                    let ignored = self.force && error.kind == ErrorKind::NotFound;
                    report::item(&Failure::Engine(error), context.options().debug);
                    if !ignored {
                        told = Exit::FAILURE;
                    }
                }
            }
        }
        Ok(told)
    }
}

fn lines(removed: &[RemovedImage]) -> String {
    removed
        .iter()
        .map(|line| match line {
            RemovedImage::Untagged(name) => format!("Untagged: {name}\n"),
            RemovedImage::Deleted(id) => format!("Deleted: {id}\n"),
        })
        .collect()
}
