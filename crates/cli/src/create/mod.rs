//! The flags that `run` and `create` share, and the [`CreateRequest`] they make: a pure function of the words, the
//! working directory, the environment and the files that flags name.

use std::path::PathBuf;

use ketch_engine::container::request::{CreateRequest, PullPolicy};
use ketch_spec::Id;

use crate::failure::Failure;

mod health;
mod mounts;
mod network;
mod process;
mod resources;
mod security;
#[cfg(test)]
mod tests;

pub use network::extra_host;
pub use process::{environment, variable};

/// What the flags are read against.
pub struct Surroundings<'a> {
    /// Absolute working directory.
    pub cwd: &'a str,
    /// A variable of our environment.
    pub variable: &'a dyn Fn(&str) -> Option<String>,
    /// Finds a container by name, for `container:NAME`.
    pub resolve: &'a dyn Fn(&str) -> Result<Id, Failure>,
    /// Variables of configured proxies.
    pub proxies: &'a [String],
}

/// All flags of `create`.
#[derive(clap::Args)]
pub struct CreateFlags {
    /// Assign a name to the container
    #[arg(long, value_name = "string")]
    name: Option<String>,
    /// Set platform if server is multi-platform capable
    #[arg(long, value_name = "string")]
    platform: Option<String>,
    /// Pull image before creating ("always", "missing", "never")
    #[arg(long, value_name = "string", default_value = "missing")]
    pull: String,
    /// Suppress the pull output
    #[arg(short, long)]
    pub quiet: bool,
    /// Write the container ID to the file
    #[arg(long, value_name = "string")]
    pub cidfile: Option<PathBuf>,
    /// Attach to STDIN, STDOUT or STDERR
    #[arg(short, long, value_name = "list", value_parser = stream)]
    pub attach: Vec<Stream>,
    /// Skip image verification
    #[arg(long, default_value = "true", action = clap::ArgAction::Set)]
    disable_content_trust: bool,
    #[command(flatten)]
    process: process::Flags,
    #[command(flatten)]
    mounts: mounts::Flags,
    #[command(flatten)]
    network: network::Flags,
    #[command(flatten)]
    resources: resources::Flags,
    #[command(flatten)]
    security: security::Flags,
    #[command(flatten)]
    health: health::Flags,
}

/// A standard stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard input.
    Stdin,
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

fn stream(text: &str) -> Result<Stream, String> {
    match text.to_lowercase().as_str() {
        "stdin" => Ok(Stream::Stdin),
        "stdout" => Ok(Stream::Stdout),
        "stderr" => Ok(Stream::Stderr),
        _ => Err("valid streams are STDIN, STDOUT and STDERR".into()),
    }
}

impl CreateFlags {
    /// Whether `-i` was given.
    pub fn interactive(&self) -> bool {
        self.process.interactive
    }

    /// Whether `-t` was given.
    pub fn tty(&self) -> bool {
        self.process.tty
    }

    /// Turns the flags and operands (image, command, arguments) into the engine's request.
    ///
    /// # Errors
    /// [`Failure::Request`] for values and combinations that are wrong, [`Failure::File`] for files that flags name.
    pub fn request(
        self,
        operands: Vec<String>,
        around: &Surroundings<'_>,
    ) -> Result<CreateRequest, Failure> {
        let mut words = operands.into_iter();
        let image = words.next().unwrap_or_default();
        if !self.disable_content_trust {
            return Err(Failure::request(
                "--disable-content-trust=false is not supported",
            ));
        }
        let mut request = CreateRequest {
            name: self.name.filter(|name| !name.is_empty()),
            image,
            platform: self
                .platform
                .or_else(|| (around.variable)("DOCKER_DEFAULT_PLATFORM"))
                .filter(|platform| !platform.is_empty()),
            pull: pull_policy(&self.pull)?,
            command: words.collect(),
            ..CreateRequest::default()
        };
        self.process.apply(&mut request, around)?;
        self.mounts.apply(&mut request, around)?;
        self.network.apply(&mut request)?;
        self.resources.apply(&mut request)?;
        self.security.apply(&mut request, around)?;
        request.health = self.health.check()?;
        Ok(request)
    }
}

fn pull_policy(text: &str) -> Result<PullPolicy, Failure> {
    match text {
        "always" => Ok(PullPolicy::Always),
        "missing" | "" => Ok(PullPolicy::Missing),
        "never" => Ok(PullPolicy::Never),
        other => Err(Failure::request(format!(
            "invalid pull option: '{other}': must be one of \"always\", \"missing\" or \"never\""
        ))),
    }
}

/// `key=value` fields of one flag; a quoted field may hold commas.
fn csv(text: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut quoted = false;
    for letter in text.chars() {
        match letter {
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(String::new()),
            other => fields.last_mut().expect("there is a field").push(other),
        }
    }
    fields
}

/// Value parser of `key=value`.
pub fn pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = text
        .split_once('=')
        .ok_or_else(|| format!("invalid option '{text}': expected key=value"))?;
    if key.is_empty() {
        return Err(format!("invalid option '{text}': empty name"));
    }
    Ok((key.to_owned(), value.to_owned()))
}

/// Value parser of `--label`: `key` or `key=value`.
pub fn label(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').unwrap_or((text, ""));
    if key.trim().is_empty() {
        return Err(format!("invalid label '{text}': empty name"));
    }
    Ok((key.to_owned(), value.to_owned()))
}

/// Value parser of sizes in bytes.
pub fn bytes(text: &str) -> Result<u64, String> {
    ketch_spec::size::parse_bytes(text).map_err(|error| error.to_string())
}
