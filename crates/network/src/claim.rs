//! Addresses and endpoint records: who has which place in a network.
//!
//! `networks/<id>/addresses/<address>` is a symbolic link whose target is the container's id: made exclusively, with
//! its content, by one system call. `networks/<id>/endpoints/<container>.json` is the record. Both are made and
//! removed under the network's lock, the address first, so that an address without a record is what a crash left.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::net::Ipv4Addr;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use ketch_spec::Id;

use crate::link::Mac;
use crate::lock::NetworkLock;
use crate::record::{EndpointRecord, EndpointRequest, NetworkRecord, SubnetRecord, VERSION};
use crate::{Error, Result};

/// The endpoint of a container in a network.
///
/// # Errors
/// [`Error::Io`] and [`Error::Record`].
pub fn endpoint(network_dir: &Path, container: &Id) -> Result<Option<EndpointRecord>> {
    read_record(&record_path(network_dir, container))
}

/// All endpoints of a network. Takes no lock; one that is removed meanwhile may be left out.
///
/// # Errors
/// [`Error::Io`] and [`Error::Record`].
pub fn endpoints(network_dir: &Path) -> Result<Vec<EndpointRecord>> {
    let mut found = Vec::new();
    for name in file_names(&network_dir.join("endpoints"))? {
        if let Some(id) = name
            .strip_suffix(".json")
            .and_then(|stem| stem.parse::<Id>().ok())
        {
            found.extend(endpoint(network_dir, &id)?);
        }
    }
    found.sort_unstable_by_key(|record| record.ipv4);
    Ok(found)
}

/// Whether a network has an endpoint.
pub(crate) fn has_endpoints(network_dir: &Path) -> Result<bool> {
    Ok(file_names(&network_dir.join("endpoints"))?
        .iter()
        .any(|name| name.ends_with(".json")))
}

/// Gives a container's endpoint another name; does nothing where it has none.
///
/// # Errors
/// [`Error::Io`] and [`Error::Record`].
pub fn rename_endpoint(network_dir: &Path, container: &Id, name: &str) -> Result<()> {
    let _lock = NetworkLock::take(network_dir)?;
    let Some(mut record) = endpoint(network_dir, container)? else {
        return Ok(());
    };
    name.clone_into(&mut record.name);
    write_record(network_dir, &record)
}

/// Claims a place for a container; what it had before is given up first. Called with the network's lock.
pub(crate) fn claim(
    lock: &NetworkLock,
    network_dir: &Path,
    network: &NetworkRecord,
    request: &EndpointRequest,
) -> Result<EndpointRecord> {
    let subnet = network.subnets.first().ok_or_else(|| Error::NoEndpoints {
        network: network.name.clone(),
        driver: network.driver.clone(),
    })?;
    for directory in ["endpoints", "addresses"] {
        make_dir(&network_dir.join(directory))?;
    }
    release(lock, network_dir, &request.container)?;
    let mac = request.mac.as_deref().map(parse_mac).transpose()?;
    let taken = taken_addresses(network_dir)?;
    let address = match request.ipv4 {
        Some(address) => wanted_address(subnet, address, &taken)?,
        None => free_address(subnet, &taken).ok_or_else(|| Error::AddressesExhausted {
            network: network.name.clone(),
        })?,
    };
    let endpoint_id = Id::from_bytes(random()?);
    let short = request.container.short();
    let given = request
        .aliases
        .iter()
        .filter(|alias| **alias != short && **alias != request.name)
        .cloned();
    let aliases = std::iter::once(short.to_owned()).chain(given).collect();
    let record = EndpointRecord {
        version: VERSION,
        network_id: network.id.clone(),
        container: request.container.clone(),
        name: request.name.clone(),
        aliases,
        ipv4: address,
        prefix: subnet.subnet.prefix(),
        gateway: (!network.internal).then_some(subnet.gateway),
        mac: format_mac(mac.unwrap_or_else(|| mac_of(address))),
        host_link: format!("kt{}", &endpoint_id.as_str()[..11]),
        endpoint_id,
        other: serde_json::Map::new(),
    };
    let path = address_path(network_dir, address);
    symlink(request.container.as_str(), &path).map_err(|source| Error::Io {
        call: "symlink",
        path,
        source,
    })?;
    write_record(network_dir, &record)?;
    Ok(record)
}

/// Gives up a container's place; returns what it was. Called with the network's lock.
pub(crate) fn release(
    _lock: &NetworkLock,
    network_dir: &Path,
    container: &Id,
) -> Result<Option<EndpointRecord>> {
    let path = record_path(network_dir, container);
    let record = match read_record(&path) {
        // A record that a crash has damaged holds nothing: its address is swept by the next claim.
        Err(Error::Record { .. }) => None,
        other => other?,
    };
    // The record first: an address without a record is swept, a record without its address would not be.
    remove_file(&path)?;
    if let Some(record) = &record {
        remove_file(&address_path(network_dir, record.ipv4))?;
    }
    Ok(record)
}

/// The addresses claimed by endpoints; claims without an endpoint are removed.
fn taken_addresses(network_dir: &Path) -> Result<BTreeSet<Ipv4Addr>> {
    let mut taken = BTreeSet::new();
    for name in file_names(&network_dir.join("addresses"))? {
        let Ok(address) = name.parse::<Ipv4Addr>() else {
            continue;
        };
        let path = address_path(network_dir, address);
        let owner = fs::read_link(&path)
            .ok()
            .and_then(|target| target.to_str()?.parse::<Id>().ok());
        if owner.is_some_and(|owner| record_path(network_dir, &owner).exists()) {
            taken.insert(address);
        } else {
            remove_file(&path)?;
        }
    }
    Ok(taken)
}

fn is_reserved(subnet: &SubnetRecord, address: Ipv4Addr) -> bool {
    address == subnet.gateway
        || !subnet.subnet.is_host(address)
        || subnet
            .auxiliary
            .values()
            .any(|reserved| *reserved == address)
}

fn wanted_address(
    subnet: &SubnetRecord,
    address: Ipv4Addr,
    taken: &BTreeSet<Ipv4Addr>,
) -> Result<Ipv4Addr> {
    if !subnet.subnet.contains(address) {
        return Err(Error::AddressOutside { address });
    }
    if taken.contains(&address) || is_reserved(subnet, address) {
        return Err(Error::AddressInUse { address });
    }
    Ok(address)
}

/// The lowest free address.
fn free_address(subnet: &SubnetRecord, taken: &BTreeSet<Ipv4Addr>) -> Option<Ipv4Addr> {
    let range = subnet.ip_range.unwrap_or(subnet.subnet);
    (range.first().to_bits()..=range.last().to_bits())
        .map(Ipv4Addr::from_bits)
        .find(|address| !taken.contains(address) && !is_reserved(subnet, *address))
}

/// The hardware address that belongs to an address: `02:42` and its four bytes. The same address keeps the same
/// hardware address, so that what neighbours remember stays right.
pub(crate) fn mac_of(address: Ipv4Addr) -> Mac {
    let [a, b, c, d] = address.octets();
    [0x02, 0x42, a, b, c, d]
}

pub(crate) fn parse_mac(text: &str) -> Result<Mac> {
    let error = || Error::InvalidMac {
        mac: text.to_owned(),
    };
    let mut mac = [0; 6];
    let mut parts = text.split([':', '-']);
    for byte in &mut mac {
        let part = parts
            .next()
            .filter(|part| part.len() == 2)
            .ok_or_else(error)?;
        *byte = u8::from_str_radix(part, 16).map_err(|_| error())?;
    }
    // The lowest bit of the first byte marks addresses of groups.
    if parts.next().is_some() || mac[0] & 1 == 1 || mac == [0; 6] {
        Err(error())
    } else {
        Ok(mac)
    }
}

fn format_mac([a, b, c, d, e, f]: Mac) -> String {
    format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}")
}

/// Random bytes from the kernel.
pub(crate) fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    let mut filled = 0;
    while filled < N {
        filled +=
            rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty())
                .map_err(|errno| Error::Call {
                    call: "getrandom",
                    source: errno.into(),
                })?;
    }
    Ok(bytes)
}

fn record_path(network_dir: &Path, container: &Id) -> PathBuf {
    network_dir
        .join("endpoints")
        .join(format!("{container}.json"))
}

fn address_path(network_dir: &Path, address: Ipv4Addr) -> PathBuf {
    network_dir.join("addresses").join(address.to_string())
}

fn read_record(path: &Path) -> Result<Option<EndpointRecord>> {
    match fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|source| Error::Record {
                path: path.to_path_buf(),
                source,
            }),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::Io {
            call: "read",
            path: path.to_path_buf(),
            source,
        }),
    }
}

/// Replaces a record. Not forced to the disk: an endpoint lives no longer than the machine runs.
fn write_record(network_dir: &Path, record: &EndpointRecord) -> Result<()> {
    let path = record_path(network_dir, &record.container);
    let temporary = path.with_extension("new");
    let bytes = serde_json::to_vec(record).map_err(|source| Error::Record {
        path: path.clone(),
        source,
    })?;
    fs::write(&temporary, bytes).map_err(|source| Error::Io {
        call: "write",
        path: temporary.clone(),
        source,
    })?;
    fs::rename(&temporary, &path).map_err(|source| Error::Io {
        call: "rename",
        path,
        source,
    })
}

fn make_dir(path: &Path) -> Result<()> {
    match fs::create_dir(path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(Error::Io {
            call: "mkdir",
            path: path.to_path_buf(),
            source: error,
        }),
        _ => Ok(()),
    }
}

fn remove_file(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(Error::Io {
            call: "unlink",
            path: path.to_path_buf(),
            source: error,
        }),
        _ => Ok(()),
    }
}

/// Names in a directory; one that is missing has none.
fn file_names(path: &Path) -> Result<Vec<String>> {
    let error = |source| Error::Io {
        call: "readdir",
        path: path.to_path_buf(),
        source,
    };
    let entries = match fs::read_dir(path) {
        Err(missing) if missing.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(error)?,
    };
    let mut names = Vec::new();
    for entry in entries {
        names.extend(entry.map_err(error)?.file_name().into_string().ok());
    }
    Ok(names)
}
