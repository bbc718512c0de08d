//! `ports`: short and long forms become `{mode, host_ip, target, published, protocol}`.

use ketch_spec::port::{PortMapping, parse_publish};

use super::{list, map, number, text};
use crate::error::{LoadError, Position};
use crate::node::Node;
use crate::reader::Reader;

/// The list of a service's ports.
pub(super) fn ports(reader: &Reader<'_>) -> Result<Node, LoadError> {
    let mut items = Vec::new();
    for item in reader.items()? {
        if item.is_map() {
            items.push(long(&item)?);
        } else {
            let mappings = parse_publish(&item.text()?)
                .map_err(|error| item.error(format!("is not a port: {error}")))?;
            items.extend(
                mappings
                    .iter()
                    .map(|mapping| node(mapping, item.position())),
            );
        }
    }
    Ok(list(items, reader.position()))
}

fn node(mapping: &PortMapping, at: &Position) -> Node {
    let mut entries = vec![("mode", text("ingress", at))];
    if let Some(address) = mapping.host_ip {
        entries.push(("host_ip", text(address.to_string(), at)));
    }
    entries.push(("target", number(mapping.container.number, at)));
    match (mapping.host_port, mapping.host_port_end) {
        (Some(first), Some(last)) if last != first => {
            entries.push(("published", text(format!("{first}-{last}"), at)))
        }
        (Some(port), _) => entries.push(("published", text(port.to_string(), at))),
        (None, _) => {}
    }
    entries.push(("protocol", text(mapping.container.protocol.to_string(), at)));
    map(entries, at)
}

fn long(item: &Reader<'_>) -> Result<Node, LoadError> {
    item.check_keys(
        &[
            "name",
            "target",
            "published",
            "host_ip",
            "protocol",
            "app_protocol",
            "mode",
        ],
        &[],
    )?;
    let target = item
        .get("target")
        .ok_or_else(|| item.error("must have a target"))?;
    target.parsed::<u16>("a port number")?;
    let at = item.position();
    let mut entries = vec![("mode", text("ingress", at))];
    for key in ["host_ip", "target", "published", "protocol"] {
        let value = match (item.get(key), key) {
            (Some(value), "target") => number(value.text()?, at),
            (Some(value), _) => text(value.text()?, at),
            (None, "protocol") => text("tcp", at),
            (None, _) => continue,
        };
        entries.push((key, value));
    }
    Ok(map(entries, at))
}
