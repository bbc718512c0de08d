//! Networks.

use std::collections::BTreeMap;

use hyper::StatusCode;
use ketch_engine::network::{self, NetworkRequest, PruneOptions};
use ketch_engine::{Error, ErrorKind, Result};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::call::Call;
use crate::container::{Endpoint, endpoint_config};
use crate::reply::Reply;
use crate::shared::Shared;

/// `GET /networks`.
pub fn list(shared: &Shared, call: &Call) -> Result<Reply> {
    let engine = &shared.engine;
    let filters = call
        .query
        .filters(&["driver", "id", "label", "name", "scope", "type", "dangling"])?;
    filters.check("type", &["builtin", "custom"])?;
    let (names, dangling) = (filters.patterns("name")?, filters.boolean("dangling")?);
    let mut shown = Vec::new();
    for record in network::list(engine)? {
        let kind = if network::is_predefined(&record) {
            "builtin"
        } else {
            "custom"
        };
        let matches = filters.any("driver", |driver| driver == record.driver)
            && filters.any("id", |id| record.id.as_str().starts_with(id))
            && filters.any("scope", |scope| scope == "local")
            && filters.any("type", |wanted| wanted == kind)
            && filters.labels(&record.labels)
            && (names.is_empty() || names.iter().any(|name| name.is_match(&record.name)));
        let is_dangling = |dangling| -> Result<bool> {
            Ok((kind == "custom" && network::endpoints(engine, &record)?.is_empty()) == dangling)
        };
        if matches && dangling.map(is_dangling).transpose()?.unwrap_or(true) {
            shown.push(network::to_docker_json(&record));
        }
    }
    Ok(Reply::json(Value::Array(shown)))
}

/// `GET /networks/{id}`.
pub fn inspect(shared: &Shared, call: &Call) -> Result<Reply> {
    if call
        .query
        .get("scope")
        .is_some_and(|scope| scope != "local")
    {
        return Err(Error::new(
            ErrorKind::NotFound,
            format!("network {} not found", call.name),
        ));
    }
    network::inspect(&shared.engine, &call.name).map(Reply::json)
}

/// The body of a create.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct NetworkBody {
    name: String,
    driver: String,
    scope: String,
    internal: bool,
    attachable: bool,
    ingress: bool,
    config_only: bool,
    config_from: Option<BTreeMap<String, String>>,
    #[serde(rename = "EnableIPv4")]
    enable_ipv4: Option<bool>,
    #[serde(rename = "EnableIPv6")]
    enable_ipv6: Option<bool>,
    #[serde(rename = "IPAM")]
    ipam: Option<IpamBody>,
    options: Option<BTreeMap<String, String>>,
    labels: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct IpamBody {
    driver: String,
    options: Option<BTreeMap<String, String>>,
    config: Option<Vec<PoolBody>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct PoolBody {
    subnet: String,
    #[serde(rename = "IPRange")]
    ip_range: String,
    gateway: String,
    auxiliary_addresses: Option<BTreeMap<String, String>>,
}

impl NetworkBody {
    fn into_request(self) -> Result<NetworkRequest> {
        let from = self.config_from.unwrap_or_default();
        for (is_set, name) in [
            (self.ingress, "Ingress"),
            (self.config_only, "ConfigOnly"),
            (from.values().any(|name| !name.is_empty()), "ConfigFrom"),
            (!matches!(self.scope.as_str(), "" | "local"), "Scope"),
        ] {
            if is_set {
                return Err(Error::new(
                    ErrorKind::Unsupported,
                    format!("{name} is not supported"),
                ));
            }
        }
        let ipam = self.ipam.unwrap_or_default();
        let mut request = NetworkRequest {
            name: self.name,
            driver: self.driver,
            ipam_driver: ipam.driver,
            ipam_options: ipam.options.unwrap_or_default(),
            internal: self.internal,
            attachable: self.attachable,
            ipv6: self.enable_ipv6.unwrap_or(false),
            without_ipv4: self.enable_ipv4 == Some(false),
            labels: self.labels.unwrap_or_default(),
            options: self.options.unwrap_or_default(),
            ..NetworkRequest::default()
        };
        for pool in ipam.config.unwrap_or_default() {
            let push = |list: &mut Vec<String>, text: String| {
                list.extend(Some(text).filter(|text| !text.is_empty()))
            };
            push(&mut request.subnets, pool.subnet);
            push(&mut request.ip_ranges, pool.ip_range);
            push(&mut request.gateways, pool.gateway);
            request
                .auxiliary
                .extend(pool.auxiliary_addresses.unwrap_or_default());
        }
        Ok(request)
    }
}

/// `POST /networks/create`.
pub fn create(shared: &Shared, call: &Call) -> Result<Reply> {
    let body: NetworkBody = call.json()?;
    let record = network::create(&shared.engine, body.into_request()?)?;
    Ok(Reply::created(json!({"Id": record.id, "Warning": ""})))
}

/// `DELETE /networks/{id}`.
pub fn remove(shared: &Shared, call: &Call) -> Result<Reply> {
    network::remove(&shared.engine, &call.name)?;
    Ok(Reply::done())
}

/// The body of a connect.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct ConnectBody {
    container: String,
    endpoint_config: Option<Endpoint>,
}

/// `POST /networks/{id}/connect`.
pub fn connect(shared: &Shared, call: &Call) -> Result<Reply> {
    let body: ConnectBody = call.json()?;
    let endpoint = endpoint_config(&call.name, body.endpoint_config)?;
    network::connect(&shared.engine, &call.name, &body.container, endpoint)?;
    Ok(Reply::empty(StatusCode::OK))
}

/// The body of a disconnect.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct DisconnectBody {
    container: String,
    force: bool,
}

/// `POST /networks/{id}/disconnect`.
pub fn disconnect(shared: &Shared, call: &Call) -> Result<Reply> {
    let body: DisconnectBody = call.json()?;
    network::disconnect(&shared.engine, &call.name, &body.container, body.force)?;
    Ok(Reply::empty(StatusCode::OK))
}

/// `POST /networks/prune`.
pub fn prune(shared: &Shared, call: &Call) -> Result<Reply> {
    let filters = call.query.filters(&["until", "label", "label!"])?;
    let options = PruneOptions {
        labels: filters.values("label").to_vec(),
        without_labels: filters.values("label!").to_vec(),
        until: crate::filters::moment(&filters, "until")?,
    };
    let removed = network::prune(&shared.engine, &options)?;
    Ok(Reply::json(json!({"NetworksDeleted": removed})))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn convert(body: Value) -> Result<NetworkRequest> {
        serde_json::from_value::<NetworkBody>(body)
            .expect("a body")
            .into_request()
    }

    #[test]
    fn pools_are_carried_over() {
        let request = convert(json!({
            "Name": "n", "Driver": "bridge", "Internal": true, "EnableIPv4": true, "ConfigFrom": null,
            "IPAM": {"Driver": "default", "Options": {}, "Config": [
                {"Subnet": "10.9.0.0/24", "Gateway": "10.9.0.1", "AuxiliaryAddresses": {"x": "10.9.0.2"}},
            ]},
            "Labels": {"a": "b"},
        }))
        .unwrap();
        assert_eq!(
            (request.subnets, request.gateways),
            (vec!["10.9.0.0/24".to_owned()], vec!["10.9.0.1".to_owned()])
        );
        assert_eq!(request.auxiliary["x"], "10.9.0.2");
        assert!(request.internal && !request.without_ipv4 && request.ip_ranges.is_empty());
    }

    #[test]
    fn what_swarms_need_is_refused_by_name() {
        for (field, value) in [
            ("Ingress", json!(true)),
            ("ConfigOnly", json!(true)),
            ("Scope", json!("swarm")),
        ] {
            let error = convert(json!({"Name": "n", field: value})).unwrap_err();
            assert_eq!(error.message, format!("{field} is not supported"));
        }
    }
}
