//! `ketch push`.

use ketch_engine::image::{Repository, Silent};
use ketch_spec::{Platform, Reference};

use crate::command::{Arity, Command, Outcome, Verb};
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
    ..Command::of::<Args>()
};

#[derive(clap::Args)]
struct Args {
    /// Push all tags of an image to the repository
    #[arg(short, long)]
    all_tags: bool,
    /// Skip image signing
    #[arg(long, default_value = "true", action = clap::ArgAction::Set)]
    disable_content_trust: bool,
    /// Push a platform-specific manifest as a single-platform image to the registry.
    #[arg(long, value_name = "string")]
    platform: Option<String>,
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
        if self.all_tags && !is_bare {
            return Err(Failure::usage("tag can't be used with --all-tags/-a"));
        }
        if named.digest.is_some() {
            return Err(Failure::usage("cannot push a digest reference"));
        }
        let platform = self
            .platform
            .as_deref()
            .map(str::parse::<Platform>)
            .transpose()
            .map_err(|error| Failure::usage(error.to_string()))?;
        let repository = Repository::open(context.engine()?, &named)?;
        let references = if self.all_tags {
            repository.local_tags()?
        } else {
            vec![named.clone().with_default_tag()]
        };
        if !self.quiet {
            if is_bare && !self.all_tags {
                output::print_line("Using default tag: latest")?;
            }
            output::print_line(&format!("The push refers to repository [{}]", named.name()))?;
        }
        for reference in &references {
            self.push_one(&repository, reference, platform.as_ref())?;
        }
        if self.quiet {
            let whole = if self.all_tags {
                named.name()
            } else {
                named.with_default_tag().to_string()
            };
            output::print_line(&whole)?;
        }
        Ok(Exit::SUCCESS)
    }
}

impl Args {
    fn push_one(
        &self,
        repository: &Repository<'_>,
        reference: &Reference,
        platform: Option<&Platform>,
    ) -> Result<(), Failure> {
        if self.quiet {
            repository.push(reference, platform, &Silent)?;
            return Ok(());
        }
        let pushed = repository.push(reference, platform, &Progress::new(Sink::Pushing))?;
        let tag = reference.tag.as_deref().unwrap_or("latest");
        output::print_line(&format!(
            "{tag}: digest: {} size: {}",
            pushed.digest, pushed.size_bytes
        ))
    }
}
