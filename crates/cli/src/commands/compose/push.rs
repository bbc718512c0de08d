//! `ketch compose push`.

use std::collections::BTreeSet;

use ketch_compose::{ComposeObserver, selection};
use ketch_engine::image;
use ketch_spec::Reference;

use crate::command::{Arity, Command, Outcome, Verb};
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::report;

use super::observed::unplannable;
use super::progress::Progress;
use super::project;

/// The command.
pub const COMMAND: Command = Command {
    names: &["compose push"],
    usage: "[OPTIONS] [SERVICE...]",
    about: "Push service images",
    arity: Arity::AtLeast(0),
    ..Command::of::<Args>()
};

#[derive(clap::Args)]
struct Args {
    /// Push what it can and ignores images with push failures
    #[arg(long)]
    ignore_push_failures: bool,
    /// Also push images of services declared as dependencies
    #[arg(long)]
    include_deps: bool,
    /// Push without printing progress information
    #[arg(short, long)]
    quiet: bool,
}

impl Verb for Args {
    fn run(self, context: &Context, services: Vec<String>) -> Outcome {
        let project = project::load(context, &services)?;
        let services = selection(&project, &services, !self.include_deps).map_err(unplannable)?;
        let progress = Progress::new(context)?.quiet(self.quiet, self.quiet);
        let mut seen = BTreeSet::new();
        for name in &services {
            let service = &project.services[name];
            // only what is built here and has a name to go by is pushed, as with Docker Compose
            if service.build.is_none() || !service.has_own_image || !seen.insert(&service.image) {
                continue;
            }
            if context.compose().dry_run {
                progress.event(name, "Pushing");
                continue;
            }
            let pushed = self.push(context, &progress, name, &service.image);
            match pushed {
                Err(failure) if self.ignore_push_failures => {
                    report::item(&failure, context.options().debug);
                }
                other => other?,
            }
        }
        Ok(Exit::SUCCESS)
    }
}

impl Args {
    fn push(
        &self,
        context: &Context,
        progress: &Progress<'_>,
        service: &str,
        reference: &str,
    ) -> Result<(), Failure> {
        let reference = reference
            .parse::<Reference>()
            .map_err(|error| Failure::usage(format!("image {reference:?}: {error}")))?;
        if !self.quiet {
            progress.event(service, "Pushing");
        }
        let observer = progress.pull(service);
        image::push(context.engine()?, &reference, None, &*observer)?;
        if !self.quiet {
            progress.event(service, "Pushed");
        }
        Ok(())
    }
}
