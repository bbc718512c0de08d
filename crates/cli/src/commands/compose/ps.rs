//! `ketch compose ps`.

use gotmpl::Value;
use jiff::Timestamp;
use ketch_compose::{Project, SERVICE};
use ketch_engine::container::state::HealthStatus;
use ketch_engine::container::{Container, status};

use crate::command::{Arity, Command, Outcome, Verb};
use crate::commands::container::ports;
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::filter::{self, Filter};
use crate::format::{Listing, Row};
use crate::{output, text};

use super::containers::{self, Member, Scope};
use super::globals::is_on;
use super::project;

/// The command.
pub const COMMAND: Command = Command {
    names: &["compose ps"],
    usage: "[OPTIONS] [SERVICE...]",
    about: "List containers",
    arity: Arity::AtLeast(0),
    ..Command::of::<Args>()
};

#[derive(clap::Args)]
struct Args {
    /// Show all stopped containers (including those created by the run command)
    #[arg(short, long)]
    all: bool,
    /// Filter services by a property (supported filters: status)
    #[arg(long, value_name = "string")]
    filter: Vec<Filter>,
    /// Format output: 'table', 'table TEMPLATE', 'json', or a Go template
    #[arg(long, value_name = "string", default_value = "table")]
    format: String,
    /// Don't truncate output
    #[arg(long)]
    no_trunc: bool,
    /// Include orphaned services (not declared by project)
    #[arg(long, default_value = "true", action = clap::ArgAction::Set)]
    orphans: bool,
    /// Only display IDs
    #[arg(short, long)]
    quiet: bool,
    /// Display services
    #[arg(long)]
    services: bool,
    /// Filter services by status. Values: [paused | restarting | removing | running | dead | created | exited]
    #[arg(long, value_name = "stringArray")]
    status: Vec<String>,
}

const HEADERS: &[(&str, &str)] = &[
    ("ID", "CONTAINER ID"),
    ("Name", "NAME"),
    ("Names", "NAMES"),
    ("Project", "PROJECT"),
    ("Service", "SERVICE"),
    ("Image", "IMAGE"),
    ("Command", "COMMAND"),
    ("CreatedAt", "CREATED AT"),
    ("RunningFor", "CREATED"),
    ("Ports", "PORTS"),
    ("State", "STATE"),
    ("Status", "STATUS"),
    ("Health", "HEALTH"),
    ("ExitCode", "EXIT CODE"),
    ("Labels", "LABELS"),
    ("Mounts", "MOUNTS"),
    ("Networks", "NETWORKS"),
];
const TABLE: &str =
    r"{{.Name}}\t{{.Image}}\t{{.Command}}\t{{.Service}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}";

impl Verb for Args {
    fn run(self, context: &Context, services: Vec<String>) -> Outcome {
        let filters = filter::collect(self.filter.clone(), &["status", "source"])?;
        if filters.has("source") {
            return Err(Failure::usage("filter \"source\" is not supported"));
        }
        let mut states = self.status.clone();
        states.extend(filters.values("status").iter().cloned());
        let project = project::load_or_name(context, &services)?;
        let scope = Scope {
            one_off: self.all,
            orphans: self.orphans && !is_on("COMPOSE_IGNORE_ORPHANS"),
            stopped: self.all || !states.is_empty(),
        };
        let mut members = containers::members(context, &project, &services, scope)?;
        members.retain(|member| {
            states.is_empty() || states.iter().any(|state| state == name(&member.container))
        });
        if self.services {
            let mut names: Vec<&str> = members
                .iter()
                .map(|member| member.seen.service.as_str())
                .collect();
            names.dedup();
            names.iter().try_for_each(|name| output::print_line(name))?;
            return Ok(Exit::SUCCESS);
        }
        self.print(&project, &members)
    }
}

impl Args {
    fn print(&self, project: &Project, members: &[Member]) -> Outcome {
        if self.quiet {
            let ids: Vec<String> = members
                .iter()
                .map(|member| format!("{}\n", member.container.config.id))
                .collect();
            output::print(&ids.concat())?;
            return Ok(Exit::SUCCESS);
        }
        let now = Timestamp::now();
        let rows: Vec<Row> = members
            .iter()
            .map(|member| row(project, &member.container, now, !self.no_trunc))
            .collect();
        let listing = Listing {
            headers: HEADERS,
            table: TABLE,
            quiet: "{{.ID}}",
            raw: TABLE,
        };
        output::print(&listing.render(&rows, &self.format, false)?)?;
        Ok(Exit::SUCCESS)
    }
}

/// The name of a container's state.
fn name(container: &Container) -> &'static str {
    container.state.status.name()
}

fn row(project: &Project, container: &Container, now: Timestamp, truncate: bool) -> Row {
    let Container { config, state } = container;
    let cut = |text: String| match truncate {
        true => text::ellipsis(&text, 20),
        false => text,
    };
    let live = ketch_engine::container::load::is_live(state.status);
    let exposed = match live {
        true => config.network.exposed.as_slice(),
        false => &[],
    };
    let listed = ports::listed(&state.ports, exposed);
    let health = match state.health.as_ref().map(|health| health.status) {
        Some(HealthStatus::Starting) => "starting",
        Some(HealthStatus::Healthy) => "healthy",
        Some(HealthStatus::Unhealthy) => "unhealthy",
        None => "",
    };
    let words = config
        .process
        .entrypoint
        .iter()
        .chain(&config.process.command);
    let command = words.cloned().collect::<Vec<_>>().join(" ");
    let id = match truncate {
        true => config.id.short().to_owned(),
        false => config.id.to_string(),
    };
    let code = state
        .exit
        .as_ref()
        .filter(|_| !live)
        .map_or(0, |exit| exit.code);
    Row::new()
        .with("ID", id)
        .with("Name", config.name.as_str())
        .with("Names", config.name.as_str())
        .with("Project", project.name.as_str())
        .with(
            "Service",
            config.labels.get(SERVICE).map_or("", String::as_str),
        )
        .with("Image", config.image.reference.as_str())
        .with("Command", text::quote(&cut(command)))
        .with("CreatedAt", text::go_time(config.created))
        .with(
            "RunningFor",
            format!("{} ago", status::age(config.created, now)),
        )
        .with("Ports", ports::text(listed.clone()))
        .with("State", name(container))
        .with("Status", status::text(state, now))
        .with("Health", health)
        .with_value("ExitCode", Value::Int(i64::from(code)))
        .with_value("Publishers", publishers(&listed))
        .with_labels(&config.labels)
        .with("Mounts", mounts(container).join(","))
        .with(
            "Networks",
            crate::commands::container::networks(container).join(","),
        )
}

fn mounts(container: &Container) -> Vec<String> {
    use ketch_spec::mount::MountSource;
    let mounts = container.config.mounts.iter();
    mounts
        .filter_map(|mount| match &mount.source {
            MountSource::Volume { name, .. } => name.clone(),
            MountSource::Bind { path, .. } => Some(path.clone()),
            MountSource::Tmpfs { .. } => None,
        })
        .collect()
}

/// `[{URL, TargetPort, PublishedPort, Protocol}]`.
fn publishers(listed: &[ports::Listed]) -> Value {
    let one = |port: &ports::Listed| {
        let (url, published) = match port.host {
            Some((address, number)) => (address.to_string(), number),
            None => (String::new(), 0),
        };
        let fields = [
            ("URL", Value::String(url.as_str().into())),
            ("TargetPort", Value::Int(i64::from(port.container.number))),
            ("PublishedPort", Value::Int(i64::from(published))),
            (
                "Protocol",
                Value::String(port.container.protocol.to_string().as_str().into()),
            ),
        ];
        let map = fields.into_iter().map(|(key, value)| (key.into(), value));
        Value::Map(std::sync::Arc::new(map.collect()))
    };
    Value::List(listed.iter().map(one).collect())
}
