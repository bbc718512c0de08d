//! `ketch compose scale`.

use ketch_compose::{ImageOptions, UpOptions};

use crate::command::{Arity, Command, Outcome, Verb};
use crate::context::Context;
use crate::failure::{Exit, Failure};

use super::containers::check_services;
use super::observed::options;
use super::options::{bring_up, scale};
use super::progress::Progress;
use super::project;

/// The command.
pub const COMMAND: Command = Command {
    names: &["compose scale"],
    usage: "[SERVICE=REPLICAS...]",
    about: "Scale services",
    arity: Arity::AtLeast(1),
    ..Command::of::<Args>()
};

#[derive(clap::Args)]
struct Args {
    /// Don't start linked services
    #[arg(long)]
    no_deps: bool,
}

impl Verb for Args {
    fn run(self, context: &Context, operands: Vec<String>) -> Outcome {
        let pairs: Result<Vec<(String, u32)>, String> =
            operands.iter().map(|text| scale(text)).collect();
        let pairs = pairs.map_err(Failure::usage)?;
        let services: Vec<String> = pairs.iter().map(|(name, _)| name.clone()).collect();
        let project = project::load(context, &services)?;
        check_services(&project, &services)?;
        let up = UpOptions {
            services,
            no_deps: self.no_deps,
            scale: pairs.into_iter().collect(),
            ..UpOptions::default()
        };
        let progress = Progress::new(context)?;
        let images = ImageOptions::default();
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
