//! `network inspect`.

use ketch_network::NetworkRecord;
use serde_json::{Map, Value, json};

use super::{endpoints, resolve};
use crate::container::config::NetworkMode;
use crate::container::{self, load};
use crate::{Engine, Result};

/// A network in Docker's JSON, with the containers that are in it now.
///
/// # Errors
/// As [`resolve`].
pub fn inspect(engine: &Engine, wanted: &str) -> Result<Value> {
    let record = resolve(engine, wanted)?;
    let mut value = to_docker_json(&record);
    value["Containers"] = Value::Object(containers(engine, &record)?);
    Ok(value)
}

/// A network in Docker's JSON as listings have it: without its containers.
pub fn to_docker_json(record: &NetworkRecord) -> Value {
    let subnets: Vec<Value> = record
        .subnets
        .iter()
        .map(|subnet| {
            let mut value = json!({ "Subnet": subnet.subnet.to_string() });
            if let Some(range) = subnet.ip_range {
                value["IPRange"] = json!(range.to_string());
            }
            value["Gateway"] = json!(subnet.gateway.to_string());
            if !subnet.auxiliary.is_empty() {
                value["AuxiliaryAddresses"] = json!(subnet.auxiliary);
            }
            value
        })
        .collect();
    json!({
        "Name": record.name,
        "Id": record.id,
        "Created": record.created.to_string(),
        "Scope": "local",
        "Driver": record.driver,
        "EnableIPv4": true,
        "EnableIPv6": false,
        "IPAM": {
            "Driver": "default",
            "Options": Value::Null,
            "Config": if subnets.is_empty() { Value::Null } else { Value::Array(subnets) },
        },
        "Internal": record.internal,
        "Attachable": record.attachable,
        "Ingress": false,
        "ConfigFrom": { "Network": "" },
        "ConfigOnly": false,
        "Containers": {},
        "Options": record.options,
        "Labels": record.labels,
    })
}

fn containers(engine: &Engine, record: &NetworkRecord) -> Result<Map<String, Value>> {
    let mut map = Map::new();
    for endpoint in endpoints(engine, record)? {
        let value = json!({
            "Name": endpoint.name,
            "EndpointID": endpoint.endpoint_id,
            "MacAddress": endpoint.mac,
            "IPv4Address": format!("{}/{}", endpoint.ipv4, endpoint.prefix),
            "IPv6Address": "",
        });
        map.insert(endpoint.container.to_string(), value);
    }
    // Networks without links have no endpoint records: who is in them is a matter of the containers' modes.
    let mode = match record.driver.as_str() {
        "host" => NetworkMode::Host,
        "null" => NetworkMode::None,
        _ => return Ok(map),
    };
    for container in container::list(engine)? {
        if container.config.network.mode == mode && load::is_live(container.state.status) {
            let value = json!({
                "Name": container.config.name,
                "EndpointID": "",
                "MacAddress": "",
                "IPv4Address": "",
                "IPv6Address": "",
            });
            map.insert(container.config.id.to_string(), value);
        }
    }
    Ok(map)
}
