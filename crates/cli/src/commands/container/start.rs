//! `ketch start`.

use ketch_engine::container::{self, AttachStreams, StartOptions};

use crate::command::{Arity, Command, Outcome, Refused, Verb};
use crate::context::Context;
use crate::failure::Failure;
use crate::session::{self, Prepared};
use crate::terminal;

use super::run;

/// The command.
pub const COMMAND: Command = Command {
    names: &["container start", "start"],
    usage: "[OPTIONS] CONTAINER [CONTAINER...]",
    about: "Start one or more stopped containers",
    arity: Arity::AtLeast(1),
    refused: &[
        Refused::value("checkpoint"),
        Refused::value("checkpoint-dir"),
    ],
    ..Command::of::<Args>()
};

#[derive(clap::Args)]
struct Args {
    /// Attach STDOUT/STDERR and forward signals
    #[arg(short, long)]
    attach: bool,
    /// Override the key sequence for detaching a container
    #[arg(long, value_name = "string")]
    detach_keys: Option<String>,
    /// Attach container's STDIN
    #[arg(short, long)]
    interactive: bool,
}

impl Verb for Args {
    fn run(self, context: &Context, operands: Vec<String>) -> Outcome {
        if !self.attach && !self.interactive {
            return super::each(context, &operands, |engine, name| {
                container::start(engine, name, StartOptions::default()).map(drop)
            });
        }
        let [name] = operands.as_slice() else {
            return Err(Failure::usage(
                "you cannot start and attach multiple containers at once",
            ));
        };
        let keys = run::keys(context, self.detach_keys.as_deref())?;
        let engine = context.engine()?;
        let id = container::resolve(engine, name)?;
        let (config, state) = container::load(engine, &id)?;
        let tty = config.process.tty;
        let stdin = self.interactive && config.process.open_stdin;
        run::check_terminal(stdin, tty)?;
        let session = Prepared::new(session::Options {
            tty,
            stdin,
            proxy_signals: !tty,
            detach_keys: keys,
            redraw: false,
        })
        .map_err(|source| Failure::Stream {
            stream: "signals",
            source,
        })?;
        let streams = AttachStreams {
            stdin,
            stdout: true,
            stderr: true,
        };
        let attached = if container::load::is_live(state.status) {
            container::attach(engine, name, streams)?
        } else {
            let size = if tty { terminal::session_size() } else { None };
            let options = StartOptions {
                attach: Some(streams),
                size,
            };
            match container::start(engine, id.as_str(), options)? {
                Some(attached) => attached,
                None => {
                    return Err(Failure::usage(format!(
                        "{name} started without its streams"
                    )));
                }
            }
        };
        run::finish(context, session.run(attached.stream), name)
    }
}
