//! `network connect`.

use ketch_network::NetworkRecord;

use super::{DEFAULT, resolve};
use crate::container::channel::{Reached, reach};
use crate::container::config::{ContainerConfig, EndpointConfig, NetworkMode};
use crate::container::control::{Reply, Request};
use crate::container::{self, load};
use crate::event::{self, Event};
use crate::{Engine, Error, ErrorKind, Result};

/// Puts a container into one more network: a running one at once, by its monitor; another at its next start.
///
/// # Errors
/// `NotFound` for either; `Forbidden` where it is there already or its mode forbids it; what the address asked for or
/// the kernel stand against.
pub fn connect(
    engine: &Engine,
    wanted: &str,
    container: &str,
    endpoint: EndpointConfig,
) -> Result<()> {
    let network = resolve(engine, wanted)?;
    let id = container::resolve(engine, container)?;
    let (config, _) = container::load(engine, &id)?;
    check(&config, &network, &endpoint)?;
    // Records keep the network's name.
    let endpoint = EndpointConfig {
        network: network.name.clone(),
        ..endpoint
    };
    match reach(engine, &id, &Request::NetworkConnect(endpoint.clone()))? {
        Reached::Answered(Reply::Failed(error)) => return Err(error),
        // The monitor has told of it.
        Reached::Answered(_) => return Ok(()),
        Reached::Owned {
            lock, mut config, ..
        } => {
            check(&config, &network, &endpoint)?;
            config.network.mode = NetworkMode::Bridge;
            config.network.endpoints.push(endpoint);
            // Commit point: the next start joins the network.
            load::write_config(engine, &config)?;
            drop(lock);
        }
    }
    let event = Event::now("network", "connect", network.id.as_str());
    let event = event
        .with("container", id.as_str())
        .with("name", &network.name)
        .with("type", &network.driver);
    let _ = event::publish(engine, &event);
    Ok(())
}

fn check(
    config: &ContainerConfig,
    network: &NetworkRecord,
    endpoint: &EndpointConfig,
) -> Result<()> {
    let forbidden = |message: &str| Err(Error::new(ErrorKind::Forbidden, message));
    match (&config.network.mode, network.driver.as_str()) {
        (NetworkMode::Container(_), _) => {
            return forbidden(
                "container sharing network namespace with another container or host cannot be connected to any other network",
            );
        }
        (NetworkMode::Host, _) | (_, "host") => {
            return forbidden(
                "container cannot be disconnected from host network or connected to host network",
            );
        }
        (NetworkMode::None, _) | (_, "null") => {
            return forbidden(
                "container cannot be connected to multiple networks with one of the networks in private (none) mode",
            );
        }
        (NetworkMode::Bridge, _) => {}
    }
    if config
        .network
        .endpoints
        .iter()
        .any(|other| other.network == network.name)
    {
        let message = format!(
            "endpoint with name {} already exists in network {}",
            config.name, network.name
        );
        return forbidden(&message);
    }
    let invalid = |message: &str| Err(Error::new(ErrorKind::Invalid, message));
    if endpoint.ipv6.is_some() {
        return Err(Error::new(
            ErrorKind::Unsupported,
            "addresses of IPv6 are not supported by this version",
        ));
    }
    if network.name == DEFAULT && !endpoint.aliases.is_empty() {
        return invalid("network-scoped aliases are only supported for user-defined networks");
    }
    if let Some(address) = endpoint.ipv4 {
        if network.name == DEFAULT {
            return invalid("user specified IP address is supported on user defined networks only");
        }
        if !network
            .subnets
            .iter()
            .any(|subnet| subnet.subnet.is_host(address))
        {
            let message = "invalid endpoint settings: no configured subnet or ip-range contain the IP address";
            return invalid(&format!("{message} {address}"));
        }
    }
    Ok(())
}
