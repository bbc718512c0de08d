//! A network's bridge: made with the first endpoint, gone with the last.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use ketch_spec::Id;

use crate::claim::{claim, has_endpoints, mac_of, random, release};
use crate::firewall::{self, NetworkRules};
use crate::link::{Link, Links};
use crate::lock::NetworkLock;
use crate::nft::Firewall;
use crate::record::{EndpointRecord, EndpointRequest, NetworkOptions, NetworkRecord, SubnetRecord};
use crate::{Error, Result};

/// How the names of retired bridges begin.
const RETIRED_PREFIX: &str = "ktx";
/// The alias of retired bridges, so that a link of someone else with such a name is safe from us.
const RETIRED_ALIAS: &str = "ketch: retired bridge";

/// A bridge that is out of use and out of the way: down, renamed, without rules. Deleting it waits for RCU grace
/// periods (tens of milliseconds), which nobody else should wait for.
#[derive(Debug)]
#[must_use = "the link stays until it is deleted"]
pub struct RetiredBridge {
    index: u32,
}

impl RetiredBridge {
    /// Deletes the link, and retired bridges that a killed process has left. Blocks.
    ///
    /// # Errors
    /// [`Error::Link`].
    pub fn delete(self) -> Result<()> {
        Links::open()?.delete(self.index)?;
        sweep_retired()
    }
}

/// Deletes retired bridges that a killed process has left. Blocks where there are some.
///
/// # Errors
/// [`Error::Link`].
pub fn sweep_retired() -> Result<()> {
    let mut links = Links::open()?;
    for link in links.bridges()? {
        if link.name.starts_with(RETIRED_PREFIX) && link.alias == RETIRED_ALIAS {
            links.delete(link.index)?;
        }
    }
    Ok(())
}

/// Claims a place in a network for a container and makes sure that the network is up. A place the container had there
/// before is given up.
///
/// # Errors
/// An address that cannot be had, or a refusal of the kernel; then nothing is left.
pub fn join(
    network_dir: &Path,
    network: &NetworkRecord,
    request: &EndpointRequest,
) -> Result<EndpointRecord> {
    let lock = NetworkLock::take(network_dir)?;
    let record = claim(&lock, network_dir, network, request)?;
    match raise(network) {
        Ok(()) => Ok(record),
        Err(error) => {
            // The first error is the one to tell; what cannot be undone now is undone by the next to leave.
            let _ = release(&lock, network_dir, &request.container);
            if let Ok(Some(retired)) = retire_if_unused(&lock, network_dir, network) {
                drop(lock);
                let _ = retired.delete();
            }
            Err(error)
        }
    }
}

/// Gives up a container's place in a network, in whatever state it is; does nothing where there is none. The host's end
/// of its veth pair goes down at once, so that the address can be given to another, and away with its namespace.
///
/// Returns the bridge, if this was the last endpoint: [`RetiredBridge::delete`] it when nobody waits any more.
///
/// # Errors
/// The first failure; all steps are tried.
pub fn leave(
    network_dir: &Path,
    network: &NetworkRecord,
    container: &Id,
) -> Result<Option<RetiredBridge>> {
    let lock = match NetworkLock::take(network_dir) {
        // The network has been removed by force: there is nothing to leave.
        Err(Error::Io { source, .. }) if source.kind() == ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    let down = match crate::claim::endpoint(network_dir, container) {
        Ok(Some(record)) => Links::open().and_then(|mut links| links.take_down(&record.host_link)),
        // A damaged record does not tell its link; the namespace takes it along.
        _ => Ok(()),
    };
    release(&lock, network_dir, container)?;
    let retired = retire_if_unused(&lock, network_dir, network);
    down.and(retired)
}

/// Removes the bridge and the rules of a network that has no endpoints. Idempotent. Blocks.
///
/// # Errors
/// The kernel's refusal.
pub fn remove_bridge(network_dir: &Path, network: &NetworkRecord) -> Result<()> {
    let lock = NetworkLock::take(network_dir)?;
    let retired = retire_if_unused(&lock, network_dir, network)?;
    drop(lock);
    retired.map_or(Ok(()), RetiredBridge::delete)
}

/// What marks a link as this network's.
fn alias(network: &NetworkRecord) -> String {
    format!("ketch: network {}", network.id)
}

fn subnet(network: &NetworkRecord) -> Result<&SubnetRecord> {
    network
        .subnets
        .first()
        .filter(|_| !network.bridge.is_empty())
        .ok_or_else(|| Error::NoEndpoints {
            network: network.name.clone(),
            driver: network.driver.clone(),
        })
}

fn rules<'a>(
    network: &'a NetworkRecord,
    subnet: &SubnetRecord,
    masquerade: bool,
) -> NetworkRules<'a> {
    NetworkRules {
        bridge: &network.bridge,
        subnet: subnet.subnet,
        internal: network.internal,
        masquerade,
    }
}

/// Whether a link is this network's: marked so, or a bridge as we make it that a crash has left without a mark.
fn is_ours(network: &NetworkRecord, subnet: &SubnetRecord, link: &Link) -> bool {
    let unmarked = link.alias.is_empty() && link.mac == Some(mac_of(subnet.gateway));
    link.kind == "bridge" && (link.alias == alias(network) || unmarked)
}

/// Makes sure that the bridge is up and the firewall knows it.
fn raise(network: &NetworkRecord) -> Result<()> {
    let options = NetworkOptions::parse(&network.options)?;
    let subnet = subnet(network)?;
    let mut links = Links::open()?;
    let alias = alias(network);
    let found = links.find(&network.bridge)?;
    if !found.is_some_and(|link| link.up && link.alias == alias && link.kind == "bridge") {
        links.make_bridge(&network.bridge, mac_of(subnet.gateway), options.mtu)?;
        let taken = || Error::BridgeTaken {
            name: network.bridge.clone(),
        };
        let link = links
            .find(&network.bridge)?
            .filter(|link| is_ours(network, subnet, link))
            .ok_or_else(taken)?;
        links.finish_bridge(link.index, &alias)?;
        links.configure(
            link.index,
            Some((subnet.gateway, subnet.subnet.prefix())),
            None,
        )?;
        if !network.internal {
            forward_packets()?;
        }
    }
    let rules = rules(network, subnet, options.masquerade);
    Firewall::open()
        .and_then(|mut firewall| firewall::admit(&mut firewall, rules))
        .map_err(|source| Error::Firewall {
            action: "add the network to the firewall table ketch",
            source,
        })
}

fn retire_if_unused(
    _lock: &NetworkLock,
    network_dir: &Path,
    network: &NetworkRecord,
) -> Result<Option<RetiredBridge>> {
    let Ok(subnet) = subnet(network) else {
        return Ok(None);
    };
    if has_endpoints(network_dir)? {
        return Ok(None);
    }
    let mut links = Links::open()?;
    let Some(link) = links
        .find(&network.bridge)?
        .filter(|link| is_ours(network, subnet, link))
    else {
        return Ok(None);
    };
    let masquerade = NetworkOptions::parse(&network.options)?.masquerade;
    let rules = rules(network, subnet, masquerade);
    // The rules first: while the bridge bears its name, whoever comes next finds it and tries again.
    Firewall::open()
        .and_then(|mut firewall| firewall::dismiss(&mut firewall, rules))
        .map_err(|source| Error::Firewall {
            action: "remove the network from the firewall table ketch",
            source,
        })?;
    let name = format!(
        "{RETIRED_PREFIX}{:012x}",
        u64::from_ne_bytes(random()?) & 0xffff_ffff_ffff
    );
    links.retire(link.index, &name, RETIRED_ALIAS)?;
    Ok(Some(RetiredBridge { index: link.index }))
}

/// Turns on the routing of packets between links.
fn forward_packets() -> Result<()> {
    let path = Path::new("/proc/sys/net/ipv4/ip_forward");
    let error = |call| {
        move |source| Error::Io {
            call,
            path: path.to_path_buf(),
            source,
        }
    };
    if fs::read(path).map_err(error("read"))?.trim_ascii() == b"0" {
        fs::write(path, "1").map_err(error("write"))?;
    }
    Ok(())
}
