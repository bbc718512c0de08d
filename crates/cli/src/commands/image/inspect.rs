//! `ketch image inspect`.

use ketch_engine::image;

use crate::command::{Arity, Command, Outcome, Verb};
use crate::commands::system::inspect;
use crate::context::Context;
use crate::platforms;

/// The command.
pub const COMMAND: Command = Command {
    names: &["image inspect"],
    usage: "[OPTIONS] IMAGE [IMAGE...]",
    about: "Display detailed information on one or more images",
    arity: Arity::AtLeast(1),
    ..Command::of::<Args>()
};

#[derive(clap::Args)]
struct Args {
    /// Format output: 'json' or a Go template
    #[arg(short, long, value_name = "string", default_value = "")]
    format: String,
    /// Inspect a specific platform of the multi-platform image ('os[/arch[/variant]]')
    #[arg(long, value_name = "string")]
    platform: Option<String>,
}

impl Verb for Args {
    fn run(self, context: &Context, operands: Vec<String>) -> Outcome {
        let platform = platforms::one(self.platform.as_deref())?;
        inspect::print(context, &self.format, &operands, |engine, name| {
            image::inspect(engine, name, platform.as_ref())
        })
    }
}
