//! The records of networks and endpoints, as they are on disk.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use jiff::Timestamp;
use ketch_spec::Id;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::Error;
use crate::subnet::Subnet;

/// The version of both records that this program writes.
pub const VERSION: u32 = 1;

/// Name of the bridge of the default network.
pub const DEFAULT_BRIDGE: &str = "ketch0";

/// `networks/<id>/network.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NetworkRecord {
    /// Record version, [`VERSION`].
    pub version: u32,
    /// The network's id.
    pub id: Id,
    /// Its name.
    pub name: String,
    /// `bridge`, `host` or `null`.
    pub driver: String,
    /// When it was made.
    pub created: Timestamp,
    /// Exactly one for the driver `bridge`, none for the others.
    #[serde(default)]
    pub subnets: Vec<SubnetRecord>,
    /// No way to the outside and none from it.
    #[serde(default)]
    pub internal: bool,
    /// Noted for Docker's clients; every network is attachable here.
    #[serde(default)]
    pub attachable: bool,
    /// User's labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Driver options as given, `com.docker.network.…`; see [`NetworkOptions`].
    #[serde(default)]
    pub options: BTreeMap<String, String>,
    /// Name of the bridge link, at most 15 bytes; empty for `host` and `null`.
    #[serde(default)]
    pub bridge: String,
    /// Fields this version does not know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// A subnet of a network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SubnetRecord {
    /// All its addresses.
    pub subnet: Subnet,
    /// The bridge's own address.
    pub gateway: Ipv4Addr,
    /// Where addresses are drawn from, if not from the whole subnet.
    #[serde(default)]
    pub ip_range: Option<Subnet>,
    /// Addresses that are never drawn, by the user's name for them.
    #[serde(default)]
    pub auxiliary: BTreeMap<String, Ipv4Addr>,
}

/// What the driver options of a network mean.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkOptions {
    /// `com.docker.network.bridge.name`.
    pub bridge_name: Option<String>,
    /// `com.docker.network.driver.mtu`, bytes.
    pub mtu: Option<u32>,
    /// `com.docker.network.bridge.enable_icc`: containers of the network reach each other.
    pub inter_container: bool,
    /// `com.docker.network.bridge.enable_ip_masquerade`: traffic to the outside bears the host's address.
    pub masquerade: bool,
    /// `com.docker.network.bridge.host_binding_ipv4`: where ports are published that name no host address.
    pub host_binding: Option<Ipv4Addr>,
}

impl NetworkOptions {
    /// Reads driver options.
    ///
    /// # Errors
    /// [`Error::UnknownOption`] and [`Error::InvalidOption`].
    pub fn parse(options: &BTreeMap<String, String>) -> Result<Self, Error> {
        let mut parsed = Self {
            bridge_name: None,
            mtu: None,
            inter_container: true,
            masquerade: true,
            host_binding: None,
        };
        for (key, value) in options {
            let invalid = || Error::InvalidOption {
                option: key.clone(),
                value: value.clone(),
            };
            match key.as_str() {
                "com.docker.network.bridge.name" => {
                    let plain = |b: u8| b.is_ascii_graphic() && b != b'/' && b != b':' && b != b'%';
                    if value.is_empty()
                        || value.len() > 15
                        || value.starts_with('.')
                        || !value.bytes().all(plain)
                    {
                        return Err(invalid());
                    }
                    parsed.bridge_name = Some(value.clone());
                }
                "com.docker.network.driver.mtu" => {
                    let mtu = value
                        .parse()
                        .ok()
                        .filter(|mtu| (68..=65535).contains(mtu))
                        .ok_or_else(invalid)?;
                    parsed.mtu = Some(mtu);
                }
                "com.docker.network.bridge.enable_icc" => {
                    parsed.inter_container = parse_bool(value).ok_or_else(invalid)?;
                }
                "com.docker.network.bridge.enable_ip_masquerade" => {
                    parsed.masquerade = parse_bool(value).ok_or_else(invalid)?;
                }
                "com.docker.network.bridge.host_binding_ipv4" => {
                    let address: Ipv4Addr = value.parse().map_err(|_| invalid())?;
                    parsed.host_binding = Some(address).filter(|address| !address.is_unspecified());
                }
                // The mark of Docker's default network, which only says what we know already.
                "com.docker.network.bridge.default_bridge" => {}
                _ => {
                    return Err(Error::UnknownOption {
                        option: key.clone(),
                    });
                }
            }
        }
        Ok(parsed)
    }
}

/// Truth as Go's `strconv.ParseBool` reads it.
fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

/// What a container asks of a network.
#[derive(Debug, Clone)]
pub struct EndpointRequest {
    /// The container.
    pub container: Id,
    /// Its name.
    pub name: String,
    /// More names, without the short id, which is always one.
    pub aliases: Vec<String>,
    /// Wanted address.
    pub ipv4: Option<Ipv4Addr>,
    /// Wanted hardware address, `02:42:…`; otherwise it is made from the address.
    pub mac: Option<String>,
}

/// `networks/<id>/endpoints/<container>.json`: a container's place in a network, there while the container runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EndpointRecord {
    /// Record version, [`VERSION`].
    pub version: u32,
    /// The network.
    pub network_id: Id,
    /// The container.
    pub container: Id,
    /// New for every start.
    pub endpoint_id: Id,
    /// The container's name.
    pub name: String,
    /// More names that resolve, the short id included.
    #[serde(default)]
    pub aliases: Vec<String>,
    /// Address.
    pub ipv4: Ipv4Addr,
    /// Length of the subnet's prefix.
    pub prefix: u8,
    /// The network's gateway; None in an internal network.
    #[serde(default)]
    pub gateway: Option<Ipv4Addr>,
    /// Hardware address, six pairs of lower-case hexadecimal digits.
    pub mac: String,
    /// The host's end of the veth pair.
    pub host_link: String,
    /// Fields this version does not know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

impl EndpointRecord {
    /// All names that resolve to this endpoint: the container's name first.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.name.as_str()).chain(self.aliases.iter().map(String::as_str))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(pairs: &[(&str, &str)]) -> Result<NetworkOptions, Error> {
        NetworkOptions::parse(
            &pairs
                .iter()
                .map(|(k, v)| (k.to_string(), v.to_string()))
                .collect(),
        )
    }

    #[test]
    fn known_options_are_read() {
        let read = options(&[
            ("com.docker.network.bridge.name", "br-x"),
            ("com.docker.network.driver.mtu", "1450"),
            ("com.docker.network.bridge.enable_icc", "false"),
            ("com.docker.network.bridge.host_binding_ipv4", "127.0.0.1"),
        ])
        .unwrap();
        assert_eq!(read.bridge_name.as_deref(), Some("br-x"));
        assert_eq!(read.mtu, Some(1450));
        assert!(!read.inter_container && read.masquerade);
        assert_eq!(read.host_binding, Some(Ipv4Addr::LOCALHOST));
    }

    #[test]
    fn unknown_and_wrong_options_are_refused_by_name() {
        assert!(
            matches!(options(&[("parent", "eth0")]), Err(Error::UnknownOption { option }) if option == "parent")
        );
        for (key, value) in [
            ("com.docker.network.bridge.name", "a-name-that-is-too-long"),
            ("com.docker.network.bridge.name", "a/b"),
            ("com.docker.network.driver.mtu", "12"),
            ("com.docker.network.bridge.enable_icc", "maybe"),
        ] {
            assert!(
                matches!(options(&[(key, value)]), Err(Error::InvalidOption { .. })),
                "{key}={value}"
            );
        }
    }
}
