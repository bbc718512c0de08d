//! `ketch compose ls`: projects, found by the labels of their containers.

use std::collections::BTreeMap;

use ketch_compose::PROJECT;
use ketch_engine::container;
use serde_json::json;

use crate::command::{Command, Outcome, Verb};
use crate::context::Context;
use crate::failure::Exit;
use crate::filter::{self, Filter};
use crate::format::{Listing, Row};
use crate::output;

/// The command.
pub const COMMAND: Command = Command {
    names: &["compose ls"],
    usage: "[OPTIONS]",
    about: "List running compose projects",
    ..Command::of::<Args>()
};

#[derive(clap::Args)]
struct Args {
    /// Show all stopped Compose projects
    #[arg(short, long)]
    all: bool,
    /// Filter output based on conditions provided
    #[arg(long, value_name = "filter")]
    filter: Vec<Filter>,
    /// Format the output. Values: [table | json]
    #[arg(long, value_name = "string", default_value = "table")]
    format: String,
    /// Only display project names
    #[arg(short, long)]
    quiet: bool,
}

const LISTING: Listing<'static> = Listing {
    headers: &[
        ("Name", "NAME"),
        ("Status", "STATUS"),
        ("ConfigFiles", "CONFIG FILES"),
    ],
    table: r"{{.Name}}\t{{.Status}}\t{{.ConfigFiles}}",
    quiet: "{{.Name}}",
    raw: r"{{.Name}}\n",
};

#[derive(Default)]
struct Found {
    states: BTreeMap<&'static str, usize>,
    files: String,
}

impl Found {
    /// `exited(1), running(2)`.
    fn status(&self) -> String {
        let states = self.states.iter();
        let texts: Vec<String> = states
            .map(|(state, count)| format!("{state}({count})"))
            .collect();
        texts.join(", ")
    }
}

impl Verb for Args {
    fn run(self, context: &Context, _: Vec<String>) -> Outcome {
        let filters = filter::collect(self.filter, &["name"])?;
        let mut projects: BTreeMap<String, Found> = BTreeMap::new();
        for container in container::list(context.engine()?)? {
            let labels = &container.config.labels;
            let Some(name) = labels.get(PROJECT) else {
                continue;
            };
            let found = projects.entry(name.clone()).or_default();
            *found
                .states
                .entry(container.state.status.name())
                .or_default() += 1;
            if let Some(files) = labels.get("com.docker.compose.project.config_files") {
                found.files.clone_from(files);
            }
        }
        projects.retain(|name, found| {
            let runs = found.states.contains_key("running")
                || found.states.contains_key("restarting")
                || found.states.contains_key("paused");
            (self.all || runs) && filters.any("name", |wanted| name.contains(wanted))
        });
        if self.format == "json" && !self.quiet {
            let all: Vec<_> = projects
                .iter()
                .map(|(name, found)| {
                    json!({"Name": name, "Status": found.status(), "ConfigFiles": found.files})
                })
                .collect();
            output::print_line(&json!(all).to_string())?;
            return Ok(Exit::SUCCESS);
        }
        let rows: Vec<Row> = projects
            .iter()
            .map(|(name, found)| {
                Row::new()
                    .with("Name", name.as_str())
                    .with("Status", found.status())
                    .with("ConfigFiles", found.files.as_str())
            })
            .collect();
        output::print(&LISTING.render(&rows, &self.format, self.quiet)?)?;
        Ok(Exit::SUCCESS)
    }
}
