//! `NetworkSettings`: networks joined and ports published, as they are now.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use ketch_spec::Id;
use serde_json::{Map, Value, json};

use super::null_if_empty;
use crate::Engine;
use crate::container::config::{ContainerConfig, EndpointConfig, NetworkMode};
use crate::container::state::{ContainerState, EndpointState};

/// The `NetworkSettings` object.
pub(super) fn of(engine: &Engine, config: &ContainerConfig, state: &ContainerState) -> Value {
    let networks = networks(engine, config, state);
    // Docker repeats the default network's values at the top.
    let default = networks.get("bridge");
    let of_default = |key: &str| {
        default
            .and_then(|network| network.get(key))
            .cloned()
            .unwrap_or(json!(""))
    };
    let key = if state.pid == 0 {
        String::new()
    } else {
        format!("/proc/{}/ns/net", state.pid)
    };
    json!({
        "Bridge": "",
        "SandboxID": if state.pid == 0 { "" } else { config.id.as_str() },
        "SandboxKey": key,
        "Ports": ports(config, state),
        "HairpinMode": false,
        "LinkLocalIPv6Address": "",
        "LinkLocalIPv6PrefixLen": 0,
        "SecondaryIPAddresses": null,
        "SecondaryIPv6Addresses": null,
        "EndpointID": of_default("EndpointID"),
        "Gateway": of_default("Gateway"),
        "GlobalIPv6Address": "",
        "GlobalIPv6PrefixLen": 0,
        "IPAddress": of_default("IPAddress"),
        "IPPrefixLen": default.and_then(|network| network.get("IPPrefixLen")).cloned().unwrap_or(json!(0)),
        "IPv6Gateway": "",
        "MacAddress": of_default("MacAddress"),
        "Networks": networks,
    })
}

/// Published ports with their addresses; exposed ones with `null`. Nothing for a container that does not run.
fn ports(config: &ContainerConfig, state: &ContainerState) -> Value {
    if state.pid == 0 {
        return json!({});
    }
    let mut map: BTreeMap<String, Vec<Value>> = config
        .network
        .exposed
        .iter()
        .map(|port| (port.to_string(), Vec::new()))
        .collect();
    for mapping in &state.ports {
        let address = mapping.host_ip.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let port = mapping
            .host_port
            .map(|port| port.to_string())
            .unwrap_or_default();
        map.entry(mapping.container.to_string())
            .or_default()
            .push(json!({"HostIp": address.to_string(), "HostPort": port}));
    }
    let map: Map<String, Value> = map
        .into_iter()
        .map(|(port, list)| (port, null_if_empty(&list)))
        .collect();
    Value::Object(map)
}

fn networks(
    engine: &Engine,
    config: &ContainerConfig,
    state: &ContainerState,
) -> Map<String, Value> {
    let single = |name: &str| {
        let empty = EndpointConfig::default();
        Map::from_iter([(name.to_owned(), endpoint(engine, config, &empty, None))])
    };
    match config.network.mode {
        NetworkMode::Host => return single("host"),
        NetworkMode::None => return single("none"),
        NetworkMode::Container(_) => return Map::new(),
        NetworkMode::Bridge => {}
    }
    config
        .network
        .endpoints
        .iter()
        .map(|asked| {
            (
                asked.network.clone(),
                endpoint(engine, config, asked, state.endpoints.get(&asked.network)),
            )
        })
        .collect()
}

fn endpoint(
    engine: &Engine,
    config: &ContainerConfig,
    asked: &EndpointConfig,
    is: Option<&EndpointState>,
) -> Value {
    let text = |address: Option<Ipv4Addr>| {
        address
            .map(|address| address.to_string())
            .unwrap_or_default()
    };
    let names = is.map(|is| is.names.clone()).unwrap_or_default();
    let wanted = asked
        .ipv4
        .map(|address| json!({"IPv4Address": address.to_string()}));
    json!({
        "IPAMConfig": wanted,
        "Links": null,
        "Aliases": null_if_empty(&asked.aliases),
        "MacAddress": is.map(|is| is.mac.as_str()).unwrap_or_default(),
        "DriverOpts": null,
        "NetworkID": is.map(|is| is.network_id.as_str()).unwrap_or_default(),
        "EndpointID": is.and_then(|is| endpoint_id(engine, &config.id, is)).unwrap_or_default(),
        "Gateway": text(is.and_then(|is| is.gateway)),
        "IPAddress": text(is.and_then(|is| is.ipv4)),
        "IPPrefixLen": is.map_or(0, |is| is.ipv4_prefix),
        "IPv6Gateway": "",
        "GlobalIPv6Address": is.and_then(|is| is.ipv6).map(|address| address.to_string()).unwrap_or_default(),
        "GlobalIPv6PrefixLen": 0,
        "DNSNames": null_if_empty(&names),
    })
}

fn endpoint_id(engine: &Engine, container: &Id, is: &EndpointState) -> Option<String> {
    let network: Id = is.network_id.parse().ok()?;
    let record =
        ketch_network::endpoint(&engine.paths().network_dir(&network), container).ok()??;
    Some(record.endpoint_id.to_string())
}
