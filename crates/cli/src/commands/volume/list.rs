//! `ketch volume ls`.

use ketch_engine::volume::{self, Volume};

use crate::command::{Command, Outcome, Refused, Verb};
use crate::context::Context;
use crate::failure::Exit;
use crate::filter::{self, Filter};
use crate::format::{self, Listing, Row};
use crate::output;

/// The command.
pub const COMMAND: Command = Command {
    names: &["volume ls", "volume list"],
    usage: "[OPTIONS]",
    about: "List volumes",
    refused: &[Refused::boolean("cluster")],
    ..Command::of::<Args>()
};

#[derive(clap::Args)]
struct Args {
    /// Provide filter values (e.g. "dangling=true")
    #[arg(short, long, value_name = "filter")]
    filter: Vec<Filter>,
    /// Format output: 'table', 'table TEMPLATE', 'json', or a Go template
    #[arg(long, value_name = "string")]
    format: Option<String>,
    /// Only display volume names
    #[arg(short, long)]
    quiet: bool,
}

const LISTING: Listing<'static> = Listing {
    headers: &[
        ("Name", "VOLUME NAME"),
        ("Driver", "DRIVER"),
        ("Scope", "SCOPE"),
        ("Mountpoint", "MOUNTPOINT"),
        ("Labels", "LABELS"),
        ("Links", "LINKS"),
        ("Size", "SIZE"),
        ("Availability", "AVAILABILITY"),
        ("Group", "GROUP"),
        ("Status", "STATUS"),
    ],
    table: r"{{.Driver}}\t{{.Name}}",
    quiet: "{{.Name}}",
    raw: r"name: {{.Name}}\ndriver: {{.Driver}}\n",
};

impl Verb for Args {
    fn run(self, context: &Context, _: Vec<String>) -> Outcome {
        let filters = filter::collect(
            self.filter,
            &["dangling", "driver", "label", "label!", "name"],
        )?;
        let dangling = filters.boolean("dangling")?;
        let names = filters.patterns("name")?;
        let mut all = volume::list(context.engine()?)?;
        all.retain(|volume| {
            dangling.is_none_or(|wanted| volume.users.is_empty() == wanted)
                && filters.any("driver", |driver| driver == volume::DRIVER)
                && filters.labels(&volume.record.labels)
                && (names.is_empty() || names.iter().any(|name| name.is_match(&volume.record.name)))
        });
        all.sort_by(|a, b| a.record.name.cmp(&b.record.name));
        let rows: Vec<Row> = all.iter().map(row).collect();
        let configured = context.config()?.volumes_format.as_deref();
        let (format, quiet) = format::choose(self.format.as_deref(), configured, self.quiet);
        output::print(&LISTING.render(&rows, &format, quiet)?)?;
        Ok(Exit::SUCCESS)
    }
}

fn row(volume: &Volume) -> Row {
    let absent = "N/A";
    Row::new()
        .with("Name", volume.record.name.as_str())
        .with("Driver", volume::DRIVER)
        .with("Scope", "local")
        .with("Mountpoint", volume.mountpoint.display().to_string())
        .with_labels(&volume.record.labels)
        .with("Links", absent)
        .with("Size", absent)
        .with("Availability", absent)
        .with("Group", absent)
        .with("Status", absent)
}
