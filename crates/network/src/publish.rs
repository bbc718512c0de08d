//! Published ports: a bound socket of ours says that the host's port is taken, an element of a map says whose it is.
//!
//! The socket is the truth: it goes with the process, and nobody else can bind the port while it is there. So an element
//! for a port that we could bind is what a killed process has left, and is replaced.

use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};
use std::os::fd::OwnedFd;

use ketch_spec::Id;
use ketch_spec::port::{PortMapping, Protocol};
use ketch_sys::netlink;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto, sockopt};

use crate::conntrack;
use crate::firewall::{PUBLISHED, PUBLISHED_AT, TABLE, is_stale};
use crate::nft::{Batch, Element, Firewall, Key};
use crate::{Error, Result};

/// How often a change is tried while others change the table at the same time.
const ATTEMPTS: usize = 32;

/// Ports to publish.
#[derive(Debug, Clone, Copy)]
pub struct PublishRequest<'a> {
    /// The container.
    pub container: &'a Id,
    /// The container's name, for messages.
    pub name: &'a str,
    /// The endpoint's id, for messages.
    pub endpoint_id: &'a Id,
    /// The container's address, in a network that is not internal.
    pub address: Ipv4Addr,
    /// Host address of mappings that name none; None means all addresses.
    pub host_binding: Option<Ipv4Addr>,
    /// What to publish.
    pub mappings: &'a [PortMapping],
}

/// Ports that are published as long as this lives; [`unpublish`] takes the rules away.
#[derive(Debug)]
pub struct Published {
    /// The mappings with their host ports.
    pub mappings: Vec<PortMapping>,
    /// Sockets that hold the ports. Nothing is ever read from them.
    _guards: Vec<OwnedFd>,
}

/// Publishes ports: reachable on the host's addresses from outside, from the host and from containers, and on
/// 127.0.0.1 from the host.
///
/// # Errors
/// [`Error::PortAllocated`], [`Error::PortBind`], [`Error::PublishOnIpv6`], or a refusal of the kernel; then none is
/// published.
pub fn publish(request: &PublishRequest<'_>) -> Result<Published> {
    let mut published = Published {
        mappings: Vec::new(),
        _guards: Vec::new(),
    };
    let mut elements = [(PUBLISHED, Vec::new()), (PUBLISHED_AT, Vec::new())];
    if request.mappings.is_empty() {
        return Ok(published);
    }
    for mapping in request.mappings {
        let host = host_address(request, mapping)?;
        let (guard, port) = hold(request, mapping, host)?;
        published._guards.extend(guard);
        let protocol = mapping.container.protocol;
        let (set, key) = if host.is_unspecified() {
            (0, Key::port(protocol, port))
        } else {
            (1, Key::address_port(host, protocol, port))
        };
        let to = Element::to_port(
            key,
            request.address,
            mapping.container.number,
            request.container.as_str(),
        );
        elements[set].1.push(to);
        let host_ip = mapping
            .host_ip
            .or((!host.is_unspecified()).then_some(IpAddr::V4(host)));
        published.mappings.push(PortMapping {
            host_ip,
            host_port: Some(port),
            host_port_end: None,
            ..*mapping
        });
    }
    Firewall::open()
        .and_then(|mut firewall| insert(&mut firewall, &elements))
        .map_err(|source| Error::Firewall {
            action: "publish ports",
            source,
        })?;
    // Flows that were there before the rule would go on around it.
    let ports: Vec<u16> = published
        .mappings
        .iter()
        .filter(|mapping| mapping.container.protocol == Protocol::Udp)
        .filter_map(|mapping| mapping.host_port)
        .collect();
    conntrack::forget_udp(
        |flow| ports.contains(&flow.destination_port),
        !ports.is_empty(),
    )
    .map_err(|source| Error::Firewall {
        action: "forget flows to published ports",
        source,
    })?;
    Ok(published)
}

/// Takes a container's published ports away, whoever published them. Idempotent.
///
/// # Errors
/// [`Error::Firewall`].
pub fn unpublish(container: &Id) -> Result<()> {
    let error = |source| Error::Firewall {
        action: "withdraw published ports",
        source,
    };
    let mut firewall = Firewall::open().map_err(error)?;
    remove(&mut firewall, container.as_str()).map_err(error)
}

/// Adds elements in one transaction.
fn insert(
    firewall: &mut Firewall,
    elements: &[(&'static str, Vec<Element>)],
) -> Result<(), netlink::Error> {
    let mut batch = Batch::new(TABLE, None);
    for (set, elements) in elements {
        batch.add_elements(set, elements, true);
    }
    match firewall.commit(batch) {
        Err(error) if error.errno() == Some(Errno::EXIST) => replace(firewall, elements),
        other => other,
    }
}

/// Adds elements in place of those that a killed process has left.
fn replace(
    firewall: &mut Firewall,
    elements: &[(&'static str, Vec<Element>)],
) -> Result<(), netlink::Error> {
    let mut last = netlink::Error::Malformed;
    for _ in 0..ATTEMPTS {
        let generation = firewall.generation()?;
        let mut batch = Batch::new(TABLE, Some(generation));
        for (set, elements) in elements {
            let mut stale = firewall.elements(TABLE, set)?;
            stale.retain(|old| elements.iter().any(|new| new.key == old.key));
            batch.delete_elements(set, &stale);
            batch.add_elements(set, elements, true);
        }
        match firewall.commit(batch) {
            Err(error) if is_stale(&error) => last = error,
            other => return other,
        }
    }
    Err(last)
}

/// Removes the elements that bear a comment.
fn remove(firewall: &mut Firewall, comment: &str) -> Result<(), netlink::Error> {
    let mut last = netlink::Error::Malformed;
    for _ in 0..ATTEMPTS {
        let mut batch = Batch::new(TABLE, None);
        let mut removed = Vec::new();
        for set in [PUBLISHED, PUBLISHED_AT] {
            let mut own = firewall.elements(TABLE, set)?;
            own.retain(|element| element.comment.as_deref() == Some(comment));
            batch.delete_elements(set, &own);
            removed.extend(own);
        }
        if removed.is_empty() {
            return Ok(());
        }
        match firewall.commit(batch) {
            Ok(()) => {
                let targets: Vec<_> = removed.iter().filter_map(Element::udp_target).collect();
                let is_ours = |flow: &conntrack::Flow| {
                    targets.contains(&(flow.answer_from, flow.answer_port))
                };
                return conntrack::forget_udp(is_ours, !targets.is_empty());
            }
            // Someone else has removed some of them, or the table.
            Err(error) if is_stale(&error) => last = error,
            Err(error) => return Err(error),
        }
    }
    Err(last)
}

/// The host address of a mapping; unspecified for all.
fn host_address(request: &PublishRequest<'_>, mapping: &PortMapping) -> Result<Ipv4Addr> {
    match mapping.host_ip {
        None => Ok(request.host_binding.unwrap_or(Ipv4Addr::UNSPECIFIED)),
        Some(IpAddr::V4(address)) => Ok(address),
        Some(IpAddr::V6(address)) => Err(Error::PublishOnIpv6 { address }),
    }
}

/// Binds the port of a mapping, or the first free one of its range, or any.
fn hold(
    request: &PublishRequest<'_>,
    mapping: &PortMapping,
    host: Ipv4Addr,
) -> Result<(Option<OwnedFd>, u16)> {
    let first = mapping.host_port.unwrap_or(0);
    let last = mapping
        .host_port_end
        .filter(|end| first != 0 && *end > first)
        .unwrap_or(first);
    let protocol = mapping.container.protocol;
    let mut failure = Errno::ADDRINUSE;
    for port in first..=last {
        match bind(protocol, SocketAddrV4::new(host, port)) {
            Ok(held) => return Ok(held),
            Err(errno) => failure = errno,
        }
        if failure != Errno::ADDRINUSE {
            break;
        }
    }
    let endpoint = format!("{} ({})", request.name, request.endpoint_id);
    if failure == Errno::ADDRINUSE && is_allocated(protocol, last) {
        return Err(Error::PortAllocated {
            endpoint,
            address: host,
            port: last,
        });
    }
    let ports = if last > first {
        format!("{first}-{last}")
    } else {
        first.to_string()
    };
    Err(Error::PortBind {
        endpoint,
        mapping: format!("{host}:{ports}:{}:{}", request.address, mapping.container),
        in_use: failure == Errno::ADDRINUSE,
        reason: reason(failure),
    })
}

/// Docker's words for the refusals that happen.
fn reason(errno: Errno) -> String {
    match errno {
        Errno::ADDRINUSE => "address already in use".into(),
        Errno::ADDRNOTAVAIL => "cannot assign requested address".into(),
        Errno::ACCESS => "permission denied".into(),
        other => std::io::Error::from(other).to_string(),
    }
}

/// Whether a container has published a port, on any address.
fn is_allocated(protocol: Protocol, port: u16) -> bool {
    let Ok(mut firewall) = Firewall::open() else {
        return false;
    };
    [PUBLISHED, PUBLISHED_AT].iter().any(|set| {
        let elements = firewall.elements(TABLE, set).unwrap_or_default();
        elements
            .iter()
            .any(|element| element.key.is_port(protocol, port))
    })
}

/// A socket that holds a port, where the kernel has the protocol; and the port.
fn bind(protocol: Protocol, address: SocketAddrV4) -> Result<(Option<OwnedFd>, u16), Errno> {
    let (kind, number) = match protocol {
        Protocol::Tcp => (SocketType::STREAM, ipproto::TCP),
        Protocol::Udp => (SocketType::DGRAM, ipproto::UDP),
        Protocol::Sctp => (SocketType::STREAM, ipproto::SCTP),
    };
    let socket = match rustix::net::socket_with(
        AddressFamily::INET,
        kind,
        SocketFlags::CLOEXEC,
        Some(number),
    ) {
        // No program of the host can have an SCTP port then, and the map's exclusive elements keep containers apart.
        Err(Errno::PROTONOSUPPORT) if protocol == Protocol::Sctp && address.port() != 0 => {
            return Ok((None, address.port()));
        }
        other => other?,
    };
    if protocol != Protocol::Udp {
        // Past connections of the host to this port are no obstacle; a socket that listens still is, and is one.
        sockopt::set_socket_reuseaddr(&socket, true)?;
    }
    rustix::net::bind(&socket, &address)?;
    if protocol == Protocol::Udp {
        sockopt::set_socket_recv_buffer_size(&socket, 0)?;
    } else {
        rustix::net::listen(&socket, 1)?;
    }
    let bound = SocketAddrV4::try_from(rustix::net::getsockname(&socket)?)?;
    Ok((Some(socket), bound.port()))
}
