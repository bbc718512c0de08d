//! Networks: `bridge`, `host` and `none` exist from the start; others are bridges with names.
//!
//! A network is a record; its bridge and its rules exist while a running container is in it ([`ketch_network`]).
//! A network appears whole by the rename of its directory, under the lock of all networks, where its subnet is chosen and
//! its name claimed; it goes by another rename, under its own lock, which whoever joins it holds too.

mod connect;
mod create;
mod disconnect;
mod inspect;
mod list;
mod predefined;
mod prune;
mod remove;
#[cfg(test)]
mod tests;

pub use ketch_network::{EndpointRecord, NetworkRecord};
use ketch_spec::Id;

use crate::lock::LeafLock;
use crate::{Engine, Error, ErrorKind, Result, names, record};

pub use connect::connect;
pub use create::{NetworkRequest, create};
pub use disconnect::disconnect;
pub use inspect::{inspect, to_docker_json};
pub use list::list;
pub use prune::{PruneOptions, prune};
pub use remove::remove;

/// Name of the default network.
pub const DEFAULT: &str = "bridge";
/// Names of the networks that exist from the start.
pub const PREDEFINED: [&str; 3] = [DEFAULT, "host", "none"];

/// Directory names of networks in the making begin so.
const CREATING: &str = ".creating-";
/// Directory names of networks on their way out begin so.
const REMOVING: &str = ".removing-";

/// Whether a network is there from the start, and for ever.
pub fn is_predefined(record: &NetworkRecord) -> bool {
    PREDEFINED.contains(&record.name.as_str())
}

/// The network of a name, an id, or a unique prefix of an id.
///
/// # Errors
/// `NotFound`: "network x not found"; `Invalid` for a prefix of several ids.
pub fn resolve(engine: &Engine, wanted: &str) -> Result<NetworkRecord> {
    // Docker's old word for the network of whoever names none.
    let wanted = if wanted == "default" { DEFAULT } else { wanted };
    if let Some(record) = named(engine, wanted)? {
        return Ok(record);
    }
    if PREDEFINED.contains(&wanted) {
        predefined::make(engine)?;
        return named(engine, wanted)?.ok_or_else(|| not_found(wanted));
    }
    if let Ok(id) = wanted.parse::<Id>() {
        return load_record(engine, &id);
    }
    let mut matches = Vec::new();
    if wanted.bytes().all(|byte| byte.is_ascii_hexdigit()) && !wanted.is_empty() {
        matches = list::list(engine)?;
        matches.retain(|record| record.id.as_str().starts_with(wanted));
    }
    let count = matches.len();
    match (matches.pop(), count) {
        (Some(record), 1) => Ok(record),
        (None, _) => Err(not_found(wanted)),
        (Some(_), count) => Err(Error::new(
            ErrorKind::Invalid,
            format!("network {wanted} is ambiguous ({count} matches found based on ID prefix)"),
        )),
    }
}

/// The record of a network by its id.
///
/// # Errors
/// `NotFound`: "network x not found".
pub fn load_record(engine: &Engine, id: &Id) -> Result<NetworkRecord> {
    read(engine, id)?.ok_or_else(|| not_found(id.as_str()))
}

/// The containers that are in a network now.
///
/// # Errors
/// Input and output, damaged records.
pub fn endpoints(engine: &Engine, network: &NetworkRecord) -> Result<Vec<EndpointRecord>> {
    ketch_network::endpoints(&engine.paths().network_dir(&network.id))
        .map_err(|error| network_error(&error))
}

/// The engine's error of a network operation, in Docker's words where it has some.
pub fn network_error(error: &ketch_network::Error) -> Error {
    use ketch_network::Error as E;
    let kind = match error {
        E::AddressInUse { .. } | E::BridgeTaken { .. } | E::PortAllocated { .. } => {
            ErrorKind::Conflict
        }
        E::PortBind { in_use, .. } => {
            if *in_use {
                ErrorKind::Conflict
            } else {
                ErrorKind::Invalid
            }
        }
        E::AddressOutside { .. } | E::InvalidMac { .. } | E::InvalidOption { .. } => {
            ErrorKind::Invalid
        }
        E::PublishOnIpv6 { .. } | E::UnknownOption { .. } | E::NoEndpoints { .. } => {
            ErrorKind::Unsupported
        }
        E::AddressesExhausted { .. } | E::PoolsExhausted => ErrorKind::Unavailable,
        E::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
            ErrorKind::NotFound
        }
        _ => ErrorKind::Internal,
    };
    let mut causes = Vec::new();
    let mut next = std::error::Error::source(error);
    // The messages of this crate's errors hold their causes already.
    while let Some(cause) = next.and_then(std::error::Error::source) {
        causes.push(cause.to_string());
        next = Some(cause);
    }
    let mut converted = Error::new(kind, error.to_string());
    converted.causes = causes;
    match error {
        E::PortAllocated { .. } | E::PortBind { in_use: true, .. } => {
            converted.hint("publish another host port, or stop whoever has this one (`ketch ps` shows published ports)")
        }
        _ => converted,
    }
}

fn named(engine: &Engine, name: &str) -> Result<Option<NetworkRecord>> {
    match names::lookup(engine, names::NETWORK, name)? {
        Some(id) => read(engine, &id),
        None => Ok(None),
    }
}

fn read(engine: &Engine, id: &Id) -> Result<Option<NetworkRecord>> {
    let path = engine.paths().network_record(id);
    let Some(found) = record::read_if_there::<NetworkRecord>(&path)? else {
        return Ok(None);
    };
    record::check_version(&path, found.version, ketch_network::VERSION)?;
    Ok(Some(found))
}

/// The lock of all networks: held to make them. The lock of names is taken within it, never the other way round.
fn lock_all(engine: &Engine) -> Result<LeafLock> {
    let dir = engine.paths().networks_dir();
    std::fs::create_dir_all(&dir).map_err(|error| io_error("mkdir", &dir, &error))?;
    Ok(LeafLock::take(&engine.paths().networks_lock())?)
}

/// "network x not found".
fn not_found(name: &str) -> Error {
    Error::new(ErrorKind::NotFound, format!("network {name} not found"))
}

fn io_error(call: &str, path: &std::path::Path, error: &std::io::Error) -> Error {
    Error::caused(
        ErrorKind::Internal,
        format!("{call} {}", path.display()),
        error,
    )
}
