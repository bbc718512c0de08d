//! `ketch network connect`.

use std::net::{Ipv4Addr, Ipv6Addr};

use ketch_engine::container::config::EndpointConfig;
use ketch_engine::network;

use crate::command::{Arity, Command, Outcome, Refused, Verb};
use crate::context::Context;
use crate::failure::Exit;

/// The command.
pub const COMMAND: Command = Command {
    names: &["network connect"],
    usage: "[OPTIONS] NETWORK CONTAINER",
    about: "Connect a container to a network",
    arity: Arity::Exactly(2),
    refused: &[
        Refused::value("driver-opt"),
        Refused::value("gw-priority"),
        Refused::value("link"),
        Refused::value("link-local-ip"),
    ],
    ..Command::of::<Args>()
};

#[derive(clap::Args)]
struct Args {
    /// Add network-scoped alias for the container
    #[arg(long, value_name = "strings", value_delimiter = ',')]
    alias: Vec<String>,
    /// IPv4 address (e.g., "172.30.100.104")
    #[arg(long, value_name = "string")]
    ip: Option<Ipv4Addr>,
    /// IPv6 address (e.g., "2001:db8::33")
    #[arg(long, value_name = "string")]
    ip6: Option<Ipv6Addr>,
}

impl Verb for Args {
    fn run(self, context: &Context, operands: Vec<String>) -> Outcome {
        let endpoint = EndpointConfig {
            network: operands[0].clone(),
            aliases: self.alias,
            ipv4: self.ip,
            ipv6: self.ip6,
            mac: None,
        };
        network::connect(context.engine()?, &operands[0], &operands[1], endpoint)?;
        Ok(Exit::SUCCESS)
    }
}
