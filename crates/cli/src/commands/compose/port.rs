//! `ketch compose port`.

use ketch_engine::container;
use ketch_spec::port::parse_expose;

use crate::command::{Arity, Command, Outcome, Verb, integer};
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::output;

use super::{containers, project};

/// The command.
pub const COMMAND: Command = Command {
    names: &["compose port"],
    usage: "[OPTIONS] SERVICE PRIVATE_PORT",
    about: "Print the public port for a port binding",
    arity: Arity::Exactly(2),
    ..Command::of::<Args>()
};

#[derive(clap::Args)]
struct Args {
    /// Index of the container if service has multiple replicas
    #[arg(long, value_name = "int", value_parser = integer, default_value = "0")]
    index: i64,
    /// tcp or udp
    #[arg(long, value_name = "string", default_value = "tcp")]
    protocol: String,
}

impl Verb for Args {
    fn run(self, context: &Context, operands: Vec<String>) -> Outcome {
        let services = &operands[..1];
        let project = project::load_or_name(context, services)?;
        containers::check_services(&project, services)?;
        let member = containers::running(context, &project, &operands[0], self.index)?;
        let text = format!("{}/{}", operands[1], self.protocol);
        let wanted = match parse_expose(&text).as_deref() {
            Ok([port]) => *port,
            _ => return Err(Failure::usage(format!("invalid port: {text}"))),
        };
        let config = &member.container.config;
        let published = container::port(context.engine()?, config.id.as_str())?;
        let found = published.iter().find(|(port, _)| *port == wanted);
        match found {
            Some((_, address)) => output::print_line(&address.to_string())?,
            None => {
                return Err(Failure::usage(format!(
                    "no port {text} for container {}",
                    config.name
                )));
            }
        }
        Ok(Exit::SUCCESS)
    }
}
