//! Filters of the list of containers.

use jiff::Timestamp;
use ketch_spec::mount::MountSource;
use ketch_spec::port::{Port, parse_expose};
use regex_lite::Regex;

use super::config::NetworkMode;
use super::load::{self, Container};
use super::state::{HealthStatus, Status};
use crate::filter::Filters;
use crate::image::{self, Image};
use crate::{Engine, Error, ErrorKind, Result};

/// The keys that `GET /containers/json` and `ps` know.
pub const KEYS: [&str; 15] = [
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
#[derive(Debug)]
pub struct ContainerFilters {
    filters: Filters,
    names: Vec<Regex>,
    exited: Vec<i32>,
    publish: Vec<Port>,
    expose: Vec<Port>,
    is_task: bool,
}

/// What the filters name that is not in a container itself.
#[derive(Debug, Default)]
pub struct Named {
    /// When the container that `before` names was made.
    pub before: Option<Timestamp>,
    /// When the container that `since` names was made.
    pub since: Option<Timestamp>,
    /// The images that `ancestor` names, those that are there.
    pub ancestors: Vec<Image>,
}

impl ContainerFilters {
    /// Checks values; the keys are of [`KEYS`].
    ///
    /// # Errors
    /// `Invalid` in Docker's words, `Unsupported` for `isolation`.
    pub fn new(filters: Filters) -> Result<Self> {
        filters.check("status", &STATUSES)?;
        filters.check("health", &HEALTHS)?;
        if filters.has("isolation") {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "filter 'isolation' is not supported",
            ));
        }
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
            is_task: filters.boolean("is-task")? == Some(true),
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
        let named = self.find(engine, &all)?;
        let by_state = self.filters.has("status") || self.filters.has("exited");
        all.retain(|one| {
            (everything || by_state || load::is_live(one.state.status)) && self.matches(one, &named)
        });
        Ok(all)
    }

    /// Looks up what the filters name.
    fn find(&self, engine: &Engine, all: &[Container]) -> Result<Named> {
        let bound = |key: &str| -> Result<Option<Timestamp>> {
            let Some(name) = self.filters.values(key).last() else {
                return Ok(None);
            };
            let id = load::resolve(engine, name)?;
            let found = all.iter().find(|one| one.config.id == id);
            Ok(found.map(|one| one.config.created))
        };
        let ancestors = self.filters.values("ancestor").iter();
        Ok(Named {
            before: bound("before")?,
            since: bound("since")?,
            ancestors: ancestors
                .filter_map(|name| image::resolve(engine, name).ok())
                .collect(),
        })
    }

    /// Whether a container passes all filters. `is-task=true` lets none through: there are no services.
    pub fn matches(&self, one: &Container, named: &Named) -> bool {
        let (config, state, filters) = (&one.config, &one.state, &self.filters);
        let slashed = format!("/{}", config.name);
        let by_name = |name: &Regex| name.is_match(&config.name) || name.is_match(&slashed);
        let ended = matches!(state.status, Status::Exited | Status::Dead);
        let code = state.exit.as_ref().filter(|_| ended).map(|exit| exit.code);
        !self.is_task
            && named.before.is_none_or(|bound| config.created < bound)
            && named.since.is_none_or(|bound| config.created > bound)
            && (self.names.is_empty() || self.names.iter().any(by_name))
            && filters.any("id", |id| config.id.as_str().starts_with(id))
            && filters.labels(&config.labels)
            && filters.any("status", |wanted| wanted == state.status.name())
            && filters.any("health", |wanted| wanted == health(one))
            && (self.exited.is_empty() || code.is_some_and(|code| self.exited.contains(&code)))
            && filters.any("volume", |wanted| mounts(one, wanted))
            && filters.any("network", |wanted| in_network(one, wanted))
            && (self.publish.is_empty() || self.publish.iter().any(|port| publishes(one, *port)))
            && (self.expose.is_empty() || self.expose.iter().any(|port| exposes(one, *port)))
            && (!filters.has("ancestor")
                || named.ancestors.iter().any(|image| descends(one, image)))
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
    let network = &one.config.network;
    let configured = match network.mode {
        NetworkMode::Host => wanted == "host",
        NetworkMode::None => wanted == "none",
        NetworkMode::Bridge => network
            .endpoints
            .iter()
            .any(|endpoint| endpoint.network == wanted),
        NetworkMode::Container(_) => false,
    };
    let mut joined = one.state.endpoints.values();
    configured || joined.any(|endpoint| endpoint.network_id.starts_with(wanted))
}

fn publishes(one: &Container, port: Port) -> bool {
    let mut all = one.config.network.ports.iter().chain(&one.state.ports);
    all.any(|mapping| mapping.container == port)
}

fn exposes(one: &Container, port: Port) -> bool {
    one.config.network.exposed.contains(&port) || publishes(one, port)
}

/// Whether the container's image is the wanted one or was made on top of it.
fn descends(one: &Container, wanted: &Image) -> bool {
    let image = &one.config.image;
    image.id.as_ref() == Some(&wanted.id)
        || !wanted.layers.is_empty() && image.layers.starts_with(&wanted.layers)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::container::state::{ContainerState, ExitRecord};
    use crate::container::test_support;

    fn filters(key: &str, values: &[&str]) -> Result<ContainerFilters> {
        let values = values.iter().map(|value| (*value).to_owned()).collect();
        let given = BTreeMap::from([(key.to_owned(), values)]);
        ContainerFilters::new(Filters::new(given, &KEYS)?)
    }

    /// `web`, with a volume `data`, ended with code 3.
    fn web() -> Container {
        let mut config = test_support::config();
        config.name = "web".into();
        config.labels = BTreeMap::from([("tier".into(), "1".into())]);
        config.mounts = vec![ketch_spec::mount::parse_volume("data:/srv", "/").unwrap()];
        config.network.exposed = parse_expose("80").unwrap();
        let mut state = ContainerState::created();
        state.exited(ExitRecord {
            code: 3,
            signal: None,
            out_of_memory: false,
            at: config.created,
            error: String::new(),
        });
        Container { config, state }
    }

    #[test]
    fn each_key_lets_through_what_it_names() {
        let web = web();
        let shown = |key, values: &[&str]| {
            filters(key, values)
                .unwrap()
                .matches(&web, &Named::default())
        };
        for (key, yes, no) in [
            ("name", "^/?we", "^eb"),
            ("id", web.config.id.short(), "zz"),
            ("label", "tier=1", "tier=2"),
            ("status", "exited", "running"),
            ("health", "none", "healthy"),
            ("exited", "3", "0"),
            ("volume", "data", "other"),
            ("volume", "/srv", "/data"),
            ("expose", "80/tcp", "80/udp"),
            ("is-task", "false", "true"),
        ] {
            assert!(shown(key, &[yes]), "{key}={yes}");
            assert!(!shown(key, &[no]), "{key}={no}");
        }
        assert!(shown("name", &["nothing", "web"]));
        assert!(!shown("publish", &["80"]));
        assert!(!shown("ancestor", &["an-image-that-is-not-there"]));
    }

    #[test]
    fn before_and_since_leave_the_named_container_out() {
        let web = web();
        let all = filters("name", &["web"]).unwrap();
        let bound = Some(web.config.created);
        let later = bound.map(|at| at + jiff::SignedDuration::from_secs(1));
        for (before, since, shown) in [
            (bound, None, false),
            (later, None, true),
            (None, bound, false),
            (None, later, false),
        ] {
            let named = Named {
                before,
                since,
                ancestors: Vec::new(),
            };
            assert_eq!(all.matches(&web, &named), shown);
        }
    }

    #[test]
    fn what_is_no_value_is_refused_in_dockers_words() {
        let message = |key, value| filters(key, &[value]).unwrap_err().message;
        assert_eq!(message("colour", "red"), "invalid filter 'colour'");
        assert_eq!(message("status", "up"), "invalid filter 'status=up'");
        assert_eq!(message("exited", "x"), "invalid filter 'exited=x'");
        assert_eq!(message("publish", "x"), "invalid filter 'publish=x'");
        assert_eq!(
            message("isolation", "default"),
            "filter 'isolation' is not supported"
        );
    }
}
