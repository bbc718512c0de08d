//! `ketch logout`.

use ketch_engine::registry;

use super::server_name;
use crate::command::{Arity, Command, Outcome, Verb};
use crate::context::Context;
use crate::failure::Exit;
use crate::output;

/// The command.
pub const COMMAND: Command = Command {
    names: &["logout"],
    usage: "[SERVER]",
    about: "Log out from a registry",
    details: "If no server is specified, the default is Docker Hub.",
    arity: Arity::AtMost(1),
    ..Command::of::<Args>()
};

#[derive(clap::Args)]
struct Args {}

impl Verb for Args {
    fn run(self, context: &Context, operands: Vec<String>) -> Outcome {
        let server = operands.first().map_or("", String::as_str);
        let host = registry::host_of_server(server)?;
        output::print_line(&format!(
            "Removing login credentials for {}",
            server_name(&host)
        ))?;
        registry::logout(&context.registries(), &host)?;
        Ok(Exit::SUCCESS)
    }
}
