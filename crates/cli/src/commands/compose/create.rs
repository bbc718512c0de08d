//! `ketch compose create`.

use ketch_compose::UpOptions;

use crate::command::{Arity, Command, Outcome, Verb};
use crate::context::Context;
use crate::failure::Exit;

use super::observed::options;
use super::options::{Flags, bring_up};
use super::progress::Progress;
use super::project;

/// The command.
pub const COMMAND: Command = Command {
    names: &["compose create"],
    usage: "[OPTIONS] [SERVICE...]",
    about: "Creates containers for a service",
    arity: Arity::AtLeast(0),
    ..Command::of::<Args>()
};

#[derive(clap::Args)]
struct Args {
    #[command(flatten)]
    flags: Flags,
}

impl Verb for Args {
    fn run(self, context: &Context, services: Vec<String>) -> Outcome {
        let project = project::load(context, &services)?;
        let up = UpOptions {
            no_start: true,
            ..self.flags.up(&project, services)?
        };
        let images = self.flags.images()?;
        let progress = Progress::new(context)?.quiet(self.flags.quiet_pull, self.flags.quiet_build);
        bring_up(
            context,
            &project,
            &up,
            &images,
            &options(context),
            &progress,
        )?;
        Ok(Exit::SUCCESS)
    }
}
