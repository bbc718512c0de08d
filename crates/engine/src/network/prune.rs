//! `network prune`.

use std::collections::BTreeSet;

use jiff::Timestamp;
use ketch_network::NetworkRecord;

use super::{is_predefined, list, remove};
use crate::{Engine, ErrorKind, Result, container};

/// What to prune.
#[derive(Debug, Clone, Default)]
pub struct PruneOptions {
    /// Only networks with one of these: `key` or `key=value`. Empty: no such condition.
    pub labels: Vec<String>,
    /// Only networks with none of these.
    pub without_labels: Vec<String>,
    /// Only networks made before.
    pub until: Option<Timestamp>,
}

/// Removes user networks that no container refers to, running or not; returns their names.
///
/// # Errors
/// Input and output; a network that somebody takes into use meanwhile stays.
pub fn prune(engine: &Engine, options: &PruneOptions) -> Result<Vec<String>> {
    let mut used = BTreeSet::new();
    for id in container::load::ids(engine)? {
        match container::load(engine, &id) {
            Ok((config, state)) => {
                used.extend(
                    config
                        .network
                        .endpoints
                        .into_iter()
                        .map(|endpoint| endpoint.network),
                );
                used.extend(state.endpoints.into_keys());
            }
            // Half-made, or just gone.
            Err(error) if error.kind == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    let mut pruned = Vec::new();
    for network in list(engine)? {
        if is_predefined(&network) || used.contains(&network.name) || !wanted(&network, options) {
            continue;
        }
        match remove(engine, network.id.as_str()) {
            Ok(()) => pruned.push(network.name),
            Err(error) if matches!(error.kind, ErrorKind::Forbidden | ErrorKind::NotFound) => {}
            Err(error) => return Err(error),
        }
    }
    sweep_bridges(engine).map_err(|error| super::network_error(&error))?;
    Ok(pruned)
}

/// Bridges of networks that nobody is in, whose keepers were killed.
fn sweep_bridges(engine: &Engine) -> std::result::Result<(), ketch_network::Error> {
    for network in list(engine).unwrap_or_default() {
        ketch_network::remove_bridge(&engine.paths().network_dir(&network.id), &network)?;
    }
    ketch_network::sweep_retired()
}

fn wanted(network: &NetworkRecord, options: &PruneOptions) -> bool {
    let has = |filter: &String| match filter.split_once('=') {
        Some((key, value)) => network.labels.get(key).is_some_and(|found| found == value),
        None => network.labels.contains_key(filter),
    };
    options.until.is_none_or(|until| network.created < until)
        && (options.labels.is_empty() || options.labels.iter().any(has))
        && !options.without_labels.iter().any(has)
}
