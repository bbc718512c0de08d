//! `ketch inspect`: an object of any kind, and what the `inspect` of each kind shares.

use ketch_engine::{Engine, Error, ErrorKind, image, network, volume};
use serde_json::Value;

use crate::command::{Arity, Command, Outcome, Verb};
use crate::commands::container::inspect_value;
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::format::inspect::Format;
use crate::{output, report};

/// The command.
pub const COMMAND: Command = Command {
    names: &["inspect"],
    usage: "[OPTIONS] NAME|ID [NAME|ID...]",
    about: "Return low-level information on Docker objects",
    arity: Arity::AtLeast(1),
    ..Command::of::<Args>()
};

#[derive(clap::Args)]
struct Args {
    /// Format output: 'json' or a Go template
    #[arg(short, long, value_name = "string", default_value = "")]
    format: String,
    /// Display total file sizes if the type is container
    #[arg(short, long)]
    size: bool,
    /// Only inspect objects of the given type
    #[arg(long = "type", value_name = "string", default_value = "")]
    kind: String,
}

/// Kinds that are tried, in Docker's order.
const KINDS: [&str; 4] = ["container", "image", "network", "volume"];

impl Verb for Args {
    fn run(self, context: &Context, operands: Vec<String>) -> Outcome {
        let kinds: Vec<&str> = match self.kind.as_str() {
            "" => KINDS.to_vec(),
            kind if KINDS.contains(&kind) => vec![kind],
            other => {
                return Err(Failure::usage(format!(
                    "unknown type: {other:?}: must be one of \"container\", \"image\", \"network\", \"volume\""
                )));
            }
        };
        let wants_size = self.size;
        print(context, &self.format, &operands, |engine, name| {
            for kind in &kinds {
                match find(engine, kind, name, wants_size) {
                    // An ambiguous or impossible name of one kind may be a name of the next.
                    Err(error) if kinds.len() > 1 && is_absent(&error) => {}
                    other => return other,
                }
            }
            Err(Error::new(
                ErrorKind::NotFound,
                format!("No such object: {name}"),
            ))
        })
    }
}

fn is_absent(error: &Error) -> bool {
    matches!(error.kind, ErrorKind::NotFound | ErrorKind::Invalid)
}

fn find(engine: &Engine, kind: &str, name: &str, wants_size: bool) -> Result<Value, Error> {
    match kind {
        "container" => inspect_value(engine, name, wants_size),
        "image" => image::inspect(engine, name, None),
        "network" => network::inspect(engine, name),
        _ => volume::inspect(engine, name),
    }
}

/// Prints what `find` gives for each operand. Objects found are printed even if others are not there.
///
/// # Errors
/// The template; what is missing is told here and makes the exit code 1.
pub fn print(
    context: &Context,
    format: &str,
    operands: &[String],
    find: impl Fn(&Engine, &str) -> Result<Value, Error>,
) -> Outcome {
    let format = Format::new(format)?;
    let engine = context.engine()?;
    let mut objects = Vec::new();
    let mut failures = Vec::new();
    for operand in operands {
        match find(engine, operand) {
            Ok(object) => objects.push(object),
            Err(error) => failures.push(Failure::Engine(error)),
        }
    }
    let (text, failure) = format.render(&objects);
    output::print(&text)?;
    for failure in &failures {
        report::item(failure, context.options().debug);
    }
    match failure {
        Some(failure) => Err(failure),
        None if failures.is_empty() => Ok(Exit::SUCCESS),
        None => Ok(Exit::FAILURE),
    }
}
