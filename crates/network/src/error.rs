//! What can go wrong with links, addresses, rules and ports.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use ketch_sys::netlink;

/// Shorthand.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A network operation that failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file of the state could not be read or written.
    #[error("{call} {path}: {source}", path = path.display())]
    Io {
        /// The operation.
        call: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A record is not what it should be.
    #[error("damaged record {path}: {source}", path = path.display())]
    Record {
        /// The file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// A system call that is about no file failed.
    #[error("{call}: {source}")]
    Call {
        /// The call.
        call: &'static str,
        /// Why.
        source: std::io::Error,
    },
    /// The kernel refused a change of links, addresses or routes.
    #[error("cannot {action}: {source}")]
    Link {
        /// What was tried, `create bridge ketch0`.
        action: String,
        /// Why.
        source: netlink::Error,
    },
    /// The kernel refused a change of the firewall.
    #[error("cannot {action}: {source}")]
    Firewall {
        /// What was tried.
        action: &'static str,
        /// Why.
        source: netlink::Error,
    },
    /// A link of the bridge's name exists and is not this network's.
    #[error("link {name} exists already and does not belong to this network")]
    BridgeTaken {
        /// The link's name.
        name: String,
    },
    /// The network has no bridge to join.
    #[error("network {network} (driver {driver}) cannot be joined by endpoints")]
    NoEndpoints {
        /// The network's name.
        network: String,
        /// Its driver.
        driver: String,
    },
    /// All addresses of a network are taken.
    #[error("no available IPv4 addresses on this network's address pools: {network}")]
    AddressesExhausted {
        /// The network's name.
        network: String,
    },
    /// The wanted address is taken.
    #[error("Address already in use: {address}")]
    AddressInUse {
        /// The address.
        address: Ipv4Addr,
    },
    /// The wanted address is not in the network.
    #[error("invalid address {address}: it does not belong to any of this network's subnets")]
    AddressOutside {
        /// The address.
        address: Ipv4Addr,
    },
    /// A hardware address cannot be read.
    #[error("invalid MAC address {mac:?}")]
    InvalidMac {
        /// What was given.
        mac: String,
    },
    /// All predefined pools overlap with something.
    #[error("all predefined address pools have been fully subnetted")]
    PoolsExhausted,
    /// A published port belongs to another container.
    #[error(
        "driver failed programming external connectivity on endpoint {endpoint}: Bind for {address}:{port} failed: port is already allocated"
    )]
    PortAllocated {
        /// Name and id of the endpoint, as Docker prints them.
        endpoint: String,
        /// Host address.
        address: Ipv4Addr,
        /// Host port.
        port: u16,
    },
    /// A host port cannot be bound.
    #[error(
        "driver failed programming external connectivity on endpoint {endpoint}: failed to bind host port for {mapping}: {reason}"
    )]
    PortBind {
        /// Name and id of the endpoint, as Docker prints them.
        endpoint: String,
        /// `0.0.0.0:8080:172.17.0.2:80/tcp`.
        mapping: String,
        /// Whether some program holds the port already.
        in_use: bool,
        /// `address already in use`.
        reason: String,
    },
    /// Ports cannot be published on IPv6 addresses.
    #[error("publishing ports on IPv6 addresses is not supported: {address}")]
    PublishOnIpv6 {
        /// The address.
        address: std::net::Ipv6Addr,
    },
    /// A driver option that is not known.
    #[error("unsupported network option: {option}")]
    UnknownOption {
        /// Its name.
        option: String,
    },
    /// A driver option with a wrong value.
    #[error("invalid value for network option {option}: {value:?}")]
    InvalidOption {
        /// Its name.
        option: String,
        /// Its value.
        value: String,
    },
}
