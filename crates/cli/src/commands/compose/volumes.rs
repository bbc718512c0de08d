//! `ketch compose volumes`.

use std::collections::BTreeSet;

use ketch_compose::PROJECT;
use ketch_engine::volume;

use crate::command::{Arity, Command, Outcome, Verb};
use crate::context::Context;
use crate::failure::Exit;
use crate::format::{Listing, Row};
use crate::output;

use super::{containers, project};

/// The command.
pub const COMMAND: Command = Command {
    names: &["compose volumes"],
    usage: "[OPTIONS] [SERVICE...]",
    about: "List volumes",
    arity: Arity::AtLeast(0),
    ..Command::of::<Args>()
};

#[derive(clap::Args)]
struct Args {
    /// Format output: 'table', 'table TEMPLATE', 'json', or a Go template
    #[arg(long, value_name = "string", default_value = "table")]
    format: String,
    /// Only display volume names
    #[arg(short, long)]
    quiet: bool,
}

const LISTING: Listing<'static> = Listing {
    headers: &[
        ("Name", "VOLUME NAME"),
        ("Driver", "DRIVER"),
        ("Mountpoint", "MOUNTPOINT"),
        ("Labels", "LABELS"),
    ],
    table: r"{{.Driver}}\t{{.Name}}",
    quiet: "{{.Name}}",
    raw: r"name: {{.Name}}\ndriver: {{.Driver}}\n",
};

impl Verb for Args {
    fn run(self, context: &Context, services: Vec<String>) -> Outcome {
        let project = project::load_or_name(context, &services)?;
        containers::check_services(&project, &services)?;
        let used: BTreeSet<&String> = services
            .iter()
            .filter_map(|name| project.services.get(name))
            .flat_map(|service| &service.volumes)
            .filter_map(|key| project.volumes.get(key))
            .map(|volume| &volume.name)
            .collect();
        let rows: Vec<Row> = volume::list(context.engine()?)?
            .iter()
            .filter(|volume| volume.record.labels.get(PROJECT) == Some(&project.name))
            .filter(|volume| services.is_empty() || used.contains(&volume.record.name))
            .map(|volume| {
                Row::new()
                    .with("Name", volume.record.name.as_str())
                    .with("Driver", volume::DRIVER)
                    .with("Mountpoint", volume.mountpoint.display().to_string())
                    .with_labels(&volume.record.labels)
            })
            .collect();
        output::print(&LISTING.render(&rows, &self.format, self.quiet)?)?;
        Ok(Exit::SUCCESS)
    }
}
