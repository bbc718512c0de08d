//! `ketch pull`.

use ketch_engine::image::{self, Silent};
use ketch_spec::{Platform, Reference};

use crate::command::{Arity, Command, Outcome, Refused, Verb};
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::output;
use crate::pull_progress::{Progress, Sink};

/// The command.
pub const COMMAND: Command = Command {
    names: &["image pull", "pull"],
    usage: "[OPTIONS] NAME[:TAG|@DIGEST]",
    about: "Download an image from a registry",
    arity: Arity::Exactly(1),
    refused: &[Refused::boolean("all-tags").short('a')],
    ..Command::of::<Args>()
};

#[derive(clap::Args)]
struct Args {
    /// Skip image verification
    #[arg(long, default_value = "true", action = clap::ArgAction::Set)]
    disable_content_trust: bool,
    /// Set platform if server is multi-platform capable
    #[arg(long, value_name = "string")]
    platform: Option<String>,
    /// Suppress verbose output
    #[arg(short, long)]
    quiet: bool,
}

impl Verb for Args {
    fn run(self, context: &Context, operands: Vec<String>) -> Outcome {
        check_trust(self.disable_content_trust)?;
        let wrong = |error: &dyn std::fmt::Display| Failure::usage(error.to_string());
        let named = Reference::parse_name(&operands[0]).map_err(|error| wrong(&error))?;
        let is_bare = named.tag.is_none() && named.digest.is_none();
        let reference = named.with_default_tag();
        let platform = self
            .platform
            .or_else(|| std::env::var("DOCKER_DEFAULT_PLATFORM").ok())
            .filter(|text| !text.is_empty())
            .map(|text| text.parse::<Platform>())
            .transpose()
            .map_err(|error| wrong(&error))?;
        let engine = context.engine()?;
        if self.quiet {
            image::pull(engine, &reference, platform.as_ref(), &Silent)?;
        } else {
            if is_bare {
                output::print_line("Using default tag: latest")?;
            }
            let progress = Progress::new(Sink::Stdout);
            let pulled = image::pull(engine, &reference, platform.as_ref(), &progress)?;
            let status = if pulled.newer {
                "Downloaded newer image"
            } else {
                "Image is up to date"
            };
            output::print(&format!(
                "Digest: {}\nStatus: {status} for {}\n",
                pulled.digest,
                reference.familiar()
            ))?;
        }
        output::print_line(&reference.to_string())?;
        Ok(Exit::SUCCESS)
    }
}

/// There is no Notary: skipping its verification is all that can be done.
pub fn check_trust(disable: bool) -> Result<(), Failure> {
    if disable {
        Ok(())
    } else {
        Err(Failure::request(
            "--disable-content-trust=false is not supported",
        ))
    }
}
