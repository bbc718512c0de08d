//! The container's part in networks: places, links, published ports, names; at the start, at the end, and when
//! a user connects or disconnects a running container.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;

use ketch_engine::container::config::{ContainerConfig, EndpointConfig};
use ketch_engine::container::files::{self, Addresses};
use ketch_engine::container::state::EndpointState;
use ketch_engine::event::Event;
use ketch_engine::network::{self, network_error};
use ketch_engine::{Engine, Error, ErrorKind, Result};
use ketch_network::dns::{self, EndpointNames};
use ketch_network::{
    AttachOptions, EndpointRecord, EndpointRequest, IdleBridge, NetworkOptions, NetworkRecord,
    PublishRequest, Published, RetiredBridge,
};
use ketch_spec::port::PortMapping;

/// A network that the container has a place in.
pub struct Joined {
    /// The network's directory.
    pub directory: PathBuf,
    /// The network.
    pub network: NetworkRecord,
    /// The container's place.
    pub endpoint: EndpointRecord,
    /// Name of the link inside.
    pub interface: String,
}

/// Answers to names for a container in user networks.
#[derive(Debug)]
pub struct Names {
    server: dns::Server,
    known: EndpointNames,
}

impl Names {
    /// Opens the name server in the container's network namespace, if the container is in a network that has names.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn serve(
        config: &ContainerConfig,
        joined: &[Joined],
        netns: BorrowedFd<'_>,
    ) -> Result<Option<Self>> {
        if !joined.iter().any(Joined::answers_names) {
            return Ok(None);
        }
        let server = dns::Server::open(netns, &resolvers(config, joined))
            .map_err(|error| network_error(&error))?;
        Ok(Some(Self {
            server,
            known: EndpointNames::new(named(joined)),
        }))
    }

    /// The networks are others now.
    pub fn set_networks(&mut self, config: &ContainerConfig, joined: &[Joined]) {
        self.known = EndpointNames::new(named(joined));
        self.server.set_upstreams(&resolvers(config, joined));
    }

    /// Readable when [`Self::answer`] has something to do.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.server.as_fd()
    }

    /// Answers what was asked.
    ///
    /// # Errors
    /// Only those of the server's own descriptors.
    pub fn answer(&mut self) -> Result<()> {
        self.server
            .handle(&mut self.known)
            .map_err(|error| network_error(&error))
    }
}

/// Who is asked for other names: nobody for a container that no network leads outside, or questions would be a way out.
fn resolvers(config: &ContainerConfig, joined: &[Joined]) -> Vec<IpAddr> {
    match joined
        .iter()
        .any(|joined| joined.endpoint.gateway.is_some())
    {
        true => files::upstream_resolvers(config),
        false => Vec::new(),
    }
}

fn named(joined: &[Joined]) -> impl Iterator<Item = (String, PathBuf)> {
    let named = joined.iter().filter(|joined| joined.answers_names());
    named.map(|joined| (joined.network.name.clone(), joined.directory.clone()))
}

/// Claims the container's place in one network, and sees that the network is up.
///
/// # Errors
/// No such network; an address that cannot be had; the kernel's refusal.
pub fn join(
    engine: &Engine,
    config: &ContainerConfig,
    endpoint: &EndpointConfig,
    index: usize,
) -> Result<Joined> {
    let network = network::resolve(engine, &endpoint.network)?;
    let directory = engine.paths().network_dir(&network.id);
    if endpoint.ipv6.is_some() {
        let message = format!(
            "an IPv6 address in network {} is not supported",
            network.name
        );
        return Err(Error::new(ErrorKind::Unsupported, message));
    }
    let request = EndpointRequest {
        container: config.id.clone(),
        name: config.name.clone(),
        aliases: endpoint.aliases.clone(),
        ipv4: endpoint.ipv4,
        mac: endpoint.mac.clone(),
    };
    let endpoint = ketch_network::join(&directory, &network, &request)
        .map_err(|error| network_error(&error))?;
    Ok(Joined {
        directory,
        network,
        endpoint,
        interface: format!("eth{index}"),
    })
}

/// What the container's files need to know.
pub fn addresses(joined: &[Joined]) -> Addresses {
    Addresses {
        own: joined.iter().map(|joined| joined.endpoint.ipv4).collect(),
        host_gateway: joined.iter().find_map(|joined| joined.endpoint.gateway),
        user_network: joined.iter().any(Joined::answers_names),
    }
}

impl Joined {
    /// Whether names are answered in it: in user networks, as under Docker.
    fn answers_names(&self) -> bool {
        self.network.name != network::DEFAULT
    }

    fn state(&self) -> EndpointState {
        EndpointState {
            network_id: self.network.id.to_string(),
            ipv4: Some(self.endpoint.ipv4),
            ipv4_prefix: self.endpoint.prefix,
            gateway: self.endpoint.gateway,
            ipv6: None,
            mac: self.endpoint.mac.clone(),
            names: self.endpoint.names().map(str::to_owned).collect(),
        }
    }
}

/// As the container's state record has them.
pub fn states(joined: &[Joined]) -> BTreeMap<String, EndpointState> {
    joined
        .iter()
        .map(|joined| (joined.network.name.clone(), joined.state()))
        .collect()
}

/// Makes the links into the container's network namespace. The default route goes through the first network that leads
/// outside.
///
/// # Errors
/// The kernel's refusal.
pub fn attach_all(joined: &[Joined], netns: BorrowedFd<'_>) -> Result<()> {
    if joined.is_empty() {
        return ketch_network::loopback_up(netns).map_err(|error| network_error(&error));
    }
    let outward = joined
        .iter()
        .position(|joined| joined.endpoint.gateway.is_some());
    for (index, joined) in joined.iter().enumerate() {
        let options = AttachOptions {
            interface: &joined.interface,
            default_route: outward == Some(index),
        };
        ketch_network::attach(&joined.network, &joined.endpoint, netns, options)
            .map_err(|error| network_error(&error))?;
    }
    Ok(())
}

/// Publishes the container's ports at its address in the first network that leads outside.
///
/// # Errors
/// A port that is in use, by name; the kernel's refusal.
pub fn publish(config: &ContainerConfig, joined: &[Joined]) -> Result<Option<Published>> {
    let mappings = wanted_ports(config);
    let Some(outward) = joined
        .iter()
        .find(|joined| joined.endpoint.gateway.is_some())
    else {
        return Ok(None);
    };
    if mappings.is_empty() {
        return Ok(None);
    }
    let options =
        NetworkOptions::parse(&outward.network.options).map_err(|error| network_error(&error))?;
    let request = PublishRequest {
        container: &config.id,
        name: &config.name,
        endpoint_id: &outward.endpoint.endpoint_id,
        address: outward.endpoint.ipv4,
        host_binding: options.host_binding,
        mappings: &mappings,
    };
    ketch_network::publish(&request)
        .map(Some)
        .map_err(|error| network_error(&error))
}

/// `-p`, and with `-P` every exposed port that has no mapping of its own.
fn wanted_ports(config: &ContainerConfig) -> Vec<PortMapping> {
    let mut mappings = config.network.ports.clone();
    if config.network.publish_all {
        for port in &config.network.exposed {
            if !mappings.iter().any(|mapping| mapping.container == *port) {
                mappings.push(PortMapping {
                    host_ip: None,
                    host_port: None,
                    host_port_end: None,
                    container: *port,
                });
            }
        }
    }
    mappings
}

/// Gives up the container's place in a network. The bridge of a network that nobody is in any more is deleted later,
/// when nobody waits.
///
/// # Errors
/// The kernel's.
pub fn leave(config: &ContainerConfig, joined: &Joined) -> Result<Option<RetiredBridge>> {
    ketch_network::leave(&joined.directory, &joined.network, &config.id)
        .map_err(|error| network_error(&error))
}

/// As [`leave`] at the end of a run: the bridge stays a while for whoever comes next.
///
/// # Errors
/// The kernel's.
pub fn leave_idle(config: &ContainerConfig, joined: &Joined) -> Result<Option<IdleBridge>> {
    ketch_network::leave_idle(&joined.directory, &joined.network, &config.id)
        .map_err(|error| network_error(&error))
}

/// A network's event, as the engine's verbs tell it too.
pub fn event(action: &str, config: &ContainerConfig, network: &NetworkRecord) -> Event {
    Event::now("network", action, network.id.as_str())
        .with("container", config.id.as_str())
        .with("name", network.name.as_str())
        .with("type", network.driver.as_str())
}
