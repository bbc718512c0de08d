//! Networks, names and ports.

use std::collections::BTreeMap;

use ketch_engine::Result;
use ketch_engine::container::config::EndpointConfig;
use ketch_engine::container::request::{CreateRequest, NetworkRequest};
use ketch_spec::port;
use serde::Deserialize;

use super::body::{Binding, HostConfig, Other, Set, invalid, unsupported};

/// The wishes of `EndpointSettings`. Its other fields are answers, which clients send back as they got them.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Endpoint {
    #[serde(rename = "IPAMConfig")]
    ipam: Option<Ipam>,
    links: Option<Vec<String>>,
    aliases: Option<Vec<String>>,
    mac_address: Option<String>,
    driver_opts: Option<BTreeMap<String, String>>,
    gw_priority: i64,
    #[serde(flatten)]
    _answers: Other,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Ipam {
    #[serde(rename = "IPv4Address")]
    ipv4: Option<String>,
    #[serde(rename = "IPv6Address")]
    ipv6: Option<String>,
    #[serde(rename = "LinkLocalIPs")]
    link_local: Option<Vec<String>>,
}

/// An endpoint in `network`.
///
/// # Errors
/// `Invalid` for addresses that are none, `Unsupported` for what we have not.
pub fn endpoint_config(network: &str, body: Option<Endpoint>) -> Result<EndpointConfig> {
    let body = body.unwrap_or_default();
    let ipam = body.ipam.unwrap_or_default();
    let has = |list: &Option<Vec<String>>| list.as_ref().is_some_and(|list| !list.is_empty());
    for (is_set, name) in [
        (has(&body.links), "Links"),
        (has(&ipam.link_local), "IPAMConfig.LinkLocalIPs"),
        (
            body.driver_opts.is_some_and(|all| !all.is_empty()),
            "DriverOpts",
        ),
        (body.gw_priority != 0, "GwPriority"),
    ] {
        if is_set {
            return Err(unsupported(&format!("EndpointsConfig.{name}")));
        }
    }
    Ok(EndpointConfig {
        network: network.to_owned(),
        aliases: body.aliases.unwrap_or_default(),
        ipv4: address(ipam.ipv4, "IPv4")?,
        ipv6: address(ipam.ipv6, "IPv6")?,
        mac: body.mac_address.filter(|text| !text.is_empty()),
    })
}

fn address<T: std::str::FromStr>(text: Option<String>, kind: &str) -> Result<Option<T>> {
    let Some(text) = text.filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    match text.parse() {
        Ok(address) => Ok(Some(address)),
        Err(_) => Err(invalid(format!("invalid {kind} address: {text}"))),
    }
}

/// The networks of a body: `mode` is the first, the others follow by name.
///
/// # Errors
/// As [`endpoint_config`]; `Invalid` for combinations that make no sense.
pub fn networks(
    mode: &str,
    mac: Option<String>,
    endpoints: BTreeMap<String, Option<Endpoint>>,
) -> Result<NetworkRequest> {
    let first = if matches!(mode, "" | "default") {
        "bridge"
    } else {
        mode
    };
    let mut all = Vec::new();
    for (name, body) in endpoints {
        let name = if name == "default" {
            "bridge"
        } else {
            name.as_str()
        };
        all.push(endpoint_config(name, body)?);
    }
    let special = match first {
        "host" => Some(NetworkRequest::Host),
        "none" => Some(NetworkRequest::None),
        other => other
            .strip_prefix("container:")
            .map(|name| NetworkRequest::Container(name.into())),
    };
    if let Some(special) = special {
        // Clients name the mode as if it were a network.
        return match all
            .iter()
            .find(|endpoint| endpoint.network != first || !is_plain(endpoint))
        {
            None if mac.is_none() => Ok(special),
            _ => Err(invalid(format!(
                "conflicting options: cannot attach both user-defined and non-user-defined network-modes ({first})"
            ))),
        };
    }
    match all.iter().position(|endpoint| endpoint.network == first) {
        Some(at) => all[..=at].rotate_right(1),
        None => all.insert(0, endpoint_config(first, None)?),
    }
    all[0].mac = all[0].mac.take().or(mac);
    if all[0].network == "bridge" {
        if !all[0].aliases.is_empty() {
            return Err(invalid(
                "network-scoped aliases are only supported for user-defined networks",
            ));
        }
        if all[0].ipv4.is_some() || all[0].ipv6.is_some() {
            return Err(invalid(
                "invalid config for network bridge: user specified IP address is supported on user defined networks only",
            ));
        }
    }
    if all.len() == 1 && all[0].network == "bridge" && is_plain(&all[0]) {
        return Ok(NetworkRequest::Default);
    }
    Ok(NetworkRequest::Networks(all))
}

fn is_plain(endpoint: &EndpointConfig) -> bool {
    *endpoint
        == EndpointConfig {
            network: endpoint.network.clone(),
            ..EndpointConfig::default()
        }
}

/// Puts ports, names and servers into the request.
///
/// # Errors
/// `Invalid` for ports that are none.
pub fn names_and_ports(
    exposed: Option<Set>,
    host: &mut HostConfig,
    request: &mut CreateRequest,
) -> Result<()> {
    for text in exposed.unwrap_or_default().into_keys() {
        request
            .exposed
            .extend(port::parse_expose(&text).map_err(|error| invalid(error.to_string()))?);
    }
    for (container, bindings) in host.port_bindings.take().unwrap_or_default() {
        for binding in bindings.unwrap_or_default() {
            let text = publish(&container, &binding);
            let mappings =
                port::parse_publish(&text).map_err(|error| invalid(error.to_string()))?;
            request.ports.extend(mappings);
        }
    }
    request.publish_all = host.publish_all_ports;
    request.dns = host.dns.take().unwrap_or_default();
    for server in &request.dns {
        if server.parse::<std::net::IpAddr>().is_err() {
            return Err(invalid(format!("invalid IP address: {server}")));
        }
    }
    request.dns_search = host.dns_search.take().unwrap_or_default();
    request.dns_options = host.dns_options.take().unwrap_or_default();
    request.extra_hosts = host.extra_hosts.take().unwrap_or_default();
    Ok(())
}

/// `-p` of a binding.
fn publish(container: &str, binding: &Binding) -> String {
    let Binding { host_ip, host_port } = binding;
    let port = if host_port == "0" { "" } else { host_port };
    match (host_ip.as_str(), port) {
        ("", "") => container.to_owned(),
        ("", port) => format!("{port}:{container}"),
        (ip, port) if ip.contains(':') && !ip.starts_with('[') => {
            format!("[{ip}]:{port}:{container}")
        }
        (ip, port) => format!("{ip}:{port}:{container}"),
    }
}
