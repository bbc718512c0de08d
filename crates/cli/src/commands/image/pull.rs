//! `ketch pull`.

use ketch_engine::image::{Repository, Silent};
use ketch_spec::{Platform, Reference};

use crate::command::{Arity, Command, Outcome, Verb};
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
    ..Command::of::<Args>()
};

#[derive(clap::Args)]
struct Args {
    /// Download all tagged images in the repository
    #[arg(short, long)]
    all_tags: bool,
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
        if self.all_tags && !is_bare {
            return Err(Failure::usage("tag can't be used with --all-tags/-a"));
        }
        let platform = self
            .platform
            .clone()
            .or_else(|| std::env::var("DOCKER_DEFAULT_PLATFORM").ok())
            .filter(|text| !text.is_empty())
            .map(|text| text.parse::<Platform>())
            .transpose()
            .map_err(|error| wrong(&error))?;
        let repository = Repository::open(context.engine()?, &named)?;
        if self.all_tags {
            let newer = self.pull_all(&repository, platform.as_ref())?;
            if !self.quiet {
                status(newer, &named.familiar_name())?;
            }
            output::print_line(&named.name())?;
            return Ok(Exit::SUCCESS);
        }
        let reference = named.with_default_tag();
        if is_bare && !self.quiet {
            output::print_line("Using default tag: latest")?;
        }
        let newer = self.pull_one(&repository, &reference, platform.as_ref())?;
        if !self.quiet {
            status(newer, &reference.familiar())?;
        }
        output::print_line(&reference.to_string())?;
        Ok(Exit::SUCCESS)
    }
}

impl Args {
    /// One tag after the other; whether any is new.
    fn pull_all(
        &self,
        repository: &Repository<'_>,
        platform: Option<&Platform>,
    ) -> Result<bool, Failure> {
        let mut newer = false;
        for reference in repository.tags()? {
            newer |= self.pull_one(repository, &reference, platform)?;
        }
        Ok(newer)
    }

    /// Shows progress and the digest; whether the image is new.
    fn pull_one(
        &self,
        repository: &Repository<'_>,
        reference: &Reference,
        platform: Option<&Platform>,
    ) -> Result<bool, Failure> {
        if self.quiet {
            return Ok(repository.pull(reference, platform, &Silent)?.newer);
        }
        let progress = Progress::new(Sink::Stdout);
        let pulled = repository.pull(reference, platform, &progress)?;
        output::print_line(&format!("Digest: {}", pulled.digest))?;
        Ok(pulled.newer)
    }
}

fn status(newer: bool, name: &str) -> Result<(), Failure> {
    let status = if newer {
        "Downloaded newer image"
    } else {
        "Image is up to date"
    };
    output::print_line(&format!("Status: {status} for {name}"))
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
