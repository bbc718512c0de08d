//! `ketch compose up`.

use std::collections::BTreeSet;

use ketch_compose::{ExecuteOptions, ImageOptions, Project, UpOptions, selection};

use crate::command::{Arity, Command, Outcome, Refused, Verb, integer};
use crate::context::Context;
use crate::failure::{Exit, Failure};

use super::attached::{self, Ending};
use super::observed::{options, unplannable};
use super::options::{Flags, bring_up};
use super::progress::Progress;
use super::start::timeout;
use super::{containers, project};

/// The command.
pub const COMMAND: Command = Command {
    names: &["compose up"],
    usage: "[OPTIONS] [SERVICE...]",
    about: "Create and start containers",
    arity: Arity::AtLeast(0),
    refused: &[
        Refused::boolean("menu"),
        Refused::boolean("watch").short('w'),
    ],
    ..Command::of::<Args>()
};

#[derive(clap::Args)]
struct Args {
    /// Stops all containers if any container was stopped. Incompatible with -d
    #[arg(long)]
    abort_on_container_exit: bool,
    /// Stops all containers if any container exited with failure. Incompatible with -d
    #[arg(long)]
    abort_on_container_failure: bool,
    /// Recreate dependent containers. Incompatible with --no-recreate
    #[arg(long)]
    always_recreate_deps: bool,
    /// Restrict attaching to the specified services. Incompatible with --attach-dependencies
    #[arg(long, value_name = "stringArray")]
    attach: Vec<String>,
    /// Automatically attach to log output of dependent services
    #[arg(long)]
    attach_dependencies: bool,
    /// Detached mode: Run containers in the background
    #[arg(short, long)]
    detach: bool,
    /// Return the exit code of the selected service container. Implies --abort-on-container-exit
    #[arg(long, value_name = "string")]
    exit_code_from: Option<String>,
    /// Do not attach (stream logs) to the specified services
    #[arg(long, value_name = "stringArray")]
    no_attach: Vec<String>,
    /// Produce monochrome output
    #[arg(long)]
    no_color: bool,
    /// Don't start linked services
    #[arg(long)]
    no_deps: bool,
    /// Don't print prefix in logs
    #[arg(long)]
    no_log_prefix: bool,
    /// Don't start the services after creating them
    #[arg(long)]
    no_start: bool,
    /// Recreate anonymous volumes instead of retrieving data from the previous containers
    #[arg(short = 'V', long)]
    renew_anon_volumes: bool,
    /// Use this timeout in seconds for container shutdown when attached or when containers are already running
    #[arg(short, long, value_name = "int", value_parser = integer)]
    timeout: Option<i64>,
    /// Show timestamps
    #[arg(long)]
    timestamps: bool,
    /// Wait for services to be running|healthy. Implies detached mode
    #[arg(long)]
    wait: bool,
    /// Maximum duration in seconds to wait for the project to be running|healthy
    #[arg(long, value_name = "int", value_parser = integer, default_value = "0")]
    wait_timeout: i64,
    #[command(flatten)]
    flags: Flags,
}

impl Verb for Args {
    fn run(self, context: &Context, services: Vec<String>) -> Outcome {
        self.check()?;
        let project = project::load(context, &services)?;
        for names in [&self.attach, &self.no_attach] {
            containers::check_services(&project, names)?;
        }
        let from: Vec<String> = self.exit_code_from.iter().cloned().collect();
        containers::check_services(&project, &from)?;
        let up = UpOptions {
            always_recreate_deps: self.always_recreate_deps,
            no_deps: self.no_deps,
            renew_anonymous_volumes: self.renew_anon_volumes,
            timeout_s: self.timeout,
            no_start: self.no_start,
            wait: self.wait,
            ..self.flags.up(&project, services)?
        };
        let images = self.flags.images()?;
        let options = ExecuteOptions {
            wait_timeout: timeout(self.wait_timeout),
            ..options(context)
        };
        let progress = Progress::new(context)?.quiet(self.flags.quiet_pull, self.flags.quiet_build);
        if self.detach || self.wait || self.no_start || context.compose().dry_run {
            bring_up(context, &project, &up, &images, &options, &progress)?;
            return Ok(Exit::SUCCESS);
        }
        self.attached(context, &project, &up, &images, &options, progress)
    }
}

impl Args {
    fn check(&self) -> Result<(), Failure> {
        let aborts = self.abort_on_container_exit
            || self.abort_on_container_failure
            || self.exit_code_from.is_some();
        let detached = self.detach || self.wait;
        let message = if detached && aborts {
            "--wait/--detach cannot be combined with --abort-on-container-exit, --abort-on-container-failure or \
             --exit-code-from"
        } else if detached && (!self.attach.is_empty() || self.attach_dependencies) {
            "--wait/--detach cannot be combined with --attach or --attach-dependencies"
        } else if self.abort_on_container_exit && self.abort_on_container_failure {
            "--abort-on-container-failure cannot be combined with --abort-on-container-exit"
        } else if self.always_recreate_deps && self.flags.no_recreate {
            "--always-recreate-deps and --no-recreate are incompatible"
        } else if self.attach_dependencies && !self.attach.is_empty() {
            "cannot combine --attach and --attach-dependencies"
        } else {
            return Ok(());
        };
        Err(Failure::usage(message))
    }

    /// Stays with the containers until they end, or the user has had enough.
    fn attached(
        self,
        context: &Context,
        project: &Project,
        up: &UpOptions,
        images: &ImageOptions,
        options: &ExecuteOptions,
        progress: Progress<'_>,
    ) -> Outcome {
        let services = selection(project, &up.services, up.no_deps).map_err(unplannable)?;
        let ending = match (&self.exit_code_from, self.abort_on_container_exit) {
            (Some(service), _) => Ending::From(service.clone()),
            (None, true) => Ending::First,
            (None, false) if self.abort_on_container_failure => Ending::FirstFailure,
            (None, false) => Ending::All,
        };
        let shown = self.shown(project, up, &services);
        let session = attached::Session {
            context,
            project,
            up,
            services,
            shown,
            ending,
            no_color: self.no_color,
            no_log_prefix: self.no_log_prefix,
            timestamps: self.timestamps,
        };
        session.run(progress, |progress| {
            bring_up(context, project, up, images, options, progress)
        })
    }

    /// Services whose output is shown.
    fn shown(&self, project: &Project, up: &UpOptions, services: &[String]) -> BTreeSet<String> {
        let wanted = |name: &&String| {
            let named = if !self.attach.is_empty() {
                self.attach.contains(name)
            } else {
                self.attach_dependencies || up.services.is_empty() || up.services.contains(name)
            };
            named && !self.no_attach.contains(name) && project.services[*name].attach
        };
        services.iter().filter(wanted).cloned().collect()
    }
}
