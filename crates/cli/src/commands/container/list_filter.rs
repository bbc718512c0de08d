//! `ps --filter`.

use ketch_engine::container::state::HealthStatus;
use ketch_engine::container::{self, Container, Status};
use ketch_engine::{Engine, image};
use ketch_spec::mount::MountSource;
use ketch_spec::port::{Port, parse_expose};
use regex_lite::Regex;

use crate::failure::Failure;
use crate::filter::{Filter, Filters};

use super::list;

const KEYS: [&str; 15] = [
    "id",
    "name",
    "label",
    "exited",
    "status",
    "health",
    "ancestor",
    "before",
    "since",
    "volume",
    "network",
    "publish",
    "expose",
    "is-task",
    "isolation",
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

/// Filters of containers, checked and compiled.
pub struct ContainerFilters {
    filters: Filters,
    names: Vec<Regex>,
    exited: Vec<i32>,
    publish: Vec<Port>,
    expose: Vec<Port>,
}

impl ContainerFilters {
    /// Checks keys and values.
    ///
    /// # Errors
    /// [`Failure::Usage`] in Docker's words.
    pub fn new(given: Vec<Filter>) -> Result<Self, Failure> {
        let filters = Filters::new(given, &KEYS)?;
        let invalid =
            |key: &str, value: &str| Failure::usage(format!("invalid filter '{key}={value}'"));
        for (key, known) in [
            ("status", STATUSES.as_slice()),
            ("health", HEALTHS.as_slice()),
        ] {
            if let Some(value) = filters
                .values(key)
                .iter()
                .find(|value| !known.contains(&value.as_str()))
            {
                return Err(invalid(key, value));
            }
        }
        let names = filters
            .values("name")
            .iter()
            .map(|text| Regex::new(text).map_err(|_| invalid("name", text)))
            .collect::<Result<_, _>>()?;
        let exited = filters
            .values("exited")
            .iter()
            .map(|text| text.parse().map_err(|_| invalid("exited", text)))
            .collect::<Result<_, _>>()?;
        let ports = |key: &str| -> Result<Vec<Port>, Failure> {
            let mut all = Vec::new();
            for text in filters.values(key) {
                all.extend(parse_expose(text).map_err(|error| Failure::usage(error.to_string()))?);
            }
            Ok(all)
        };
        let (publish, expose) = (ports("publish")?, ports("expose")?);
        if filters.has("isolation") {
            return Err(Failure::usage("filter 'isolation' is not supported"));
        }
        Ok(Self {
            names,
            exited,
            publish,
            expose,
            filters,
        })
    }

    /// The containers of `all` (newest first) that match. Without `everything` and without filters on the state,
    /// only those that run.
    ///
    /// # Errors
    /// A container or image that a filter names is not there.
    pub fn apply(
        &self,
        engine: &Engine,
        all: Vec<Container>,
        everything: bool,
    ) -> Result<Vec<Container>, Failure> {
        let bound = |key: &str| -> Result<Option<jiff::Timestamp>, Failure> {
            match self.filters.values(key).last() {
                None => Ok(None),
                Some(name) => {
                    let id = container::resolve(engine, name)?;
                    Ok(all
                        .iter()
                        .find(|other| other.config.id == id)
                        .map(|other| other.config.created))
                }
            }
        };
        let (before, since) = (bound("before")?, bound("since")?);
        let ancestors = self.ancestors(engine);
        let by_state = self.filters.has("status") || self.filters.has("exited");
        let is_task = self.filters.boolean("is-task")?;
        Ok(all
            .into_iter()
            .filter(|container| {
                let live = container::load::is_live(container.state.status);
                (everything || by_state || live)
                    && is_task != Some(true)
                    && before.is_none_or(|bound| container.config.created < bound)
                    && since.is_none_or(|bound| container.config.created > bound)
                    && self.matches(container)
                    && ancestors.as_ref().is_none_or(|wanted| {
                        wanted.iter().any(|layers| descends(container, layers))
                    })
            })
            .collect())
    }

    /// The layers of each image that `ancestor` names; one that is not there matches nothing.
    fn ancestors(&self, engine: &Engine) -> Option<Vec<(String, Vec<ketch_spec::Digest>)>> {
        self.filters.has("ancestor").then(|| {
            let values = self.filters.values("ancestor");
            values
                .iter()
                .filter_map(|name| image::resolve(engine, name).ok())
                .map(|image| (image.id.to_string(), image.layers))
                .collect()
        })
    }

    fn matches(&self, container: &Container) -> bool {
        let (config, state) = (&container.config, &container.state);
        let filters = &self.filters;
        let slashed = format!("/{}", config.name);
        let name_matches = self.names.is_empty()
            || self
                .names
                .iter()
                .any(|name| name.is_match(&config.name) || name.is_match(&slashed));
        let exit = state.exit.as_ref().map(|exit| exit.code);
        let ended = matches!(state.status, Status::Exited | Status::Dead);
        name_matches
            && filters.any("id", |id| config.id.as_str().starts_with(id))
            && filters.labels(list::labels(container))
            && filters.any("status", |wanted| wanted == state.status.name())
            && filters.any("health", |wanted| wanted == health(container))
            && (self.exited.is_empty()
                || ended && exit.is_some_and(|code| self.exited.contains(&code)))
            && filters.any("volume", |wanted| mounts(container, wanted))
            && filters.any("network", |wanted| in_network(container, wanted))
            && (self.publish.is_empty()
                || self.publish.iter().any(|port| publishes(container, *port)))
            && (self.expose.is_empty() || self.expose.iter().any(|port| exposes(container, *port)))
    }
}

fn health(container: &Container) -> &'static str {
    match container.state.health.as_ref().map(|health| health.status) {
        None => "none",
        Some(HealthStatus::Starting) => "starting",
        Some(HealthStatus::Healthy) => "healthy",
        Some(HealthStatus::Unhealthy) => "unhealthy",
    }
}

fn mounts(container: &Container, wanted: &str) -> bool {
    container.config.mounts.iter().any(|mount| {
        mount.target == wanted
            || match &mount.source {
                MountSource::Volume { name, .. } => name.as_deref() == Some(wanted),
                MountSource::Bind { path, .. } => path == wanted,
                MountSource::Tmpfs { .. } => false,
            }
    })
}

fn in_network(container: &Container, wanted: &str) -> bool {
    list::networks(container).iter().any(|name| name == wanted)
        || container
            .state
            .endpoints
            .values()
            .any(|endpoint| endpoint.network_id.starts_with(wanted))
}

fn publishes(container: &Container, port: Port) -> bool {
    container
        .config
        .network
        .ports
        .iter()
        .chain(&container.state.ports)
        .any(|mapping| mapping.container == port)
}

fn exposes(container: &Container, port: Port) -> bool {
    container.config.network.exposed.contains(&port) || publishes(container, port)
}

/// Whether the container's image is the wanted one or was made on top of it.
fn descends(container: &Container, (id, layers): &(String, Vec<ketch_spec::Digest>)) -> bool {
    let image = &container.config.image;
    image.id.as_ref().is_some_and(|own| own.to_string() == *id)
        || !layers.is_empty() && image.layers.starts_with(layers)
}
