//! `ketch compose exec`.

use ketch_engine::container::{self, ExecConfig};
use ketch_spec::env::Variable;

use crate::command::{Arity, Command, Outcome, Verb, integer};
use crate::commands::container::run;
use crate::context::Context;
use crate::create::{environment, variable};
use crate::failure::{Exit, Failure};
use crate::session::{self, Prepared};
use crate::terminal;

use super::{containers, project};

/// The command.
pub const COMMAND: Command = Command {
    names: &["compose exec"],
    usage: "[OPTIONS] SERVICE COMMAND [ARGS...]",
    about: "Execute a command in a running container",
    arity: Arity::AtLeast(2),
    interspersed: false,
    ..Command::of::<Args>()
};

#[derive(clap::Args)]
struct Args {
    /// Detached mode: Run command in the background
    #[arg(short, long)]
    detach: bool,
    /// Set environment variables
    #[arg(short, long, value_name = "stringArray", value_parser = variable)]
    env: Vec<Variable>,
    /// Index of the container if service has multiple replicas
    #[arg(long, value_name = "int", value_parser = integer, default_value = "0")]
    index: i64,
    /// Keep STDIN open even if not attached
    #[arg(short, long, default_value = "true", action = clap::ArgAction::Set, hide = true)]
    interactive: bool,
    /// Disable pseudo-TTY allocation. By default `compose exec` allocates a TTY where standard output is one
    #[arg(short = 'T', long)]
    no_tty: bool,
    /// Give extended privileges to the process
    #[arg(long)]
    privileged: bool,
    /// Allocate a pseudo-TTY
    #[arg(short, long, default_value = "true", action = clap::ArgAction::Set, hide = true)]
    tty: bool,
    /// Run the command as this user
    #[arg(short, long, value_name = "string")]
    user: Option<String>,
    /// Path to workdir directory for this command
    #[arg(short, long, value_name = "string")]
    workdir: Option<String>,
}

/// Whether both our input and our output are terminals.
pub fn at_terminal() -> bool {
    rustix::termios::isatty(std::io::stdin()) && rustix::termios::isatty(std::io::stdout())
}

impl Verb for Args {
    fn run(self, context: &Context, mut operands: Vec<String>) -> Outcome {
        let service = operands.remove(0);
        let services = [service.clone()];
        let project = project::load_or_name(context, &services)?;
        containers::check_services(&project, &services)?;
        let member = containers::running(context, &project, &service, self.index)?;
        let tty = self.tty && !self.no_tty && !self.detach && at_terminal();
        let stdin = self.interactive && !self.detach;
        let config = ExecConfig {
            command: operands,
            env: environment(&[], self.env, &|name| std::env::var(name).ok())?,
            working_dir: self.workdir.filter(|dir| !dir.is_empty()),
            user: self.user.filter(|user| !user.is_empty()),
            tty,
            privileged: self.privileged,
            stdin,
            detach: self.detach,
            size: if tty { terminal::session_size() } else { None },
        };
        let session = Prepared::new(session::Options {
            tty,
            stdin,
            proxy_signals: false,
            detach_keys: run::keys(context, None)?,
            redraw: false,
        })
        .map_err(|source| Failure::Stream {
            stream: "signals",
            source,
        })?;
        let config_of = &member.container.config;
        match container::exec(context.engine()?, config_of.id.as_str(), config)? {
            Some(attached) => run::finish(context, session.run(attached.stream), &config_of.name),
            None => Ok(Exit::SUCCESS),
        }
    }
}
