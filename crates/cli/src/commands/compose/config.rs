//! `ketch compose config`.

use std::collections::BTreeSet;

use ketch_compose::{Project, config_hash, selection};

use crate::command::{Arity, Command, Outcome, Refused, Verb};
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::output;

use super::observed::unplannable;
use super::{containers, project};

/// The command.
pub const COMMAND: Command = Command {
    names: &["compose config", "compose convert"],
    usage: "[OPTIONS] [SERVICE...]",
    about: "Parse, resolve and render compose file in canonical format",
    arity: Arity::AtLeast(0),
    refused: &[
        Refused::boolean("lock-image-digests"),
        Refused::boolean("models"),
        Refused::boolean("no-consistency"),
        Refused::boolean("no-env-resolution"),
        Refused::boolean("no-interpolate"),
        Refused::boolean("no-normalize"),
        Refused::boolean("no-path-resolution"),
        Refused::boolean("resolve-image-digests"),
        Refused::boolean("variables"),
    ],
    ..Command::of::<Args>()
};

#[derive(clap::Args)]
struct Args {
    /// Print environment used for interpolation
    #[arg(long)]
    environment: bool,
    /// Format the output. Values: [yaml | json]
    #[arg(long, value_name = "string", default_value = "yaml")]
    format: String,
    /// Print the service config hash, one per line
    #[arg(long, value_name = "string")]
    hash: Option<String>,
    /// Print the image names, one per line
    #[arg(long)]
    images: bool,
    /// Print the network names, one per line
    #[arg(long)]
    networks: bool,
    /// Save to file (default to stdout)
    #[arg(short, long, value_name = "string")]
    output: Option<std::path::PathBuf>,
    /// Print the profile names, one per line
    #[arg(long)]
    profiles: bool,
    /// Only validate the configuration, don't print anything
    #[arg(short, long)]
    quiet: bool,
    /// Print the service names, one per line
    #[arg(long)]
    services: bool,
    /// Print the volume names, one per line
    #[arg(long)]
    volumes: bool,
}

impl Verb for Args {
    fn run(self, context: &Context, services: Vec<String>) -> Outcome {
        let project = project::load(context, &services)?;
        containers::check_services(&project, &services)?;
        let text = self.text(&project, &services)?;
        if self.quiet {
            return Ok(Exit::SUCCESS);
        }
        match &self.output {
            Some(path) => std::fs::write(path, text).map_err(|source| Failure::File {
                action: "write",
                path: path.clone(),
                source,
            })?,
            None => output::print(&text)?,
        }
        Ok(Exit::SUCCESS)
    }
}

impl Args {
    fn text(&self, project: &Project, services: &[String]) -> Result<String, Failure> {
        let selected = selection(project, services, false).map_err(unplannable)?;
        let mut names: BTreeSet<String> = BTreeSet::new();
        if self.services {
            names.extend(selected);
        } else if self.volumes {
            names.extend(project.volumes.keys().cloned());
        } else if self.networks {
            names.extend(project.networks.keys().cloned());
        } else if self.images {
            names.extend(
                selected
                    .iter()
                    .map(|name| project.services[name].image.clone()),
            );
        } else if self.profiles {
            names.extend(project.profiles());
        } else if let Some(wanted) = &self.hash {
            for name in &selected {
                if wanted == "*" || wanted.split(',').any(|word| word == name) {
                    let hash = config_hash(project, &project.services[name]);
                    names.insert(format!("{name} {hash}"));
                }
            }
        } else if self.environment {
            let variables = project.variables.iter();
            names.extend(variables.map(|(name, value)| format!("{name}={value}")));
        } else {
            let project = project.only(&selected);
            return match self.format.as_str() {
                "" | "yaml" => Ok(project.to_yaml()),
                "json" => Ok(format!("{}\n", project.to_json())),
                other => Err(Failure::usage(format!(
                    "unsupported format {other:?}: use yaml or json"
                ))),
            };
        }
        Ok(names.into_iter().map(|name| name + "\n").collect())
    }
}
