//! `ketch attach`.

use ketch_engine::container::{self, AttachStreams, Status};

use crate::command::{Arity, Command, Outcome, Verb};
use crate::context::Context;
use crate::failure::Failure;
use crate::session::{self, Prepared};

use super::run;

/// The command.
pub const COMMAND: Command = Command {
    names: &["container attach", "attach"],
    usage: "[OPTIONS] CONTAINER",
    about: "Attach local standard input, output, and error streams to a running container",
    arity: Arity::Exactly(1),
    ..Command::of::<Args>()
};

#[derive(clap::Args)]
struct Args {
    /// Override the key sequence for detaching a container
    #[arg(long, value_name = "string")]
    detach_keys: Option<String>,
    /// Do not attach STDIN
    #[arg(long)]
    no_stdin: bool,
    /// Proxy all received signals to the process
    #[arg(long, default_value = "true", action = clap::ArgAction::Set)]
    sig_proxy: bool,
}

impl Verb for Args {
    fn run(self, context: &Context, operands: Vec<String>) -> Outcome {
        let engine = context.engine()?;
        let name = &operands[0];
        let keys = run::keys(context, self.detach_keys.as_deref())?;
        let (config, state) = container::load(engine, &container::resolve(engine, name)?)?;
        match state.status {
            Status::Running => {}
            Status::Paused => {
                return Err(Failure::usage(
                    "cannot attach to a paused container, unpause it first",
                ));
            }
            Status::Restarting => {
                return Err(Failure::usage(
                    "cannot attach to a restarting container, wait until it is running",
                ));
            }
            Status::Created | Status::Exited | Status::Dead => {
                return Err(Failure::usage(
                    "cannot attach to a stopped container, start it first",
                ));
            }
        }
        let stdin = !self.no_stdin && config.process.open_stdin;
        let tty = config.process.tty;
        run::check_terminal(stdin, tty)?;
        let session = Prepared::new(session::Options {
            tty,
            stdin,
            proxy_signals: self.sig_proxy && !tty,
            detach_keys: keys,
            redraw: true,
        })
        .map_err(|source| Failure::Stream {
            stream: "signals",
            source,
        })?;
        let attached = container::attach(
            engine,
            name,
            AttachStreams {
                stdin,
                stdout: true,
                stderr: true,
            },
        )?;
        run::finish(context, session.run(attached.stream), name)
    }
}
