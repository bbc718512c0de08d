//! `ketch push`.

use ketch_engine::image::{self, Silent};
use ketch_spec::Reference;

use crate::command::{Arity, Command, Outcome, Refused, Verb};
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::output;
use crate::pull_progress::{Progress, Sink};

use super::pull::check_trust;

/// The command.
pub const COMMAND: Command = Command {
    names: &["image push", "push"],
    usage: "[OPTIONS] NAME[:TAG]",
    about: "Upload an image to a registry",
    arity: Arity::Exactly(1),
    refused: &[
        Refused::boolean("all-tags").short('a'),
        Refused::value("platform"),
    ],
    ..Command::of::<Args>()
};

#[derive(clap::Args)]
struct Args {
    /// Skip image signing
    #[arg(long, default_value = "true", action = clap::ArgAction::Set)]
    disable_content_trust: bool,
    /// Suppress verbose output
    #[arg(short, long)]
    quiet: bool,
}

impl Verb for Args {
    fn run(self, context: &Context, operands: Vec<String>) -> Outcome {
        check_trust(self.disable_content_trust)?;
        let named = Reference::parse_name(&operands[0])
            .map_err(|error| Failure::usage(error.to_string()))?;
        let is_bare = named.tag.is_none() && named.digest.is_none();
        let reference = named.with_default_tag();
        let engine = context.engine()?;
        if self.quiet {
            image::push(engine, &reference, None, &Silent)?;
            output::print_line(&reference.to_string())?;
            return Ok(Exit::SUCCESS);
        }
        if is_bare {
            output::print_line("Using default tag: latest")?;
        }
        output::print_line(&format!(
            "The push refers to repository [{}]",
            reference.name()
        ))?;
        let pushed = image::push(engine, &reference, None, &Progress::new(Sink::Pushing))?;
        let tag = reference.tag.as_deref().unwrap_or("latest");
        output::print_line(&format!(
            "{tag}: digest: {} size: {}",
            pushed.digest, pushed.size_bytes
        ))?;
        Ok(Exit::SUCCESS)
    }
}
