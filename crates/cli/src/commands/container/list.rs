//! `ketch ps`.

use gotmpl::Value;
use jiff::Timestamp;
use ketch_engine::container::config::NetworkMode;
use ketch_engine::container::filter::{self, ContainerFilters};
use ketch_engine::container::{self, Container, status};
use ketch_spec::mount::MountSource;

use crate::command::{Command, Outcome, Verb, integer};
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::filter::Filter;
use crate::format::{Listing, Row};
use crate::{output, text};

use super::ports;

/// The command.
pub const COMMAND: Command = Command {
    names: &["container ls", "container list", "container ps", "ps"],
    usage: "[OPTIONS]",
    about: "List containers",
    ..Command::of::<Args>()
};

#[derive(clap::Args)]
struct Args {
    /// Show all containers (default shows just running)
    #[arg(short, long)]
    all: bool,
    /// Filter output based on conditions provided
    #[arg(short, long, value_name = "filter")]
    filter: Vec<Filter>,
    /// Format output: 'table', 'table TEMPLATE', 'json', or a Go template
    #[arg(long, value_name = "string")]
    format: Option<String>,
    /// Show n last created containers (includes all states)
    #[arg(short = 'n', long, value_name = "int", value_parser = integer, default_value = "-1")]
    last: i64,
    /// Show the latest created container (includes all states)
    #[arg(short, long)]
    latest: bool,
    /// Don't truncate output
    #[arg(long)]
    no_trunc: bool,
    /// Only display container IDs
    #[arg(short, long)]
    quiet: bool,
    /// Display total file sizes
    #[arg(short, long)]
    size: bool,
}

/// The fields of a row, with their headers.
pub const HEADERS: &[(&str, &str)] = &[
    ("ID", "CONTAINER ID"),
    ("Image", "IMAGE"),
    ("Command", "COMMAND"),
    ("CreatedAt", "CREATED AT"),
    ("RunningFor", "CREATED"),
    ("Ports", "PORTS"),
    ("State", "STATE"),
    ("Status", "STATUS"),
    ("Size", "SIZE"),
    ("Names", "NAMES"),
    ("Labels", "LABELS"),
    ("Mounts", "MOUNTS"),
    ("LocalVolumes", "LOCAL VOLUMES"),
    ("Networks", "NETWORKS"),
    ("Platform", "PLATFORM"),
];
const TABLE: &str =
    r"{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}";
const TABLE_WITH_SIZE: &str = r"{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}\t{{.Size}}";
const RAW: &str = r"container_id: {{.ID}}\nimage: {{.Image}}\ncommand: {{.Command}}\ncreated_at: {{.CreatedAt}}\nstate: {{- pad .State 1 0}}\nstatus: {{- pad .Status 1 0}}\nnames: {{.Names}}\nlabels: {{- pad .Labels 1 0}}\nports: {{- pad .Ports 1 0}}\n";

impl Verb for Args {
    fn run(self, context: &Context, _: Vec<String>) -> Outcome {
        let engine = context.engine()?;
        let configured = context.config()?.ps_format.clone();
        if self.quiet
            && self
                .format
                .as_ref()
                .is_some_and(|format| !format.is_empty())
        {
            output::warn(
                "WARNING: Ignoring custom format, because both --format and --quiet are set.",
            );
        }
        let format = self.format.clone().or(configured).unwrap_or_default();
        let filters = ContainerFilters::new(crate::filter::collect(self.filter, &filter::KEYS)?)?;
        let mut all = container::list(engine)?;
        all.sort_by_key(|container| std::cmp::Reverse(container.config.created));
        let limit = match (self.latest, self.last) {
            (true, _) => Some(1),
            (false, last) => usize::try_from(last).ok().filter(|last| *last > 0),
        };
        let everything = self.all || limit.is_some();
        let shown = filters.apply(engine, all, everything)?;
        let shown = &shown[..limit.unwrap_or(usize::MAX).min(shown.len())];
        let wants_size = self.size || format.contains(".Size");
        let now = Timestamp::now();
        let rows = shown
            .iter()
            .map(|container| {
                let size = if wants_size {
                    Some(size(context, container)?)
                } else {
                    None
                };
                Ok(row(container, now, !self.no_trunc, size.as_deref()))
            })
            .collect::<Result<Vec<_>, Failure>>()?;
        let listing = Listing {
            headers: HEADERS,
            table: if self.size { TABLE_WITH_SIZE } else { TABLE },
            quiet: "{{.ID}}",
            raw: RAW,
        };
        output::print(&listing.render(&rows, &format, self.quiet)?)?;
        Ok(Exit::SUCCESS)
    }
}

/// `1.09kB (virtual 192MB)`.
fn size(context: &Context, container: &Container) -> Result<String, Failure> {
    let sizes = container::size(context.engine()?, &container.config.id)?;
    let human = ketch_spec::size::human;
    Ok(format!(
        "{} (virtual {})",
        human(sizes.writable_bytes),
        human(sizes.total_bytes)
    ))
}

/// The fields of one container.
pub fn row(container: &Container, now: Timestamp, truncate: bool, size: Option<&str>) -> Row {
    let Container { config, state } = container;
    let cut = |text: String, columns| {
        if truncate {
            text::ellipsis(&text, columns)
        } else {
            text
        }
    };
    let live = container::load::is_live(state.status);
    let exposed = if live {
        config.network.exposed.as_slice()
    } else {
        &[]
    };
    let mounts: Vec<String> = config
        .mounts
        .iter()
        .filter_map(|mount| mount_name(&mount.source))
        .collect();
    let volumes = config
        .mounts
        .iter()
        .filter(|mount| matches!(mount.source, MountSource::Volume { .. }))
        .count();
    Row::new()
        .with(
            "ID",
            if truncate {
                config.id.short()
            } else {
                config.id.as_str()
            },
        )
        .with("Image", image(container, truncate))
        .with("Command", text::quote(&cut(command(container), 20)))
        .with("CreatedAt", text::go_time(config.created))
        .with(
            "RunningFor",
            format!("{} ago", status::age(config.created, now)),
        )
        .with("Ports", ports::text(ports::listed(&state.ports, exposed)))
        .with("State", state.status.name())
        .with("Status", status::text(state, now))
        .with("Size", size.unwrap_or("0B"))
        .with("Names", config.name.as_str())
        .with_labels(&config.labels)
        .with(
            "Mounts",
            mounts
                .into_iter()
                .map(|name| cut(name, 15))
                .collect::<Vec<_>>()
                .join(","),
        )
        .with("LocalVolumes", volumes.to_string())
        .with("Networks", networks(container).join(","))
        .with_value("Platform", Value::Nil)
}

/// What the user typed, an id shortened.
fn image(container: &Container, truncate: bool) -> String {
    let source = &container.config.image;
    let id = source
        .id
        .as_ref()
        .map(ToString::to_string)
        .unwrap_or_default();
    let bare = source
        .reference
        .strip_prefix("sha256:")
        .unwrap_or(&source.reference);
    let is_id =
        !id.is_empty() && id.trim_start_matches("sha256:").starts_with(bare) && bare.len() >= 12;
    if truncate && is_id {
        text::short_id(bare).to_owned()
    } else {
        source.reference.clone()
    }
}

/// Program and arguments; arguments with spaces in single quotes, as Docker's engine joins them.
fn command(container: &Container) -> String {
    let process = &container.config.process;
    let mut words = process.entrypoint.iter().chain(&process.command);
    let mut text = words.next().cloned().unwrap_or_default();
    for word in words {
        if word.contains(' ') {
            text.push_str(&format!(" '{word}'"));
        } else {
            text.push(' ');
            text.push_str(word);
        }
    }
    text
}

fn mount_name(source: &MountSource) -> Option<String> {
    match source {
        MountSource::Volume { name, .. } => name.clone(),
        MountSource::Bind { path, .. } => Some(path.clone()),
        MountSource::Tmpfs { .. } => None,
    }
}

/// Names of the networks a container is in.
pub fn networks(container: &Container) -> Vec<String> {
    let network = &container.config.network;
    match &network.mode {
        NetworkMode::Bridge => {
            let mut names: Vec<String> = network
                .endpoints
                .iter()
                .map(|endpoint| endpoint.network.clone())
                .collect();
            names.sort();
            names
        }
        NetworkMode::Host => vec!["host".into()],
        NetworkMode::None => vec!["none".into()],
        NetworkMode::Container(_) => Vec::new(),
    }
}
