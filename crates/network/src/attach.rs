//! A container's end of a network: the veth pair.

use std::fs;
use std::os::fd::BorrowedFd;

use rustix::io::Errno;

use crate::claim::parse_mac;
use crate::link::{Links, VethPair};
use crate::netns;
use crate::record::{EndpointRecord, NetworkOptions, NetworkRecord};
use crate::{Error, Result};

/// Index of the loopback link in every network namespace.
const LOOPBACK_INDEX: u32 = 1;

/// How an endpoint appears in the container.
#[derive(Debug, Clone, Copy)]
pub struct AttachOptions<'a> {
    /// Name of the link inside: `eth0`, `eth1`, …
    pub interface: &'a str,
    /// Whether the network's gateway becomes the default route: for one network of a container only.
    pub default_route: bool,
}

/// Connects a network namespace to the bridge of a network that was joined: a veth pair whose inner end is born in the
/// namespace; address, default route, loopback. Half a millisecond.
///
/// # Errors
/// The kernel's refusal. [`crate::leave`] undoes what was done.
pub fn attach(
    network: &NetworkRecord,
    endpoint: &EndpointRecord,
    netns: BorrowedFd<'_>,
    options: AttachOptions<'_>,
) -> Result<()> {
    let driver = NetworkOptions::parse(&network.options)?;
    let inner_mac = parse_mac(&endpoint.mac)?;
    let mut inside = netns::within(netns, || {
        // The network has no IPv6: without this the link would give itself an address and look for routers.
        // Best effort: a kernel without IPv6 has no such file.
        let _ = fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1");
        Links::open()
    })??;
    let mut links = Links::open()?;
    let bridge = links
        .find(&network.bridge)?
        .ok_or_else(|| missing(&network.bridge))?;
    let pair = VethPair {
        host_name: &endpoint.host_link,
        bridge: bridge.index,
        inner_name: options.interface,
        inner_mac,
        mtu: driver.mtu,
        netns,
    };
    let mut made = links.make_veth(&pair);
    if made
        .as_ref()
        .is_err_and(|error| error.errno() == Some(Errno::EXIST))
    {
        // The pair of an earlier run whose namespace has not ended yet.
        if let Some(stale) = links.find(pair.host_name)? {
            links.delete(stale.index)?;
            made = links.make_veth(&pair);
        }
    }
    let action = || format!("create veth {} for {}", pair.host_name, pair.inner_name);
    made.map_err(|source| Error::Link {
        action: action(),
        source,
    })?;
    let hairpin = bridged_packets_are_filtered();
    if hairpin || !driver.inter_container {
        let port = links
            .find(pair.host_name)?
            .ok_or_else(|| missing(pair.host_name))?;
        links.set_port(port.index, hairpin, !driver.inter_container)?;
    }
    let inner = inside
        .find(options.interface)?
        .ok_or_else(|| missing(options.interface))?;
    let gateway = endpoint.gateway.filter(|_| options.default_route);
    inside.configure(inner.index, Some((endpoint.ipv4, endpoint.prefix)), gateway)?;
    inside.configure(LOOPBACK_INDEX, None, None)?;
    // The port first: only then has the bridge a carrier.
    links.settle(pair.host_name)?;
    links.settle(&network.bridge)
}

/// Deletes a container's veth pair while its namespace lives on: for `network disconnect`. Waits for RCU grace
/// periods. Idempotent.
///
/// # Errors
/// [`Error::Link`].
pub fn detach(endpoint: &EndpointRecord) -> Result<()> {
    let mut links = Links::open()?;
    match links.find(&endpoint.host_link)? {
        Some(link) => links.delete(link.index),
        None => Ok(()),
    }
}

/// Brings up the loopback link of a namespace that joins no network.
///
/// # Errors
/// [`Error::Link`].
pub fn loopback_up(netns: BorrowedFd<'_>) -> Result<()> {
    Links::open_in(netns)?.configure(LOOPBACK_INDEX, None, None)
}

/// Whether br_netfilter is on. Then a container's packet to its own published port is translated in the bridge and
/// must go back by the same port; otherwise it passes through the routing of the host.
fn bridged_packets_are_filtered() -> bool {
    fs::read("/proc/sys/net/bridge/bridge-nf-call-iptables")
        .is_ok_and(|value| value.trim_ascii() == b"1")
}

fn missing(name: &str) -> Error {
    let source = ketch_sys::netlink::Error::Refused {
        errno: Errno::NODEV,
        text: None,
        index: 0,
    };
    Error::Link {
        action: format!("find link {name}"),
        source,
    }
}
