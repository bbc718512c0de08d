//! `ketch port`.

use std::net::SocketAddr;

use ketch_engine::container;
use ketch_spec::port::{Port, parse_expose};

use crate::command::{Arity, Command, Outcome, Verb};
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::output;

/// The command.
pub const COMMAND: Command = Command {
    names: &["container port", "port"],
    usage: "CONTAINER [PRIVATE_PORT[/PROTO]]",
    about: "List port mappings or a specific mapping for the container",
    arity: Arity::Between(1, 2),
    ..Command::of::<Args>()
};

#[derive(clap::Args)]
struct Args {}

impl Verb for Args {
    fn run(self, context: &Context, operands: Vec<String>) -> Outcome {
        let mut all: Vec<(Port, SocketAddr)> = container::port(context.engine()?, &operands[0])?;
        all.sort();
        let Some(wanted) = operands.get(1) else {
            let lines: Vec<String> = all
                .iter()
                .map(|(port, address)| format!("{port} -> {address}\n"))
                .collect();
            output::print(&lines.concat())?;
            return Ok(Exit::SUCCESS);
        };
        let port = match parse_expose(wanted).as_deref() {
            Ok([port]) => *port,
            _ => {
                return Err(Failure::usage(format!(
                    "Error: Invalid port number: {wanted}"
                )));
            }
        };
        let lines: Vec<String> = all
            .iter()
            .filter(|(own, _)| *own == port)
            .map(|(_, address)| format!("{address}\n"))
            .collect();
        if lines.is_empty() {
            return Err(Failure::usage(format!(
                "Error: No public port '{wanted}' published for {}",
                operands[0]
            )));
        }
        output::print(&lines.concat())?;
        Ok(Exit::SUCCESS)
    }
}
