//! `ketch kill`.

use ketch_engine::container;

use crate::command::{Arity, Command, Outcome, Verb};
use crate::context::Context;

/// The command.
pub const COMMAND: Command = Command {
    names: &["container kill", "kill"],
    usage: "[OPTIONS] CONTAINER [CONTAINER...]",
    about: "Kill one or more running containers",
    arity: Arity::AtLeast(1),
    ..Command::of::<Args>()
};

const SIGKILL: i32 = 9;

#[derive(clap::Args)]
struct Args {
    /// Signal to send to the container
    #[arg(short, long, value_name = "string")]
    signal: Option<String>,
}

impl Verb for Args {
    fn run(self, context: &Context, operands: Vec<String>) -> Outcome {
        let signal = match self.signal.as_deref() {
            None | Some("") => SIGKILL,
            Some(text) => super::signal(text)?,
        };
        super::each(context, &operands, |engine, name| {
            container::kill(engine, name, signal).map(drop)
        })
    }
}
