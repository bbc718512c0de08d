//! `ketch compose version`.

use serde_json::json;

use crate::command::{Command, Outcome, Verb};
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::{VERSION, output};

/// The command.
pub const COMMAND: Command = Command {
    names: &["compose version"],
    usage: "[OPTIONS]",
    about: "Show the compose version information",
    ..Command::of::<Args>()
};

#[derive(clap::Args)]
struct Args {
    /// Format the output. Values: [pretty | json]
    #[arg(short, long, value_name = "string", default_value = "pretty")]
    format: String,
    /// Shows only the version number
    #[arg(long)]
    short: bool,
}

/// The line that says which version this is.
pub fn line() -> String {
    format!("ketch compose version {VERSION}")
}

impl Verb for Args {
    fn run(self, _: &Context, _: Vec<String>) -> Outcome {
        let text = match self.format.as_str() {
            _ if self.short => VERSION.to_owned(),
            "" | "pretty" => line(),
            "json" => json!({"version": VERSION}).to_string(),
            other => {
                return Err(Failure::usage(format!(
                    "format value {other:?} could not be parsed"
                )));
            }
        };
        output::print_line(&text)?;
        Ok(Exit::SUCCESS)
    }
}
