//! Networks, names and ports.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ketch_engine::container::config::EndpointConfig;
use ketch_engine::container::request::{CreateRequest, NetworkRequest};
use ketch_spec::port;

use super::csv;
use crate::failure::Failure;

/// The flags.
#[derive(clap::Args)]
#[group(skip)]
pub struct Flags {
    /// Connect a container to a network
    #[arg(long, alias = "net", value_name = "network", value_parser = network)]
    network: Vec<EndpointConfig>,
    /// Add network-scoped alias for the container
    #[arg(long, alias = "net-alias", value_name = "list")]
    network_alias: Vec<String>,
    /// IPv4 address (e.g., 172.30.100.104)
    #[arg(long, value_name = "string")]
    ip: Option<String>,
    /// IPv6 address (e.g., 2001:db8::33)
    #[arg(long, value_name = "string")]
    ip6: Option<String>,
    /// Container MAC address (e.g., 92:d0:c6:0a:29:33)
    #[arg(long, value_name = "string")]
    mac_address: Option<String>,
    /// Publish a container's port(s) to the host
    #[arg(short, long, value_name = "list")]
    publish: Vec<String>,
    /// Publish all exposed ports to random ports
    #[arg(short = 'P', long)]
    publish_all: bool,
    /// Expose a port or a range of ports
    #[arg(long, value_name = "list")]
    expose: Vec<String>,
    /// Set custom DNS servers
    #[arg(long, value_name = "list", value_parser = dns_server)]
    dns: Vec<String>,
    /// Set custom DNS search domains
    #[arg(long, value_name = "list")]
    dns_search: Vec<String>,
    /// Set DNS options
    #[arg(long, alias = "dns-opt", value_name = "list")]
    dns_option: Vec<String>,
    /// Add a custom host-to-IP mapping (host:ip)
    #[arg(long, value_name = "list", value_parser = extra_host)]
    add_host: Vec<String>,
}

impl Flags {
    /// Puts the flags into the request.
    pub fn apply(self, request: &mut CreateRequest) -> Result<(), Failure> {
        request.network = self.request()?;
        request.network_aliases = self.network_alias;
        for text in &self.publish {
            let mappings =
                port::parse_publish(text).map_err(|error| Failure::request(error.to_string()))?;
            request.ports.extend(mappings);
        }
        request.publish_all = self.publish_all;
        for text in &self.expose {
            let ports =
                port::parse_expose(text).map_err(|error| Failure::request(error.to_string()))?;
            request.exposed.extend(ports);
        }
        request.dns = self.dns;
        request.dns_search = self.dns_search;
        request.dns_options = self.dns_option;
        request.extra_hosts = self.add_host;
        Ok(())
    }

    fn request(&self) -> Result<NetworkRequest, Failure> {
        let mut endpoints = self.network.clone();
        if endpoints.is_empty() {
            endpoints.push(EndpointConfig {
                network: "default".into(),
                ..EndpointConfig::default()
            });
        }
        self.complete_first(&mut endpoints[0])?;
        let plain = |endpoint: &EndpointConfig| {
            endpoint.aliases.is_empty()
                && endpoint.ipv4.is_none()
                && endpoint.ipv6.is_none()
                && endpoint.mac.is_none()
        };
        if let [only] = endpoints.as_slice() {
            let special = match only.network.as_str() {
                "default" | "bridge" => Some(NetworkRequest::Default),
                "host" => Some(NetworkRequest::Host),
                "none" => Some(NetworkRequest::None),
                other => other
                    .strip_prefix("container:")
                    .map(|name| NetworkRequest::Container(name.into())),
            };
            if let Some(special) = special {
                if !self.network_alias.is_empty() || !only.aliases.is_empty() {
                    return Err(Failure::request(
                        "network-scoped aliases are only supported for user-defined networks",
                    ));
                }
                if only.ipv4.is_some() || only.ipv6.is_some() {
                    return Err(Failure::request(
                        "invalid config for network: user specified IP address is supported on user defined networks only",
                    ));
                }
                if plain(only) {
                    return Ok(special);
                }
                if special != NetworkRequest::Default {
                    return Err(Failure::request(
                        "conflicting options: mac-address and the network mode",
                    ));
                }
            }
        } else if let Some(mode) = endpoints
            .iter()
            .find(|endpoint| is_exclusive(&endpoint.network))
        {
            return Err(Failure::request(format!(
                "conflicting options: cannot attach both user-defined and non-user-defined network-modes ({})",
                mode.network
            )));
        }
        for endpoint in &mut endpoints {
            if endpoint.network == "default" {
                endpoint.network = "bridge".into();
            }
        }
        Ok(NetworkRequest::Networks(endpoints))
    }

    /// `--ip`, `--ip6` and `--mac-address` are for the first network.
    fn complete_first(&self, first: &mut EndpointConfig) -> Result<(), Failure> {
        let both = |flag: &str| {
            Failure::request(format!(
                "conflicting options: cannot specify both --{flag} and per-network {flag}"
            ))
        };
        if let Some(text) = &self.ip {
            if first.ipv4.is_some() {
                return Err(both("ip"));
            }
            first.ipv4 = Some(address::<Ipv4Addr>(text)?);
        }
        if let Some(text) = &self.ip6 {
            if first.ipv6.is_some() {
                return Err(both("ip6"));
            }
            first.ipv6 = Some(address::<Ipv6Addr>(text)?);
        }
        if let Some(text) = self.mac_address.as_ref().filter(|text| !text.is_empty()) {
            if first.mac.is_some() {
                return Err(both("mac-address"));
            }
            first.mac = Some(mac(text).map_err(Failure::request)?);
        }
        Ok(())
    }
}

fn is_exclusive(network: &str) -> bool {
    matches!(network, "host" | "none") || network.starts_with("container:")
}

fn address<T: std::str::FromStr>(text: &str) -> Result<T, Failure> {
    text.parse()
        .map_err(|_| Failure::request(format!("invalid IP address: {text}")))
}

/// Six hexadecimal pairs between colons or dashes, as lower case with colons.
pub fn mac(text: &str) -> Result<String, String> {
    let parts: Vec<&str> = text.split([':', '-']).collect();
    let valid = parts.len() == 6
        && parts
            .iter()
            .all(|part| part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_hexdigit()));
    if valid {
        Ok(parts.join(":").to_lowercase())
    } else {
        Err(format!("{text} is not a valid mac address"))
    }
}

/// Value parser of `--network`: a name, or fields `name=…,alias=…,ip=…,ip6=…,mac-address=…`.
fn network(text: &str) -> Result<EndpointConfig, String> {
    if !text.contains('=') {
        if text.is_empty() {
            return Err("network name cannot be empty".into());
        }
        return Ok(EndpointConfig {
            network: text.to_owned(),
            ..EndpointConfig::default()
        });
    }
    let mut endpoint = EndpointConfig::default();
    for field in csv(text) {
        let (key, value) = field
            .split_once('=')
            .ok_or_else(|| format!("invalid field {field}"))?;
        let value = value.trim();
        match key.trim().to_lowercase().as_str() {
            "name" => endpoint.network = value.to_owned(),
            "alias" => endpoint.aliases.push(value.to_owned()),
            "ip" => {
                endpoint.ipv4 = Some(
                    value
                        .parse()
                        .map_err(|_| format!("invalid IPv4 address: {value}"))?,
                )
            }
            "ip6" => {
                endpoint.ipv6 = Some(
                    value
                        .parse()
                        .map_err(|_| format!("invalid IPv6 address: {value}"))?,
                )
            }
            "mac-address" => endpoint.mac = Some(mac(value)?),
            "link-local-ip" | "driver-opt" | "gw-priority" => {
                return Err(format!("{key} is not supported"));
            }
            other => return Err(format!("invalid field key {other}")),
        }
    }
    if endpoint.network.is_empty() {
        return Err("network name/id is not specified".into());
    }
    Ok(endpoint)
}

fn dns_server(text: &str) -> Result<String, String> {
    match text.parse::<IpAddr>() {
        Ok(address) => Ok(address.to_string()),
        Err(_) => Err(format!("IP address is not correctly formatted: {text}")),
    }
}

/// Value parser of `--add-host`: `name:address` or `name=address`, the address possibly in brackets.
pub fn extra_host(text: &str) -> Result<String, String> {
    let wrong = || format!("bad format for add-host: {text:?}");
    let (name, address) = text
        .split_once('=')
        .or_else(|| text.split_once(':'))
        .ok_or_else(wrong)?;
    if name.is_empty() || address.is_empty() {
        return Err(wrong());
    }
    let bare = address
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(address);
    if bare != "host-gateway" && bare.parse::<IpAddr>().is_err() {
        return Err(format!("invalid IP address in add-host: {bare:?}"));
    }
    Ok(format!("{name}:{bare}"))
}
