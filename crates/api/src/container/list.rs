//! `GET /containers/json`.

use std::net::IpAddr;

use jiff::Timestamp;
use ketch_engine::container::filter::{self, ContainerFilters};
use ketch_engine::container::{self, Container, status};
use ketch_engine::{Engine, ErrorKind, Result};
use serde_json::{Value, json};

use crate::call::Call;
use crate::reply::Reply;
use crate::shared::Shared;

/// The list, the newest first.
pub fn handle(shared: &Shared, call: &Call) -> Result<Reply> {
    let engine = &shared.engine;
    let filters = ContainerFilters::new(call.query.filters(&filter::KEYS)?)?;
    let limit = call
        .query
        .number::<i64>("limit")?
        .and_then(|limit| usize::try_from(limit).ok());
    let limit = limit.filter(|limit| *limit > 0);
    let mut all = container::list(engine)?;
    all.sort_by_key(|one| std::cmp::Reverse(one.config.created));
    let shown = filters.apply(engine, all, call.query.flag("all") || limit.is_some())?;
    let now = Timestamp::now();
    let mut summaries = Vec::new();
    for one in shown.iter().take(limit.unwrap_or(usize::MAX)) {
        match summary(engine, one, now, call.query.flag("size")) {
            Ok(value) => summaries.push(value),
            // Removed since it was listed.
            Err(error) if error.kind == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(Reply::json(Value::Array(summaries)))
}

/// All containers, with their sizes.
///
/// # Errors
/// They cannot be read.
pub fn all_with_sizes(engine: &Engine) -> Result<Value> {
    let now = Timestamp::now();
    let mut summaries = Vec::new();
    for one in container::list(engine)? {
        match summary(engine, &one, now, true) {
            Ok(value) => summaries.push(value),
            // Removed since it was listed.
            Err(error) if error.kind == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(Value::Array(summaries))
}

fn summary(engine: &Engine, one: &Container, now: Timestamp, with_size: bool) -> Result<Value> {
    let Container { config, state } = one;
    let inspected = container::inspect(engine, config.id.as_str())?;
    let mut value = json!({
        "Id": config.id,
        "Names": [format!("/{}", config.name)],
        "Image": config.image.reference,
        "ImageID": config.image.id,
        "Command": command(one),
        "Created": config.created.as_second(),
        "Ports": ports(one),
        "Labels": config.labels,
        "State": state.status.to_string(),
        "Status": status::text(state, now),
        "HostConfig": {"NetworkMode": inspected["HostConfig"]["NetworkMode"]},
        "NetworkSettings": {"Networks": inspected["NetworkSettings"]["Networks"]},
        "Mounts": inspected["Mounts"],
    });
    if with_size {
        let sizes = container::size(engine, &config.id)?;
        value["SizeRw"] = json!(sizes.writable_bytes);
        value["SizeRootFs"] = json!(sizes.total_bytes);
    }
    Ok(value)
}

/// Program and arguments; arguments with spaces in single quotes, as Docker's engine joins them.
fn command(one: &Container) -> String {
    let process = &one.config.process;
    let mut words = process.entrypoint.iter().chain(&process.command);
    let mut text = words.next().cloned().unwrap_or_default();
    for word in words {
        text.push(' ');
        if word.contains(' ') {
            text.extend(["'", word, "'"]);
        } else {
            text.push_str(word);
        }
    }
    text
}

/// Published ports of a running container, and its exposed ones without an address.
fn ports(one: &Container) -> Vec<Value> {
    if !container::load::is_live(one.state.status) {
        return Vec::new();
    }
    let published = &one.state.ports;
    let any = IpAddr::from([0, 0, 0, 0]);
    let mut all: Vec<Value> = published
        .iter()
        .map(|mapping| {
            let port = mapping.container;
            json!({
                "IP": mapping.host_ip.unwrap_or(any).to_string(), "PrivatePort": port.number,
                "PublicPort": mapping.host_port, "Type": port.protocol.to_string(),
            })
        })
        .collect();
    let exposed = one.config.network.exposed.iter();
    let bare = exposed.filter(|port| !published.iter().any(|mapping| mapping.container == **port));
    all.extend(
        bare.map(|port| json!({"PrivatePort": port.number, "Type": port.protocol.to_string()})),
    );
    all
}
