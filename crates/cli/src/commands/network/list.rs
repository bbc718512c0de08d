//! `ketch network ls`.

use ketch_engine::Engine;
use ketch_engine::network::{self, NetworkRecord};
use regex_lite::Regex;

use crate::command::{Command, Outcome, Verb};
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::filter::{self, Filter, Filters};
use crate::format::{self, Listing, Row};
use crate::{output, text};

/// The command.
pub const COMMAND: Command = Command {
    names: &["network ls", "network list"],
    usage: "[OPTIONS]",
    about: "List networks",
    ..Command::of::<Args>()
};

#[derive(clap::Args)]
struct Args {
    /// Provide filter values (e.g. "driver=bridge")
    #[arg(short, long, value_name = "filter")]
    filter: Vec<Filter>,
    /// Format output: 'table', 'table TEMPLATE', 'json', or a Go template
    #[arg(long, value_name = "string")]
    format: Option<String>,
    /// Do not truncate the output
    #[arg(long)]
    no_trunc: bool,
    /// Only display network IDs
    #[arg(short, long)]
    quiet: bool,
}

const LISTING: Listing<'static> = Listing {
    headers: &[
        ("ID", "NETWORK ID"),
        ("Name", "NAME"),
        ("Driver", "DRIVER"),
        ("Scope", "SCOPE"),
        ("IPv4", "IPV4"),
        ("IPv6", "IPV6"),
        ("Internal", "INTERNAL"),
        ("Labels", "LABELS"),
        ("CreatedAt", "CREATED AT"),
    ],
    table: r"{{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.Scope}}",
    quiet: "{{.ID}}",
    raw: r"network_id: {{.ID}}\nname: {{.Name}}\ndriver: {{.Driver}}\nscope: {{.Scope}}\n",
};

impl Verb for Args {
    fn run(self, context: &Context, _: Vec<String>) -> Outcome {
        let keys = ["driver", "id", "label", "name", "scope", "type", "dangling"];
        let filters = filter::collect(self.filter, &keys)?;
        let engine = context.engine()?;
        let dangling = filters.boolean("dangling")?;
        filters.check("type", &["builtin", "custom"])?;
        let names = filters.patterns("name")?;
        let mut shown = chosen(engine, &filters, &names, dangling)?;
        shown.sort_by(|a, b| a.name.cmp(&b.name));
        let truncate = !self.no_trunc;
        let rows: Vec<Row> = shown.iter().map(|record| row(record, truncate)).collect();
        let configured = context.config()?.networks_format.as_deref();
        let (format, quiet) = format::choose(self.format.as_deref(), configured, self.quiet);
        output::print(&LISTING.render(&rows, &format, quiet)?)?;
        Ok(Exit::SUCCESS)
    }
}

/// The networks that the filters let through.
fn chosen(
    engine: &Engine,
    filters: &Filters,
    names: &[Regex],
    dangling: Option<bool>,
) -> Result<Vec<NetworkRecord>, Failure> {
    let mut shown = Vec::new();
    for record in network::list(engine)? {
        let custom = !network::is_predefined(&record);
        let kind = if custom { "custom" } else { "builtin" };
        let matches = filters.any("driver", |driver| driver == record.driver)
            && filters.any("id", |id| record.id.as_str().starts_with(id))
            && filters.any("scope", |scope| scope == "local")
            && filters.any("type", |wanted| wanted == kind)
            && filters.labels(&record.labels)
            && (names.is_empty() || names.iter().any(|name| name.is_match(&record.name)));
        let dangles = match dangling {
            Some(_) if matches => custom && network::endpoints(engine, &record)?.is_empty(),
            _ => false,
        };
        if matches && dangling.is_none_or(|wanted| wanted == dangles) {
            shown.push(record);
        }
    }
    Ok(shown)
}

fn row(record: &NetworkRecord, truncate: bool) -> Row {
    let id = if truncate {
        record.id.short()
    } else {
        record.id.as_str()
    };
    Row::new()
        .with("ID", id)
        .with("Name", record.name.as_str())
        .with("Driver", record.driver.as_str())
        .with("Scope", "local")
        .with("IPv4", (!record.subnets.is_empty()).to_string())
        .with("IPv6", "false")
        .with("Internal", record.internal.to_string())
        .with_labels(&record.labels)
        .with("CreatedAt", text::go_time(record.created))
}
