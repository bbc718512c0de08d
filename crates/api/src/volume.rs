//! Volumes.

use std::collections::BTreeMap;

use ketch_engine::volume::{self, PruneOptions, VolumeRequest};
use ketch_engine::{Error, ErrorKind, Result};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::call::Call;
use crate::reply::Reply;
use crate::shared::Shared;
use crate::version::Version;

/// Before it, a prune took named volumes too.
const ANONYMOUS_ONLY_SINCE: Version = Version(1, 42);

/// `GET /volumes`.
pub fn list(shared: &Shared, call: &Call) -> Result<Reply> {
    let filters = call
        .query
        .filters(&["dangling", "driver", "label", "name"])?;
    let (names, dangling) = (filters.patterns("name")?, filters.boolean("dangling")?);
    let mut all = volume::list(&shared.engine)?;
    all.retain(|one| {
        dangling.is_none_or(|dangling| one.users.is_empty() == dangling)
            && filters.any("driver", |driver| driver == volume::DRIVER)
            && filters.labels(&one.record.labels)
            && (names.is_empty() || names.iter().any(|name| name.is_match(&one.record.name)))
    });
    let volumes: Vec<Value> = all.iter().map(volume::Volume::to_docker_json).collect();
    Ok(Reply::json(json!({"Volumes": volumes, "Warnings": null})))
}

/// `GET /volumes/{id}`.
pub fn inspect(shared: &Shared, call: &Call) -> Result<Reply> {
    volume::inspect(&shared.engine, &call.name).map(Reply::json)
}

/// The body of a create.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct VolumeBody {
    name: String,
    driver: String,
    driver_opts: Option<BTreeMap<String, String>>,
    labels: Option<BTreeMap<String, String>>,
    cluster_volume_spec: Option<Value>,
}

/// `POST /volumes/create`.
pub fn create(shared: &Shared, call: &Call) -> Result<Reply> {
    let body: VolumeBody = call.json()?;
    if body.cluster_volume_spec.is_some() {
        return Err(Error::new(
            ErrorKind::Unsupported,
            "ClusterVolumeSpec is not supported",
        ));
    }
    let request = VolumeRequest {
        name: Some(body.name).filter(|name| !name.is_empty()),
        driver: body.driver,
        labels: body.labels.unwrap_or_default(),
        options: body.driver_opts.unwrap_or_default(),
    };
    let volume = volume::create(&shared.engine, request)?;
    Ok(Reply::created(volume.to_docker_json()))
}

/// `DELETE /volumes/{id}`.
pub fn remove(shared: &Shared, call: &Call) -> Result<Reply> {
    volume::remove(&shared.engine, &call.name, call.query.flag("force"))?;
    Ok(Reply::done())
}

/// `POST /volumes/prune`.
pub fn prune(shared: &Shared, call: &Call) -> Result<Reply> {
    let filters = call.query.filters(&["label", "label!", "all"])?;
    let options = PruneOptions {
        all: call.version < ANONYMOUS_ONLY_SINCE || filters.boolean("all")? == Some(true),
        labels: filters.values("label").to_vec(),
        without_labels: filters.values("label!").to_vec(),
    };
    let pruned = volume::prune(&shared.engine, &options)?;
    Ok(Reply::json(
        json!({"VolumesDeleted": pruned.volumes, "SpaceReclaimed": pruned.bytes}),
    ))
}
