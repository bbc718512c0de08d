//! `ketch volume create`.

use ketch_engine::volume::{self, VolumeRequest};

use crate::command::{Arity, Command, Outcome, Refused, Verb};
use crate::context::Context;
use crate::create::{label, pair};
use crate::failure::{Exit, Failure};
use crate::output;

/// The command.
pub const COMMAND: Command = Command {
    names: &["volume create"],
    usage: "[OPTIONS] [VOLUME]",
    about: "Create a volume",
    arity: Arity::AtMost(1),
    refused: &[
        Refused::value("availability"),
        Refused::value("group"),
        Refused::value("limit-bytes"),
        Refused::value("required-bytes"),
        Refused::value("scope"),
        Refused::value("secret"),
        Refused::value("sharing"),
        Refused::value("topology-preferred"),
        Refused::value("topology-required"),
        Refused::value("type"),
    ],
    ..Command::of::<Args>()
};

#[derive(clap::Args)]
struct Args {
    /// Specify volume driver name
    #[arg(short, long, value_name = "string", default_value = "local")]
    driver: String,
    /// Set metadata for a volume
    #[arg(long, value_name = "list", value_parser = label)]
    label: Vec<(String, String)>,
    /// Specify volume name
    #[arg(long, value_name = "string", hide = true)]
    name: Option<String>,
    /// Set driver specific options
    #[arg(short, long, value_name = "map", value_parser = pair)]
    opt: Vec<(String, String)>,
}

impl Verb for Args {
    fn run(self, context: &Context, operands: Vec<String>) -> Outcome {
        let operand = operands.into_iter().next();
        if operand.is_some() && self.name.is_some() {
            return Err(Failure::usage(
                "conflicting options: cannot specify a volume-name through both --name and as a positional arg",
            ));
        }
        let request = VolumeRequest {
            name: operand.or(self.name).filter(|name| !name.is_empty()),
            driver: self.driver,
            labels: self.label.into_iter().collect(),
            options: self.opt.into_iter().collect(),
        };
        let volume = volume::create(context.engine()?, request)?;
        output::print_line(&volume.record.name)?;
        Ok(Exit::SUCCESS)
    }
}
