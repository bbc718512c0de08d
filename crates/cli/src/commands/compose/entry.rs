//! `ketch compose` itself: flags before the command, and the command.

use std::ffi::OsString;

use crate::command::{Arity, Command, Outcome, Refused, Verb};
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::{help, output, report};

use super::globals::Flags;

/// The command.
pub const COMMAND: Command = Command {
    names: &["compose"],
    usage: "[OPTIONS] COMMAND",
    about: "Define and run multi-container applications",
    arity: Arity::AtLeast(0),
    interspersed: false,
    short_help: false,
    refused: &[
        Refused::boolean("compatibility"),
        Refused::value("workdir"),
        Refused::boolean("verbose"),
    ],
    ..Command::of::<Args>()
};

#[derive(clap::Args)]
struct Args {
    /// Show the compose version information
    #[arg(short, long)]
    version: bool,
    /// Print usage
    #[arg(short = 'h', hide = true)]
    short_help: bool,
    #[command(flatten)]
    flags: Flags,
}

impl Verb for Args {
    fn run(self, context: &Context, operands: Vec<String>) -> Outcome {
        if self.version {
            output::print_line(&super::version::line())?;
            return Ok(Exit::SUCCESS);
        }
        if self.short_help {
            help::command(&COMMAND, context.invocation())?;
            output::print(&format!("\n{}", super::page()))?;
            return Ok(Exit::SUCCESS);
        }
        let globals = self.flags.globals()?;
        let Some((name, words)) = operands.split_first() else {
            output::warn(super::page().trim_end());
            return Ok(Exit::FAILURE);
        };
        if name == "help" {
            output::print(&super::page())?;
            return Ok(Exit::SUCCESS);
        }
        let Some(command) = crate::commands::find(&["compose", name]) else {
            return Err(unknown(name));
        };
        let invocation = format!("{} {name}", context.invocation());
        let own = Context::new(invocation, context.options().clone()).with_compose(globals);
        let words: Vec<OsString> = words.iter().map(OsString::from).collect();
        command.invoke(&own, &words).map_err(|failure| {
            let debug = own.options().debug;
            Failure::Told(report::failure(&failure, command, own.invocation(), debug).0)
        })
    }
}

/// A command that we do not have, or that nobody has.
fn unknown(name: &str) -> Failure {
    if super::REFUSED.contains(&name) {
        return Failure::usage(format!("ketch compose {name} is not supported"));
    }
    Failure::usage(format!(
        "unknown compose command: {name:?}\n\nRun 'ketch compose --help' for more information"
    ))
}
