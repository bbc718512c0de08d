//! Images.

use hyper::StatusCode;
use ketch_engine::image::{self, ImageSummary, ListFilter, RemovedImage};
use ketch_engine::{Error, ErrorKind, Result};
use ketch_spec::Reference;
use serde_json::{Value, json};

use crate::call::Call;
use crate::reply::Reply;
use crate::shared::Shared;

/// `GET /images/json`.
pub fn list(shared: &Shared, call: &Call) -> Result<Reply> {
    let filters =
        call.query
            .filters(&["reference", "dangling", "label", "before", "since", "until"])?;
    let last = |key: &str| filters.values(key).last().cloned();
    let filter = ListFilter {
        references: filters.values("reference").to_vec(),
        dangling: filters.boolean("dangling")?,
        labels: filters.values("label").to_vec(),
        before: last("before"),
        since: last("since"),
        until: crate::filters::moment(&filters, "until")?,
    };
    let with_shared = call.query.flag("shared-size");
    let all = image::list(&shared.engine, &filter)?;
    Ok(Reply::json(
        all.iter().map(|one| summary(one, with_shared)).collect(),
    ))
}

fn summary(one: &ImageSummary, with_shared: bool) -> Value {
    let image = &one.image;
    let names = |references: &[Reference]| {
        references
            .iter()
            .map(Reference::familiar)
            .collect::<Vec<_>>()
    };
    let labels = image.config.config.as_ref().map(|config| &config.labels);
    json!({
        "Id": image.id,
        "ParentId": "",
        "RepoTags": names(&image.references),
        "RepoDigests": names(&image.repo_digests),
        "Created": image.created().map_or(0, |time| time.as_second()),
        "Size": image.size_bytes,
        // -1: not counted.
        "SharedSize": if with_shared { json!(one.shared_bytes) } else { json!(-1) },
        "Labels": labels,
        "Containers": one.containers,
        "Descriptor": image.target,
    })
}

/// `GET /images/{name}/json`.
pub fn inspect(shared: &Shared, call: &Call) -> Result<Reply> {
    call.query.refuse("platform")?;
    image::inspect(&shared.engine, &call.name).map(Reply::json)
}

/// `GET /images/{name}/history`.
pub fn history(shared: &Shared, call: &Call) -> Result<Reply> {
    call.query.refuse("platform")?;
    let entries = image::history(&shared.engine, &call.name)?;
    let lines = entries.into_iter().map(|entry| {
        json!({
            "Id": entry.id.map_or_else(|| "<missing>".to_owned(), |id| id.to_string()),
            "Created": entry.created.map_or(0, |time| time.as_second()),
            "CreatedBy": entry.created_by,
            "Tags": if entry.tags.is_empty() { Value::Null } else { json!(entry.tags) },
            "Size": entry.size_bytes,
            "Comment": entry.comment,
        })
    });
    Ok(Reply::json(lines.collect()))
}

/// `POST /images/{name}/tag`.
pub fn tag(shared: &Shared, call: &Call) -> Result<Reply> {
    let Some(repository) = call.query.get("repo") else {
        return Err(Error::new(
            ErrorKind::Invalid,
            "invalid reference format: parameter repo is missing",
        ));
    };
    let target = match call.query.get("tag") {
        Some(tag) => format!("{repository}:{tag}"),
        None => repository.to_owned(),
    };
    image::tag(&shared.engine, &call.name, &target)?;
    Ok(Reply::empty(StatusCode::CREATED))
}

/// `DELETE /images/{name}`.
pub fn remove(shared: &Shared, call: &Call) -> Result<Reply> {
    call.query.refuse("platforms")?;
    let (force, no_prune) = (call.query.flag("force"), call.query.flag("noprune"));
    let removed = image::remove(&shared.engine, &call.name, force, no_prune)?;
    let lines = removed.into_iter().map(|line| match line {
        RemovedImage::Untagged(name) => json!({"Untagged": name}),
        RemovedImage::Deleted(id) => json!({"Deleted": id}),
    });
    Ok(Reply::json(lines.collect()))
}
