//! `network disconnect`.

use ketch_network::NetworkRecord;

use super::{network_error, resolve};
use crate::container::channel::{Reached, reach};
use crate::container::config::{ContainerConfig, NetworkMode};
use crate::container::control::{Reply, Request};
use crate::container::{self, load};
use crate::event::{self, Event};
use crate::{Engine, Error, ErrorKind, Result};

/// Takes a container out of a network. With `force`, also one that is not there any more but has left its place.
///
/// # Errors
/// `NotFound` for either; `Forbidden` where it is not in the network or its mode forbids it.
pub fn disconnect(engine: &Engine, wanted: &str, container: &str, force: bool) -> Result<()> {
    let network = resolve(engine, wanted)?;
    let id = match container::resolve(engine, container) {
        Err(error) if error.kind == ErrorKind::NotFound && force => {
            return release(engine, &network, container, error);
        }
        other => other?,
    };
    let (config, _) = container::load(engine, &id)?;
    check(&config, &network)?;
    match reach(
        engine,
        &id,
        &Request::NetworkDisconnect {
            network: network.name.clone(),
        },
    )? {
        Reached::Answered(Reply::Failed(error)) => return Err(error),
        // The monitor has told of it.
        Reached::Answered(_) => return Ok(()),
        Reached::Owned {
            lock, mut config, ..
        } => {
            check(&config, &network)?;
            config
                .network
                .endpoints
                .retain(|endpoint| endpoint.network != network.name);
            // Commit point: the next start does not join the network.
            load::write_config(engine, &config)?;
            drop(lock);
        }
    }
    let event = Event::now("network", "disconnect", network.id.as_str());
    let event = event
        .with("container", id.as_str())
        .with("name", &network.name)
        .with("type", &network.driver);
    let _ = event::publish(engine, &event);
    Ok(())
}

fn check(config: &ContainerConfig, network: &NetworkRecord) -> Result<()> {
    let forbidden = |message: &str| Err(Error::new(ErrorKind::Forbidden, message));
    if config.network.mode == NetworkMode::Host || network.driver == "host" {
        return forbidden(
            "container cannot be disconnected from host network or connected to host network",
        );
    }
    if !config
        .network
        .endpoints
        .iter()
        .any(|endpoint| endpoint.network == network.name)
    {
        return forbidden(&format!(
            "container {} is not connected to network {}",
            config.id, network.name
        ));
    }
    Ok(())
}

/// Gives up the place of a container that is gone, by the name or the id that its endpoint record bears.
fn release(engine: &Engine, network: &NetworkRecord, container: &str, absent: Error) -> Result<()> {
    let is_meant = |name: &str, id: &str| name == container || id.starts_with(container);
    let endpoints = super::endpoints(engine, network)?;
    let Some(left) = endpoints
        .iter()
        .find(|left| is_meant(&left.name, left.container.as_str()))
    else {
        return Err(absent);
    };
    let dir = engine.paths().network_dir(&network.id);
    let bridge = ketch_network::leave(&dir, network, &left.container)
        .map_err(|error| network_error(&error))?;
    bridge
        .map_or(Ok(()), ketch_network::RetiredBridge::delete)
        .map_err(|error| network_error(&error))
}
