//! `ketch container inspect`.

use ketch_engine::{Engine, Result, container};
use serde_json::Value;

use crate::command::{Arity, Command, Outcome, Verb};
use crate::commands::system::inspect;
use crate::context::Context;

/// The command.
pub const COMMAND: Command = Command {
    names: &["container inspect"],
    usage: "[OPTIONS] CONTAINER [CONTAINER...]",
    about: "Display detailed information on one or more containers",
    arity: Arity::AtLeast(1),
    ..Command::of::<Args>()
};

#[derive(clap::Args)]
struct Args {
    /// Format output: 'json' or a Go template
    #[arg(short, long, value_name = "string", default_value = "")]
    format: String,
    /// Display total file sizes
    #[arg(short, long)]
    size: bool,
}

impl Verb for Args {
    fn run(self, context: &Context, operands: Vec<String>) -> Outcome {
        let wants_size = self.size;
        inspect::print(context, &self.format, &operands, |engine, name| {
            inspect_value(engine, name, wants_size)
        })
    }
}

/// Docker's container JSON, with the sizes if they are asked for.
pub fn inspect_value(engine: &Engine, name: &str, wants_size: bool) -> Result<Value> {
    let mut value = container::inspect(engine, name)?;
    if wants_size && let Some(map) = value.as_object_mut() {
        let sizes = container::size(engine, &container::resolve(engine, name)?)?;
        map.insert("SizeRw".into(), sizes.writable_bytes.into());
        map.insert("SizeRootFs".into(), sizes.total_bytes.into());
    }
    Ok(value)
}
