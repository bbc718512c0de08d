//! Which events a listener wants, by the rules of Docker's `events --filter`.

use std::collections::BTreeMap;

use super::Event;
use crate::Result;
use crate::filter::Filters;

/// The keys of `--filter`. Those of clusters and plug-ins are known, and match nothing here.
pub const KEYS: [&str; 15] = [
    "builder",
    "config",
    "container",
    "daemon",
    "event",
    "image",
    "label",
    "network",
    "node",
    "plugin",
    "scope",
    "secret",
    "service",
    "type",
    "volume",
];

/// Everything here happens on one machine.
const SCOPE: &str = "local";

/// Chosen events; the default chooses all.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    filters: Filters,
}

impl Selection {
    /// By filters with [`KEYS`].
    ///
    /// # Errors
    /// `Invalid` for another key.
    pub fn new(given: BTreeMap<String, Vec<String>>) -> Result<Self> {
        Ok(Self {
            filters: Filters::new(given, &KEYS)?,
        })
    }

    /// By filters that were checked for [`KEYS`].
    pub fn of(filters: Filters) -> Self {
        Self { filters }
    }

    /// Whether the event is wanted.
    pub fn has(&self, event: &Event) -> bool {
        let filters = &self.filters;
        let attribute = |key: &str| event.attributes.get(key).map_or("", String::as_str);
        let name = attribute("name");
        let begins = |wanted: &str| {
            event.id.starts_with(wanted) || (!name.is_empty() && name.starts_with(wanted))
        };
        let named = ["container", "network", "volume", "daemon", "plugin"];
        let named = named
            .into_iter()
            .chain(["builder", "config", "node", "secret", "service"]);
        // `exec_create` has the command behind a colon.
        let action = event.action.split(':').next().unwrap_or_default();
        filters.any("type", |wanted| wanted == event.noun)
            && filters.any("event", |wanted| wanted == event.action || wanted == action)
            && filters.any("scope", |wanted| wanted == SCOPE)
            && filters.any("image", |wanted| is_image(event, wanted))
            && filters.labels(&event.attributes)
            && named
                .into_iter()
                .all(|key| filters.any(key, |wanted| begins(wanted)))
    }
}

/// By the id or name of the image that the event tells of or that its container was made from, with or without tag.
fn is_image(event: &Event, wanted: &str) -> bool {
    let key = if event.noun == "image" {
        "name"
    } else {
        "image"
    };
    let image = event.attributes.get(key).map_or("", String::as_str);
    [event.id.as_str(), image]
        .into_iter()
        .any(|text| text == wanted || without_tag(text) == wanted)
}

/// A colon before the last slash belongs to a port.
fn without_tag(name: &str) -> &str {
    match name.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => repository,
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selects(pairs: &[(&str, &str)], event: &Event) -> bool {
        let mut given: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (key, value) in pairs {
            let values = given.entry((*key).into()).or_default();
            values.push((*value).into());
        }
        Selection::new(given).unwrap().has(event)
    }

    #[test]
    fn events_are_chosen_as_docker_chooses() {
        let event = Event::now("container", "exec_create: sh -c x", "0123abcd")
            .with("name", "web")
            .with("image", "localhost:5000/app:1")
            .with("role", "front");
        for wanted in [
            &[("type", "container")][..],
            &[("type", "image"), ("type", "container")],
            &[("event", "exec_create")],
            &[("container", "0123")],
            &[("container", "web")],
            &[("image", "localhost:5000/app")],
            &[("image", "localhost:5000/app:1")],
            &[("label", "role=front"), ("scope", "local")],
            &[],
        ] {
            assert!(selects(wanted, &event), "{wanted:?}");
        }
        for unwanted in [
            &[("type", "image")][..],
            &[("event", "exec")],
            &[("container", "other")],
            &[("image", "localhost")],
            &[("label", "role=back")],
            &[("scope", "swarm")],
            &[("service", "x")],
        ] {
            assert!(!selects(unwanted, &event), "{unwanted:?}");
        }
        assert!(Selection::new(BTreeMap::from([("x".into(), vec![])])).is_err());
    }
}
