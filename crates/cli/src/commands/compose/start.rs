//! `ketch compose start`.

use std::time::Duration;

use ketch_compose::{
    ExecuteOptions, Lifecycle, UpOptions, observe, observe_containers, plan_lifecycle, plan_up,
};

use crate::command::{Arity, Command, Outcome, Verb, integer};
use crate::context::Context;
use crate::failure::{Exit, Failure};

use super::containers::check_services;
use super::observed::{carry_out, options, unplannable};
use super::progress::Progress;
use super::project;

/// The command.
pub const COMMAND: Command = Command {
    names: &["compose start"],
    usage: "[OPTIONS] [SERVICE...]",
    about: "Start services",
    arity: Arity::AtLeast(0),
    ..Command::of::<Args>()
};

#[derive(clap::Args)]
struct Args {
    /// Wait for services to be running|healthy
    #[arg(long)]
    wait: bool,
    /// Maximum duration in seconds to wait for the services to be running|healthy
    #[arg(long, value_name = "int", value_parser = integer, default_value = "0")]
    wait_timeout: i64,
}

impl Verb for Args {
    fn run(self, context: &Context, services: Vec<String>) -> Outcome {
        let project = project::load_or_name(context, &services)?;
        check_services(&project, &services)?;
        let engine = context.engine()?;
        let observed = observe_containers(engine, &project.name)?;
        let has_container = |name: &String| {
            let mut all = observed.containers.iter();
            all.any(|container| container.service == *name && !container.one_off)
        };
        let wanted = match services.as_slice() {
            [] => project.services.keys().cloned().collect(),
            named => named.to_vec(),
        };
        let scaled = |name: &&String| project.services.get(*name).is_none_or(|own| own.scale > 0);
        if let Some(name) = wanted
            .iter()
            .filter(scaled)
            .find(|name| !has_container(name))
        {
            let message = format!("service {name:?} has no container to start");
            return Err(Failure::usage(message));
        }
        let plan = plan_lifecycle(&project, &observed, &services, Lifecycle::Start);
        let progress = Progress::new(context)?;
        carry_out(context, &project, &plan, &options(context), &progress)?;
        if self.wait {
            let up = UpOptions {
                services,
                no_recreate: true,
                wait: true,
                ..UpOptions::default()
            };
            let observed = observe(engine, &project, &[])?;
            let plan = plan_up(&project, &observed, &up).map_err(unplannable)?;
            let options = ExecuteOptions {
                wait_timeout: timeout(self.wait_timeout),
                ..options(context)
            };
            carry_out(context, &project, &plan, &options, &progress)?;
        }
        Ok(Exit::SUCCESS)
    }
}

/// `--wait-timeout`: 0 means no limit.
pub fn timeout(seconds: i64) -> Option<Duration> {
    let seconds = u64::try_from(seconds).ok().filter(|seconds| *seconds > 0);
    seconds.map(Duration::from_secs)
}
