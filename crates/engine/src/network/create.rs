//! `network create`.

use std::collections::BTreeMap;
use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::DirBuilderExt;

use jiff::Timestamp;
use ketch_network::{
    NetworkOptions, NetworkRecord, Subnet, SubnetRecord, choose_subnet, used_by_host,
};
use serde_json::Map;

use super::{CREATING, PREDEFINED, io_error, list, lock_all, network_error};
use crate::event::{self, Event};
use crate::record::{self, Durability};
use crate::{Engine, Error, ErrorKind, Result, names};

/// The longest prefix of a subnet: it has addresses for the gateway and one container.
const MAX_PREFIX: u8 = 30;

/// A network to make; field by field what `network create` takes.
#[derive(Debug, Clone, Default)]
pub struct NetworkRequest {
    /// Its name.
    pub name: String,
    /// Driver; empty means `bridge`.
    pub driver: String,
    /// `--subnet`, `172.28.0.0/16`. None: the next free one of the predefined pools.
    pub subnets: Vec<String>,
    /// `--gateway`.
    pub gateways: Vec<String>,
    /// `--ip-range`.
    pub ip_ranges: Vec<String>,
    /// `--aux-address`: addresses to leave alone, by any name.
    pub auxiliary: BTreeMap<String, String>,
    /// `--ipam-driver`; empty means `default`.
    pub ipam_driver: String,
    /// `--ipam-opt`.
    pub ipam_options: BTreeMap<String, String>,
    /// `--internal`.
    pub internal: bool,
    /// `--attachable`.
    pub attachable: bool,
    /// `--ipv6`.
    pub ipv6: bool,
    /// `--ipv4=false`.
    pub without_ipv4: bool,
    /// `--label`.
    pub labels: BTreeMap<String, String>,
    /// `--opt`.
    pub options: BTreeMap<String, String>,
}

/// Makes a network.
///
/// # Errors
/// `Conflict` for a name that is taken; `Forbidden` for subnets that overlap and for predefined names; `Invalid` for
/// what is wrong; `Unsupported` for what this version has not.
pub fn create(engine: &Engine, request: NetworkRequest) -> Result<NetworkRecord> {
    if PREDEFINED.contains(&request.name.as_str()) || request.name == "default" {
        let message = format!(
            "operation is not permitted on predefined {} network",
            request.name
        );
        return Err(Error::new(ErrorKind::Forbidden, message));
    }
    names::check("network", &request.name)?;
    check_supported(&request)?;
    let options = NetworkOptions::parse(&request.options).map_err(|error| network_error(&error))?;
    let wanted = wanted_subnet(&request)?;
    let id = names::draw_id()?;
    let record = {
        let _lock = lock_all(engine)?;
        let others = list::read_all(engine)?;
        if others.iter().any(|other| other.name == request.name) {
            return Err(taken(&request.name));
        }
        let bridge = options
            .bridge_name
            .unwrap_or_else(|| format!("kt-{}", id.short()));
        if let Some(other) = others.iter().find(|other| other.bridge == bridge) {
            let message = format!("bridge {bridge} is used by network {} already", other.name);
            return Err(Error::new(ErrorKind::Conflict, message));
        }
        let subnet = free_subnet(&others, wanted)?;
        let record = NetworkRecord {
            version: ketch_network::VERSION,
            id,
            name: request.name,
            driver: "bridge".into(),
            created: Timestamp::now(),
            subnets: vec![subnet],
            internal: request.internal,
            attachable: request.attachable,
            labels: request.labels,
            options: request.options,
            bridge,
            other: Map::new(),
        };
        make(engine, &record)?;
        record
    };
    let event = Event::now("network", "create", record.id.as_str());
    let _ = event::publish(
        engine,
        &event
            .with("name", &record.name)
            .with("type", &record.driver),
    );
    Ok(record)
}

/// Makes the directory aside and moves it into its place. Called with the lock of all networks.
pub(super) fn make(engine: &Engine, record: &NetworkRecord) -> Result<()> {
    let exists = |other: &ketch_spec::Id| engine.paths().network_record(other).exists();
    match names::claim(engine, names::NETWORK, &record.name, &record.id, exists) {
        Err(names::Error::Taken { .. }) => return Err(taken(&record.name)),
        other => other?,
    }
    let aside = engine
        .paths()
        .network_aside(&format!("{CREATING}{}", record.id.short()));
    let place = engine.paths().network_dir(&record.id);
    let made = fs::DirBuilder::new()
        .mode(0o700)
        .create(&aside)
        .map_err(|error| io_error("mkdir", &aside, &error))
        .and_then(|()| {
            Ok(record::write(
                &aside.join("network.json"),
                record,
                Durability::Synced,
            )?)
        })
        // Commit point: the network exists.
        .and_then(|()| {
            fs::rename(&aside, &place).map_err(|error| io_error("rename", &place, &error))
        });
    if let Err(error) = made {
        let _ = ketch_sys::fs::remove_tree(&aside);
        names::release(engine, names::NETWORK, &record.name, &record.id)?;
        return Err(error);
    }
    Ok(record::sync_dir_of(&place)?)
}

fn taken(name: &str) -> Error {
    Error::new(
        ErrorKind::Conflict,
        format!("network with name {name} already exists"),
    )
}

/// Refuses by name what is not there.
fn check_supported(request: &NetworkRequest) -> Result<()> {
    let unsupported = |what: String| Err(Error::new(ErrorKind::Unsupported, what));
    match request.driver.as_str() {
        "" | "bridge" => {}
        driver @ ("host" | "null") => {
            let message = format!("only one instance of {driver:?} network is allowed");
            return Err(Error::new(ErrorKind::Forbidden, message));
        }
        driver @ ("overlay" | "macvlan" | "ipvlan") => {
            return unsupported(format!(
                "network driver {driver} is not supported by this version"
            ));
        }
        // Docker looks for a plugin of that name, and says so.
        driver => {
            let message = format!(
                "could not find plugin {driver} in v1 plugin registry: plugin {driver:?} not found"
            );
            return Err(Error::new(ErrorKind::NotFound, message)
                .hint("the only driver of user networks is bridge"));
        }
    }
    if !matches!(request.ipam_driver.as_str(), "" | "default") {
        return unsupported(format!(
            "IPAM driver {} is not supported by this version",
            request.ipam_driver
        ));
    }
    if let Some(option) = request.ipam_options.keys().next() {
        return unsupported(format!(
            "IPAM option {option} is not supported by this version"
        ));
    }
    if request.ipv6 {
        return unsupported("networks with IPv6 are not supported by this version".into());
    }
    if request.without_ipv4 {
        return unsupported("networks without IPv4 are not supported by this version".into());
    }
    if let Some(subnet) = request.subnets.iter().find(|subnet| subnet.contains(':')) {
        return unsupported(format!(
            "IPv6 subnet {subnet} is not supported by this version"
        ));
    }
    Ok(())
}

/// The subnet asked for, checked; None for one of the pools.
fn wanted_subnet(request: &NetworkRequest) -> Result<Option<SubnetRecord>> {
    let Some(text) = request.subnets.first() else {
        return refuse_orphans(request).map(|()| None);
    };
    if request.subnets.len() > 1 {
        let message = "a network of driver bridge has one IPv4 subnet: several --subnet were given";
        return Err(invalid(message.into()));
    }
    if request.gateways.len() > 1 || request.ip_ranges.len() > 1 {
        return Err(invalid(
            "a subnet has one --gateway and one --ip-range".into(),
        ));
    }
    let subnet = parse_subnet(text)?;
    let gateway = match request.gateways.first() {
        Some(text) => address_in(subnet, text, "gateway")?,
        None => first_host(subnet),
    };
    let ip_range = match request.ip_ranges.first() {
        None => None,
        Some(text) => {
            let range: Subnet = text
                .parse()
                .map_err(|_| invalid(format!("invalid ip-range: {text}")))?;
            if !subnet.covers(range) {
                return Err(invalid(format!("no matching subnet for range {text}")));
            }
            Some(range)
        }
    };
    let mut auxiliary = BTreeMap::new();
    for (name, text) in &request.auxiliary {
        auxiliary.insert(name.clone(), address_in(subnet, text, "aux-address")?);
    }
    Ok(Some(SubnetRecord {
        subnet,
        gateway,
        ip_range,
        auxiliary,
    }))
}

/// Refuses what belongs to a subnet where none was named.
fn refuse_orphans(request: &NetworkRequest) -> Result<()> {
    let range = request
        .ip_ranges
        .first()
        .map(|range| format!("ip-range {range:?}"));
    let gateway = request
        .gateways
        .first()
        .map(|gateway| format!("gateway {gateway:?}"));
    let auxiliary = request
        .auxiliary
        .keys()
        .next()
        .map(|name| format!("aux-address {name:?}"));
    match range.or(gateway).or(auxiliary) {
        Some(what) => Err(invalid(format!("no matching subnet for {what}"))),
        None => Ok(()),
    }
}

fn parse_subnet(text: &str) -> Result<Subnet> {
    let subnet: Subnet = text
        .parse()
        .map_err(|error: ketch_network::SubnetError| invalid(error.to_string()))?;
    if subnet.prefix() > MAX_PREFIX {
        return Err(invalid(format!(
            "invalid subnet {text}: it has no room for a gateway and a container"
        )));
    }
    // Docker no longer clears the host bits of a subnet: it says what it should have been.
    if text.split('/').next() != Some(&subnet.first().to_string()) {
        return Err(invalid(format!(
            "invalid network config: invalid subnet {text}: it should be {subnet}"
        )));
    }
    Ok(subnet)
}

fn address_in(subnet: Subnet, text: &str, what: &str) -> Result<Ipv4Addr> {
    let address = text
        .parse()
        .map_err(|_| invalid(format!("invalid {what} address: {text}")))?;
    if subnet.contains(address) {
        Ok(address)
    } else {
        Err(invalid(format!("no matching subnet for {what} {text}")))
    }
}

fn invalid(message: String) -> Error {
    Error::new(ErrorKind::Invalid, message)
}

pub(super) fn first_host(subnet: Subnet) -> Ipv4Addr {
    Ipv4Addr::from_bits(subnet.first().to_bits() + 1)
}

/// The wanted subnet if it is free, or the next of the pools.
fn free_subnet(others: &[NetworkRecord], wanted: Option<SubnetRecord>) -> Result<SubnetRecord> {
    let mut used: Vec<Subnet> = others
        .iter()
        .flat_map(|other| &other.subnets)
        .map(|subnet| subnet.subnet)
        .collect();
    if let Some(wanted) = wanted {
        if used.iter().any(|other| other.overlaps(wanted.subnet)) {
            let message =
                "invalid pool request: Pool overlaps with other one on this address space";
            return Err(Error::new(ErrorKind::Forbidden, message));
        }
        return Ok(wanted);
    }
    used.extend(used_by_host().map_err(|error| network_error(&error))?);
    let subnet = choose_subnet(&used, false).map_err(|error| network_error(&error))?;
    Ok(SubnetRecord {
        subnet,
        gateway: first_host(subnet),
        ip_range: None,
        auxiliary: BTreeMap::new(),
    })
}
