//! `ketch exec`: another process in a running container.

use std::path::PathBuf;

use ketch_engine::container::{self, ExecConfig};
use ketch_spec::env::Variable;

use crate::command::{Arity, Command, Outcome, Verb};
use crate::context::Context;
use crate::create::{environment, variable};
use crate::failure::{Exit, Failure};
use crate::session::{self, Prepared};
use crate::terminal;

use super::run;

/// The command.
pub const COMMAND: Command = Command {
    names: &["container exec", "exec"],
    usage: "[OPTIONS] CONTAINER COMMAND [ARG...]",
    about: "Execute a command in a running container",
    arity: Arity::AtLeast(2),
    interspersed: false,
    ..Command::of::<Args>()
};

#[derive(clap::Args)]
struct Args {
    /// Detached mode: run command in the background
    #[arg(short, long)]
    detach: bool,
    /// Override the key sequence for detaching a container
    #[arg(long, value_name = "string")]
    detach_keys: Option<String>,
    /// Set environment variables
    #[arg(short, long, value_name = "list", value_parser = variable)]
    env: Vec<Variable>,
    /// Read in a file of environment variables
    #[arg(long, value_name = "list")]
    env_file: Vec<PathBuf>,
    /// Keep STDIN open even if not attached
    #[arg(short, long)]
    interactive: bool,
    /// Give extended privileges to the command
    #[arg(long)]
    privileged: bool,
    /// Allocate a pseudo-TTY
    #[arg(short, long)]
    tty: bool,
    /// Username or UID (format: "<name|uid>[:<group|gid>]")
    #[arg(short, long, value_name = "string")]
    user: Option<String>,
    /// Working directory inside the container
    #[arg(short, long, value_name = "string")]
    workdir: Option<String>,
}

impl Verb for Args {
    fn run(self, context: &Context, mut operands: Vec<String>) -> Outcome {
        let keys = run::keys(context, self.detach_keys.as_deref())?;
        if !self.detach {
            run::check_terminal(self.interactive, self.tty)?;
        }
        let name = operands.remove(0);
        let stdin = self.interactive && !self.detach;
        let config = ExecConfig {
            command: operands,
            env: environment(&self.env_file, self.env, &|name| std::env::var(name).ok())?,
            working_dir: self.workdir.filter(|dir| !dir.is_empty()),
            user: self.user.filter(|user| !user.is_empty()),
            tty: self.tty,
            privileged: self.privileged,
            stdin,
            detach: self.detach,
            size: if self.tty && !self.detach {
                terminal::session_size()
            } else {
                None
            },
        };
        let session = Prepared::new(session::Options {
            tty: self.tty,
            stdin,
            // A signal for `exec` is for us: the process stays, as with Docker.
            proxy_signals: false,
            detach_keys: keys,
            redraw: false,
        })
        .map_err(|source| Failure::Stream {
            stream: "signals",
            source,
        })?;
        match container::exec(context.engine()?, &name, config).map_err(Failure::Exec)? {
            Some(attached) => run::finish(context, session.run(attached.stream), &name),
            None => Ok(Exit::SUCCESS),
        }
    }
}
