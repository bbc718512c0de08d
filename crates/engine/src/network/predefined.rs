//! The networks that exist from the start.

use std::collections::BTreeMap;

use jiff::Timestamp;
use ketch_network::{
    DEFAULT_BRIDGE, NetworkRecord, Subnet, SubnetRecord, choose_subnet, used_by_host,
};
use serde_json::Map;

use super::{DEFAULT, PREDEFINED, create, list, lock_all, network_error};
use crate::{Engine, Result, names};

/// Makes those of them that are missing: at the first use of a data root.
pub(super) fn make(engine: &Engine) -> Result<()> {
    let _lock = lock_all(engine)?;
    let others = list::read_all(engine)?;
    for name in PREDEFINED {
        if !others.iter().any(|other| other.name == name) {
            create::make(engine, &record(name, &others)?)?;
        }
    }
    Ok(())
}

fn record(name: &str, others: &[NetworkRecord]) -> Result<NetworkRecord> {
    let is_bridge = name == DEFAULT;
    let mut subnets = Vec::new();
    let mut options = BTreeMap::new();
    if is_bridge {
        let mut used: Vec<Subnet> = others
            .iter()
            .flat_map(|other| &other.subnets)
            .map(|subnet| subnet.subnet)
            .collect();
        used.extend(used_by_host().map_err(|error| network_error(&error))?);
        let subnet = choose_subnet(&used, true).map_err(|error| network_error(&error))?;
        let gateway = create::first_host(subnet);
        subnets.push(SubnetRecord {
            subnet,
            gateway,
            ip_range: None,
            auxiliary: BTreeMap::new(),
        });
        for (key, value) in [
            ("bridge.default_bridge", "true"),
            ("bridge.enable_icc", "true"),
            ("bridge.enable_ip_masquerade", "true"),
            ("bridge.host_binding_ipv4", "0.0.0.0"),
            ("bridge.name", DEFAULT_BRIDGE),
            ("driver.mtu", "1500"),
        ] {
            options.insert(format!("com.docker.network.{key}"), value.to_owned());
        }
    }
    Ok(NetworkRecord {
        version: ketch_network::VERSION,
        id: names::draw_id()?,
        name: name.into(),
        driver: if name == "none" { "null" } else { name }.into(),
        created: Timestamp::now(),
        subnets,
        internal: false,
        attachable: false,
        labels: BTreeMap::new(),
        options,
        bridge: if is_bridge {
            DEFAULT_BRIDGE.into()
        } else {
            String::new()
        },
        other: Map::new(),
    })
}
