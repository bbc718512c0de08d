//! `ketch compose pull`.

use ketch_compose::{ExecuteOptions, Observed, observe_images, plan_pulls, selection};

use crate::command::{Arity, Command, Outcome, Verb};
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::report;

use super::observed::{carry_out, options, unplannable};
use super::progress::Progress;
use super::project;

/// The command.
pub const COMMAND: Command = Command {
    names: &["compose pull"],
    usage: "[OPTIONS] [SERVICE...]",
    about: "Pull service images",
    arity: Arity::AtLeast(0),
    ..Command::of::<Args>()
};

#[derive(clap::Args)]
struct Args {
    /// Ignore images that can be built
    #[arg(long)]
    ignore_buildable: bool,
    /// Pull what it can and ignores images with pull failures
    #[arg(long)]
    ignore_pull_failures: bool,
    /// Also pull services declared as dependencies
    #[arg(long)]
    include_deps: bool,
    /// Apply pull policy ("missing"|"always")
    #[arg(long, value_name = "string")]
    policy: Option<String>,
    /// Pull without printing progress information
    #[arg(short, long)]
    quiet: bool,
}

impl Verb for Args {
    fn run(self, context: &Context, services: Vec<String>) -> Outcome {
        let missing_only = match self.policy.as_deref() {
            None | Some("" | "always") => false,
            Some("missing") => true,
            Some(other) => {
                return Err(Failure::usage(format!(
                    "unsupported --policy {other:?}: use missing or always"
                )));
            }
        };
        let project = project::load(context, &services)?;
        let services = selection(&project, &services, !self.include_deps).map_err(unplannable)?;
        let mut observed = Observed::default();
        if missing_only {
            observe_images(context.engine()?, &project, &services, &mut observed)?;
        }
        let plan = plan_pulls(
            &project,
            &services,
            &observed,
            missing_only,
            self.ignore_buildable,
        );
        let options = ExecuteOptions {
            keep_going: self.ignore_pull_failures,
            ..options(context)
        };
        let progress = Progress::new(context)?.quiet(self.quiet, self.quiet);
        match carry_out(context, &project, &plan, &options, &progress) {
            Err(failure) if self.ignore_pull_failures => {
                report::item(&failure, context.options().debug);
                Ok(Exit::SUCCESS)
            }
            other => other.map(|()| Exit::SUCCESS),
        }
    }
}
