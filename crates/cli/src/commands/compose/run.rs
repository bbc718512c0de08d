//! `ketch compose run`: one more container of a service, for one command.

use std::path::PathBuf;

use ketch_compose::{ExecuteOptions, ImageOptions, OneOff, PullMode, UpOptions, create_one_off};
use ketch_engine::container::{self, AttachStreams, StartOptions};
use ketch_spec::env::Variable;
use ketch_spec::mount::parse_volume;
use ketch_spec::port::{PortMapping, parse_publish};

use crate::command::{Arity, Command, Outcome, Verb};
use crate::commands::container::run;
use crate::context::Context;
use crate::create::{environment, label, variable};
use crate::failure::{Exit, Failure};
use crate::session::{self, Prepared};
use crate::{output, terminal};

use super::exec::at_terminal;
use super::observed::options;
use super::options::{bring_up, pull_mode};
use super::progress::Progress;
use super::{containers, project};

/// The command.
pub const COMMAND: Command = Command {
    names: &["compose run"],
    usage: "[OPTIONS] SERVICE [COMMAND] [ARGS...]",
    about: "Run a one-off command on a service",
    arity: Arity::AtLeast(1),
    interspersed: false,
    ..Command::of::<Args>()
};

#[derive(clap::Args)]
struct Args {
    /// Build image before starting container
    #[arg(long)]
    build: bool,
    /// Add Linux capabilities
    #[arg(long, value_name = "list")]
    cap_add: Vec<String>,
    /// Drop Linux capabilities
    #[arg(long, value_name = "list")]
    cap_drop: Vec<String>,
    /// Run container in background and print container ID
    #[arg(short, long)]
    detach: bool,
    /// Override the entrypoint of the image
    #[arg(long, value_name = "string")]
    entrypoint: Option<String>,
    /// Set environment variables
    #[arg(short, long, value_name = "stringArray", value_parser = variable)]
    env: Vec<Variable>,
    /// Set environment variables from file
    #[arg(long, value_name = "stringArray")]
    env_from_file: Vec<PathBuf>,
    /// Keep STDIN open even if not attached
    #[arg(short, long, default_value = "true", action = clap::ArgAction::Set)]
    interactive: bool,
    /// Add or override a label
    #[arg(short, long, value_name = "stringArray", value_parser = label)]
    label: Vec<(String, String)>,
    /// Assign a name to the container
    #[arg(long, value_name = "string")]
    name: Option<String>,
    /// Disable pseudo-TTY allocation (default: allocated where standard input and output are terminals)
    #[arg(short = 'T', long, alias = "no-TTY")]
    no_tty: bool,
    /// Don't start linked services
    #[arg(long)]
    no_deps: bool,
    /// Publish a container's port(s) to the host
    #[arg(short, long, value_name = "stringArray", value_parser = publish)]
    publish: Vec<Vec<PortMapping>>,
    /// Pull image before running ("always"|"missing"|"never"|"policy")
    #[arg(long, value_name = "string", default_value = "policy", value_parser = pull_mode)]
    pull: PullMode,
    /// Don't print anything to STDOUT
    #[arg(short, long)]
    quiet: bool,
    /// Suppress progress output from the build process
    #[arg(long)]
    quiet_build: bool,
    /// Pull without printing progress information
    #[arg(long)]
    quiet_pull: bool,
    /// Remove containers for services not defined in the Compose file
    #[arg(long)]
    remove_orphans: bool,
    /// Automatically remove the container when it exits
    #[arg(long)]
    rm: bool,
    /// Run command with all service's ports enabled and mapped to the host
    #[arg(short = 'P', long)]
    service_ports: bool,
    /// Allocate a pseudo-TTY
    #[arg(short, long, default_value = "true", action = clap::ArgAction::Set, hide = true)]
    tty: bool,
    /// Use the service's network useAliases in the network(s) the container connects to
    #[arg(long)]
    use_aliases: bool,
    /// Run as specified username or uid
    #[arg(short, long, value_name = "string")]
    user: Option<String>,
    /// Bind mount a volume
    #[arg(short, long, value_name = "stringArray")]
    volume: Vec<String>,
    /// Working directory inside the container
    #[arg(short, long, value_name = "string")]
    workdir: Option<String>,
}

fn publish(text: &str) -> Result<Vec<PortMapping>, String> {
    parse_publish(text).map_err(|error| error.to_string())
}

impl Verb for Args {
    fn run(self, context: &Context, mut operands: Vec<String>) -> Outcome {
        let service = operands.remove(0);
        let services = [service.clone()];
        let project = project::load(context, &services)?;
        containers::check_services(&project, &services)?;
        let wanted = &project.services[&service];
        let up = UpOptions {
            services: services.to_vec(),
            no_deps: self.no_deps,
            remove_orphans: self.remove_orphans,
            only_prepare: Some(service.clone()),
            ..UpOptions::default()
        };
        let images = ImageOptions {
            build: self.build,
            no_build: false,
            pull: self.pull,
        };
        let progress = Progress::new(context)?.quiet(
            self.quiet_pull || self.quiet,
            self.quiet_build || self.quiet,
        );
        let options = ExecuteOptions { ..options(context) };
        bring_up(context, &project, &up, &images, &options, &progress)?;
        progress.settle();
        if context.compose().dry_run {
            return output::print_line(&format!("run container of {service} (it was asked for)"))
                .map(|()| Exit::SUCCESS);
        }
        let (detach, keys) = (self.detach, run::keys(context, None)?);
        let one_off = self.one_off(operands)?;
        let (tty, stdin) = (one_off.tty, one_off.stdin && !detach);
        let engine = context.engine()?;
        let created = create_one_off(engine, &project, wanted, &one_off).map_err(Failure::Start)?;
        let id = created.id.as_str();
        if detach {
            container::start(engine, id, StartOptions::default()).map_err(Failure::Start)?;
            output::print_line(id)?;
            return Ok(Exit::SUCCESS);
        }
        let session = Prepared::new(session::Options {
            tty,
            stdin,
            proxy_signals: true,
            detach_keys: keys,
            redraw: false,
        })
        .map_err(|source| Failure::Stream {
            stream: "signals",
            source,
        })?;
        let options = StartOptions {
            attach: Some(AttachStreams {
                stdin,
                stdout: true,
                stderr: true,
            }),
            size: if tty { terminal::session_size() } else { None },
        };
        let attached = container::start(engine, id, options).map_err(Failure::Start)?;
        let Some(attached) = attached else {
            return Err(Failure::usage("the container started without its streams"));
        };
        run::finish(context, session.run(attached.stream), created.id.short())
    }
}

impl Args {
    /// What the flags ask for.
    fn one_off(self, command: Vec<String>) -> Result<OneOff, Failure> {
        let cwd = std::env::current_dir().map_err(|source| Failure::File {
            action: "getcwd",
            path: ".".into(),
            source,
        })?;
        let cwd = cwd.to_string_lossy().into_owned();
        let mounts: Result<Vec<_>, _> = self
            .volume
            .iter()
            .map(|text| parse_volume(text, &cwd))
            .collect();
        let words = |text: &String| ketch_compose::split_words(text).map_err(Failure::request);
        Ok(OneOff {
            name: self.name.filter(|name| !name.is_empty()),
            slug: slug()?,
            command,
            entrypoint: self.entrypoint.as_ref().map(words).transpose()?,
            env: environment(&self.env_from_file, self.env, &|name| {
                std::env::var(name).ok()
            })?,
            user: self.user.filter(|user| !user.is_empty()),
            working_dir: self.workdir.filter(|dir| !dir.is_empty()),
            labels: self.label,
            mounts: mounts.map_err(|error| Failure::request(error.to_string()))?,
            ports: self.publish.into_iter().flatten().collect(),
            service_ports: self.service_ports,
            use_aliases: self.use_aliases,
            tty: self.tty && !self.no_tty && !self.detach && at_terminal(),
            stdin: self.interactive,
            stdin_once: !self.detach && self.interactive,
            auto_remove: self.rm,
            cap_add: self.cap_add,
            cap_drop: self.cap_drop,
        })
    }
}

/// Twelve hexadecimal digits that no other run has.
fn slug() -> Result<String, Failure> {
    let id = ketch_engine::names::draw_id().map_err(ketch_engine::Error::from)?;
    Ok(id.short().to_owned())
}
