//! A network's bridge: made with the first endpoint, gone with the last.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use ketch_spec::Id;
use ketch_sys::lock::{Kind, try_lock};

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

/// A bridge without endpoints that is kept for whoever comes next: making one and deleting it cost more than all the
/// rest of a short run. One process keeps it; that it does is a lock beside the network's record.
#[derive(Debug)]
#[must_use = "the bridge stays until somebody deletes it"]
pub struct IdleBridge {
    network_dir: PathBuf,
    network: NetworkRecord,
    keeper: File,
}

impl IdleBridge {
    /// Deletes the bridge, unless somebody has come meanwhile. Blocks.
    ///
    /// # Errors
    /// [`Error::Link`], [`Error::Firewall`], input and output.
    pub fn delete(self) -> Result<()> {
        let lock = match NetworkLock::take(&self.network_dir) {
            // The network has been removed, and its bridge with it.
            Err(Error::Io { source, .. }) if source.kind() == ErrorKind::NotFound => return Ok(()),
            other => other?,
        };
        let retired = retire_if_unused(&lock, &self.network_dir, &self.network)?;
        // Let go of under the network's lock: whoever leaves from now on keeps the bridge, or there is none.
        drop(self.keeper);
        drop(lock);
        retired.map_or(Ok(()), RetiredBridge::delete)
    }
}

/// Becomes the keeper of a network without endpoints; None where somebody is it already, or somebody is in the network.
fn keep_if_unused(
    _lock: &NetworkLock,
    network_dir: &Path,
    network: &NetworkRecord,
) -> Result<Option<IdleBridge>> {
    if subnet(network).is_err() || has_endpoints(network_dir)? {
        return Ok(None);
    }
    let path = network_dir.join("idle.lock");
    let failed = |call| {
        let path = path.clone();
        move |source| Error::Io { call, path, source }
    };
    let keeper = File::options()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .mode(0o600)
        .open(&path)
        .map_err(failed("open"))?;
    let ours = try_lock(keeper.as_fd(), Kind::Exclusive)
        .map_err(|error| failed("fcntl")(error.errno.into()))?;
    Ok(ours.then(|| IdleBridge {
        network_dir: network_dir.to_owned(),
        network: network.clone(),
        keeper,
    }))
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
    leave_and(network_dir, network, container, retire_if_unused)
}

/// As [`leave`], but the bridge of the last endpoint stays as it is, for whoever comes next: [`IdleBridge::delete`] it a
/// while later.
///
/// # Errors
/// As [`leave`].
pub fn leave_idle(
    network_dir: &Path,
    network: &NetworkRecord,
    container: &Id,
) -> Result<Option<IdleBridge>> {
    leave_and(network_dir, network, container, keep_if_unused)
}

fn leave_and<T>(
    network_dir: &Path,
    network: &NetworkRecord,
    container: &Id,
    then: impl FnOnce(&NetworkLock, &Path, &NetworkRecord) -> Result<Option<T>>,
) -> Result<Option<T>> {
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
    let left = then(&lock, network_dir, network);
    down.and(left)
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
