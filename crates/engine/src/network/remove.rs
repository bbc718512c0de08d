//! `network rm`.

use std::fs;
use std::io;
use std::path::Path;

use ketch_network::{EndpointRecord, NetworkRecord};

use super::{REMOVING, io_error, is_predefined, network_error, resolve};
use crate::event::{self, Event};
use crate::lock::{LeafLock, OwnerLock};
use crate::{Engine, Error, ErrorKind, Result, container, names, record};

/// Removes a network that no running container is in.
///
/// # Errors
/// `NotFound`; `Forbidden` for predefined networks and for networks in use, in Docker's words.
pub fn remove(engine: &Engine, wanted: &str) -> Result<()> {
    let network = resolve(engine, wanted)?;
    if is_predefined(&network) {
        let message = format!(
            "{} is a pre-defined network and cannot be removed",
            network.name
        );
        return Err(Error::new(ErrorKind::Forbidden, message));
    }
    recover_users(engine, &network)?;
    let aside = set_aside(engine, &network)?;
    let event = Event::now("network", "destroy", network.id.as_str());
    let _ = event::publish(
        engine,
        &event
            .with("name", &network.name)
            .with("type", &network.driver),
    );
    finish(engine, &aside)
}

/// Frees the places of containers that do not run: recovers those whose monitors were lost.
fn recover_users(engine: &Engine, network: &NetworkRecord) -> Result<()> {
    let dir = engine.paths().network_dir(&network.id);
    for endpoint in super::endpoints(engine, network)? {
        let lock = engine.paths().owner_lock(&endpoint.container);
        match container::load(engine, &endpoint.container) {
            // It runs, or a verb or its monitor is at work and may be about to leave.
            Ok((_, state)) if container::load::is_live(state.status) => continue,
            Ok(_) if OwnerLock::is_held(&lock)? => continue,
            Ok(_) => {}
            Err(error) if error.kind == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let left = ketch_network::leave(&dir, network, &endpoint.container);
        if let Some(bridge) = left.map_err(|error| network_error(&error))? {
            bridge.delete().map_err(|error| network_error(&error))?;
        }
    }
    Ok(())
}

/// Moves the network's directory out of the way, if nobody is in it.
fn set_aside(engine: &Engine, network: &NetworkRecord) -> Result<std::path::PathBuf> {
    // Whoever joins holds this lock too.
    let _lock =
        LeafLock::take(&engine.paths().network_lock(&network.id)).map_err(
            |error| match Error::from(error) {
                error if error.kind == ErrorKind::NotFound => super::not_found(&network.name),
                error => error,
            },
        )?;
    let users = super::endpoints(engine, network)?;
    if !users.is_empty() {
        return Err(in_use(network, &users));
    }
    let place = engine.paths().network_dir(&network.id);
    let aside = engine
        .paths()
        .network_aside(&format!("{REMOVING}{}", network.id));
    // Commit point: the network is gone.
    fs::rename(&place, &aside).map_err(|error| io_error("rename", &place, &error))?;
    Ok(aside)
}

/// Takes away the name, the bridge and the directory of a network that was set aside. Idempotent, also where two do it
/// at once.
pub(super) fn finish(engine: &Engine, aside: &Path) -> Result<()> {
    if let Some(network) = record::read_if_there::<NetworkRecord>(&aside.join("network.json"))? {
        names::release(engine, names::NETWORK, &network.name, &network.id)?;
        match ketch_network::remove_bridge(aside, &network) {
            // The other has removed the directory.
            Err(ketch_network::Error::Io { source, .. })
                if source.kind() == io::ErrorKind::NotFound => {}
            other => other.map_err(|error| network_error(&error))?,
        }
    }
    ketch_sys::fs::remove_tree(aside).map_err(|error| {
        Error::caused(
            ErrorKind::Internal,
            format!("cannot remove {}", aside.display()),
            &error,
        )
    })
}

fn in_use(network: &NetworkRecord, users: &[EndpointRecord]) -> Error {
    let users: Vec<String> = users
        .iter()
        .map(|user| format!("name:{:?} id:{:?}", user.name, user.endpoint_id.short()))
        .collect();
    let message = format!(
        "error while removing network: network {} id {} has active endpoints ({})",
        network.name,
        network.id,
        users.join(", ")
    );
    Error::new(ErrorKind::Forbidden, message)
        .hint("stop the containers, or take them out with `ketch network disconnect`")
}
