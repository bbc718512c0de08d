//! Filters of the list of containers.

use ketch_engine::container::state::HealthStatus;
use ketch_engine::container::{self, Container, Status};
use ketch_engine::{Engine, Result, image};
use ketch_spec::mount::MountSource;
use ketch_spec::port::{Port, parse_expose};
use regex_lite::Regex;

use crate::call::Query;
use crate::filters::Filters;

const KEYS: [&str; 14] = [
    "id", "name", "label", "exited", "status", "health", "ancestor", "before", "since", "volume",
    "network", "publish", "expose", "is-task",
];
const STATUSES: [&str; 7] = [
    "created",
    "running",
    "paused",
    "restarting",
    "removing",
    "exited",
    "dead",
];
const HEALTHS: [&str; 4] = ["starting", "healthy", "unhealthy", "none"];

/// Filters, checked and compiled.
pub struct ContainerFilters {
    filters: Filters,
    names: Vec<Regex>,
    exited: Vec<i32>,
    publish: Vec<Port>,
    expose: Vec<Port>,
}

impl ContainerFilters {
    /// Those of a query.
    ///
    /// # Errors
    /// `Invalid` in Docker's words.
    pub fn of(query: &Query) -> Result<Self> {
        let filters = query.filters(&KEYS)?;
        filters.check("status", &STATUSES)?;
        filters.check("health", &HEALTHS)?;
        let ports = |key: &str| -> Result<Vec<Port>> {
            let mut all = Vec::new();
            for text in filters.values(key) {
                all.extend(parse_expose(text).map_err(|_| Filters::invalid(key, text))?);
            }
            Ok(all)
        };
        let exited = filters
            .values("exited")
            .iter()
            .map(|text| text.parse().map_err(|_| Filters::invalid("exited", text)));
        Ok(Self {
            names: filters.patterns("name")?,
            exited: exited.collect::<Result<_>>()?,
            publish: ports("publish")?,
            expose: ports("expose")?,
            filters,
        })
    }

    /// The containers of `all` that match. Without `everything` and without filters on the state, only those that run.
    ///
    /// # Errors
    /// `NotFound` for a container that `before` or `since` names.
    pub fn apply(
        &self,
        engine: &Engine,
        mut all: Vec<Container>,
        everything: bool,
    ) -> Result<Vec<Container>> {
        let bound = |key: &str| -> Result<Option<jiff::Timestamp>> {
            let Some(name) = self.filters.values(key).last() else {
                return Ok(None);
            };
            let id = container::resolve(engine, name)?;
            Ok(all
                .iter()
                .find(|one| one.config.id == id)
                .map(|one| one.config.created))
        };
        let (before, since) = (bound("before")?, bound("since")?);
        let by_state = self.filters.has("status") || self.filters.has("exited");
        let is_task = self.filters.boolean("is-task")? == Some(true);
        let ancestors: Vec<image::Image> = self
            .filters
            .values("ancestor")
            .iter()
            .filter_map(|name| image::resolve(engine, name).ok())
            .collect();
        all.retain(|one| {
            (everything || by_state || container::load::is_live(one.state.status))
                && !is_task
                && before.is_none_or(|bound| one.config.created < bound)
                && since.is_none_or(|bound| one.config.created > bound)
                && self.matches(one)
                && (!self.filters.has("ancestor")
                    || ancestors.iter().any(|image| descends(one, image)))
        });
        Ok(all)
    }

    fn matches(&self, one: &Container) -> bool {
        let (config, state, filters) = (&one.config, &one.state, &self.filters);
        let slashed = format!("/{}", config.name);
        let by_name = |name: &Regex| name.is_match(&config.name) || name.is_match(&slashed);
        let ended = matches!(state.status, Status::Exited | Status::Dead);
        let code = state.exit.as_ref().filter(|_| ended).map(|exit| exit.code);
        (self.names.is_empty() || self.names.iter().any(by_name))
            && filters.any("id", |id| config.id.as_str().starts_with(id))
            && filters.labels(&config.labels)
            && filters.any("status", |wanted| wanted == state.status.to_string())
            && filters.any("health", |wanted| wanted == health(one))
            && (self.exited.is_empty() || code.is_some_and(|code| self.exited.contains(&code)))
            && filters.any("volume", |wanted| mounts(one, wanted))
            && filters.any("network", |wanted| in_network(one, wanted))
            && (self.publish.is_empty() || self.publish.iter().any(|port| publishes(one, *port)))
            && (self.expose.is_empty() || self.expose.iter().any(|port| exposes(one, *port)))
    }
}

fn health(one: &Container) -> &'static str {
    match one.state.health.as_ref().map(|health| health.status) {
        None => "none",
        Some(HealthStatus::Starting) => "starting",
        Some(HealthStatus::Healthy) => "healthy",
        Some(HealthStatus::Unhealthy) => "unhealthy",
    }
}

fn mounts(one: &Container, wanted: &str) -> bool {
    one.config.mounts.iter().any(|mount| {
        mount.target == wanted
            || match &mount.source {
                MountSource::Volume { name, .. } => name.as_deref() == Some(wanted),
                MountSource::Bind { path, .. } => path == wanted,
                MountSource::Tmpfs { .. } => false,
            }
    })
}

fn in_network(one: &Container, wanted: &str) -> bool {
    use ketch_engine::container::config::NetworkMode;
    let by_mode = match one.config.network.mode {
        NetworkMode::Host => wanted == "host",
        NetworkMode::None => wanted == "none",
        NetworkMode::Bridge | NetworkMode::Container(_) => false,
    };
    by_mode
        || one
            .config
            .network
            .endpoints
            .iter()
            .any(|endpoint| endpoint.network == wanted)
        || one
            .state
            .endpoints
            .values()
            .any(|endpoint| endpoint.network_id.starts_with(wanted))
}

fn publishes(one: &Container, port: Port) -> bool {
    let mut all = one.config.network.ports.iter().chain(&one.state.ports);
    all.any(|mapping| mapping.container == port)
}

fn exposes(one: &Container, port: Port) -> bool {
    one.config.network.exposed.contains(&port) || publishes(one, port)
}

/// Whether the container's image is the wanted one or was made on top of it.
fn descends(one: &Container, wanted: &image::Image) -> bool {
    let image = &one.config.image;
    image.id.as_ref() == Some(&wanted.id)
        || !wanted.layers.is_empty() && image.layers.starts_with(&wanted.layers)
}
