//! `ketch compose build`.

use std::collections::BTreeMap;

use ketch_compose::{BuildOptions, ExecuteOptions, plan_builds, selection};

use crate::command::{Arity, Command, Outcome, Refused, Verb};
use crate::context::Context;
use crate::failure::Exit;
use crate::output;

use super::observed::{carry_out, options, unplannable};
use super::progress::Progress;
use super::project;

/// The command.
pub const COMMAND: Command = Command {
    names: &["compose build"],
    usage: "[OPTIONS] [SERVICE...]",
    about: "Build or rebuild services",
    arity: Arity::AtLeast(0),
    refused: &[
        Refused::value("builder"),
        Refused::boolean("check"),
        Refused::value("memory").short('m'),
        Refused::boolean("print"),
        Refused::value("provenance"),
        Refused::boolean("push"),
        Refused::value("sbom"),
        Refused::value("ssh"),
    ],
    ..Command::of::<Args>()
};

#[derive(clap::Args)]
struct Args {
    /// Set build-time variables for services
    #[arg(long, value_name = "stringArray")]
    build_arg: Vec<String>,
    /// Do not use cache when building the image
    #[arg(long)]
    no_cache: bool,
    /// Always attempt to pull a newer version of the image
    #[arg(long)]
    pull: bool,
    /// Suppress the build output
    #[arg(short, long)]
    quiet: bool,
    /// Also build dependencies (transitively)
    #[arg(long)]
    with_dependencies: bool,
}

impl Verb for Args {
    fn run(self, context: &Context, services: Vec<String>) -> Outcome {
        let project = project::load(context, &services)?;
        let services =
            selection(&project, &services, !self.with_dependencies).map_err(unplannable)?;
        let plan = plan_builds(&project, &services);
        if plan.is_empty() {
            output::warn("No services to build");
            return Ok(Exit::SUCCESS);
        }
        let options = ExecuteOptions {
            build: BuildOptions {
                no_cache: self.no_cache,
                pull: self.pull,
                args: arguments(&self.build_arg, &project.variables),
            },
            ..options(context)
        };
        let progress = Progress::new(context)?.quiet(self.quiet, self.quiet);
        carry_out(context, &project, &plan, &options, &progress)?;
        Ok(Exit::SUCCESS)
    }
}

/// `NAME=value`, or `NAME` with the value that the variable has; one that is unset is left out.
fn arguments(given: &[String], variables: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let split = |text: &String| match text.split_once('=') {
        Some((name, value)) => Some((name.to_owned(), value.to_owned())),
        None => Some((text.clone(), variables.get(text)?.clone())),
    };
    given.iter().filter_map(split).collect()
}
