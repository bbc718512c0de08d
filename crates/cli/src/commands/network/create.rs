//! `ketch network create`.

use ketch_engine::network::{self, NetworkRequest};

use crate::command::{Arity, Command, Outcome, Refused, Verb};
use crate::context::Context;
use crate::create::{label, pair};
use crate::failure::Exit;
use crate::output;

/// The command.
pub const COMMAND: Command = Command {
    names: &["network create"],
    usage: "[OPTIONS] NETWORK",
    about: "Create a network",
    arity: Arity::Exactly(1),
    refused: &[
        Refused::value("config-from"),
        Refused::boolean("config-only"),
        Refused::boolean("ingress"),
        Refused::value("scope"),
    ],
    ..Command::of::<Args>()
};

#[derive(clap::Args)]
struct Args {
    /// Enable manual container attachment
    #[arg(long)]
    attachable: bool,
    /// Auxiliary IPv4 or IPv6 addresses used by Network driver
    #[arg(long, value_name = "map", value_parser = pair)]
    aux_address: Vec<(String, String)>,
    /// Driver to manage the Network
    #[arg(short, long, value_name = "string", default_value = "bridge")]
    driver: String,
    /// IPv4 or IPv6 Gateway for the master subnet
    #[arg(long, value_name = "strings", value_delimiter = ',')]
    gateway: Vec<String>,
    /// Restrict external access to the network
    #[arg(long)]
    internal: bool,
    /// Allocate container ip from a sub-range
    #[arg(long, value_name = "strings", value_delimiter = ',')]
    ip_range: Vec<String>,
    /// IP Address Management Driver
    #[arg(long, value_name = "string", default_value = "default")]
    ipam_driver: String,
    /// Set IPAM driver specific options
    #[arg(long, value_name = "map", value_parser = pair)]
    ipam_opt: Vec<(String, String)>,
    /// Enable or disable IPv4 address assignment
    #[arg(long, default_value = "true", action = clap::ArgAction::Set)]
    ipv4: bool,
    /// Enable or disable IPv6 address assignment
    #[arg(long)]
    ipv6: bool,
    /// Set metadata on a network
    #[arg(long, value_name = "list", value_parser = label)]
    label: Vec<(String, String)>,
    /// Set driver specific options
    #[arg(short, long, value_name = "map", value_parser = pair)]
    opt: Vec<(String, String)>,
    /// Subnet in CIDR format that represents a network segment
    #[arg(long, value_name = "strings", value_delimiter = ',')]
    subnet: Vec<String>,
}

impl Verb for Args {
    fn run(self, context: &Context, operands: Vec<String>) -> Outcome {
        let request = NetworkRequest {
            name: operands.into_iter().next().unwrap_or_default(),
            driver: self.driver,
            subnets: self.subnet,
            gateways: self.gateway,
            ip_ranges: self.ip_range,
            auxiliary: self.aux_address.into_iter().collect(),
            ipam_driver: self.ipam_driver,
            ipam_options: self.ipam_opt.into_iter().collect(),
            internal: self.internal,
            attachable: self.attachable,
            ipv6: self.ipv6,
            without_ipv4: !self.ipv4,
            labels: self.label.into_iter().collect(),
            options: self.opt.into_iter().collect(),
        };
        let record = network::create(context.engine()?, request)?;
        output::print_line(record.id.as_str())?;
        Ok(Exit::SUCCESS)
    }
}
