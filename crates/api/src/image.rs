//! Images.

use hyper::StatusCode;
use ketch_engine::container::{self, Container};
use ketch_engine::image::{
    self, Image, ImageSummary, ListFilter, Member, MemberKind, RemoveOptions, RemovedImage,
};
use ketch_engine::{Engine, Error, ErrorKind, Result};
use ketch_spec::{Id, Platform, Reference};
use serde_json::{Value, json};

use crate::call::{Call, Query};
use crate::reply::Reply;
use crate::shared::Shared;
use crate::version::Version;

/// The first version in which images have one size only.
const WITHOUT_VIRTUAL_SIZE: Version = Version(1, 44);

/// `GET /images/json`.
pub fn list(shared: &Shared, call: &Call) -> Result<Reply> {
    let filters = call.query.filters(&[
        "reference",
        "dangling",
        "label",
        "label!",
        "before",
        "since",
        "until",
    ])?;
    let last = |key: &str| filters.values(key).last().cloned();
    let filter = ListFilter {
        references: filters.values("reference").to_vec(),
        dangling: filters.boolean("dangling")?,
        labels: filters.values("label").to_vec(),
        without_labels: filters.values("label!").to_vec(),
        before: last("before"),
        since: last("since"),
        until: crate::filters::moment(&filters, "until")?,
    };
    let with_shared = call.query.flag("shared-size");
    let all = image::list(&shared.engine, &filter)?;
    let containers = match call.query.flag("manifests") {
        true => Some(container::list(&shared.engine)?),
        false => None,
    };
    let mut lines = Vec::with_capacity(all.len());
    for one in &all {
        let mut line = for_version(summary(one, with_shared), call.version);
        if let Some(containers) = &containers {
            line["Manifests"] = manifests(&shared.engine, &one.image, containers)?;
        }
        lines.push(line);
    }
    Ok(Reply::json(Value::Array(lines)))
}

/// What an image's index names, here or not.
fn manifests(engine: &Engine, image: &Image, containers: &[Container]) -> Result<Value> {
    let members = image::members(engine, image)?;
    Ok(members
        .iter()
        .map(|member| manifest(member, containers))
        .collect())
}

fn manifest(member: &Member, containers: &[Container]) -> Value {
    let image = |platform: &Platform, made: Vec<&Id>, unpacked: u64| json!({"Platform": platform, "Containers": made, "Size": {"Unpacked": unpacked}});
    let (available, kind, bytes, key, data) = match &member.kind {
        MemberKind::Here(one) => {
            let made = containers
                .iter()
                .filter(|container| container.config.image.id.as_ref() == Some(&one.id))
                .map(|container| &container.config.id)
                .collect();
            let data = image(&one.platform, made, one.size_bytes);
            let bytes = (one.content_bytes, one.size_bytes);
            (true, "image", bytes, "ImageData", data)
        }
        MemberKind::Elsewhere(platform) => {
            let data = image(platform, Vec::new(), 0);
            (false, "image", (0, 0), "ImageData", data)
        }
        MemberKind::Attestation { about, here } => {
            let size = if *here { member.manifest.size } else { 0 };
            let data = json!({"For": about});
            (*here, "attestation", (size, size), "AttestationData", data)
        }
        MemberKind::Unknown { here } => {
            let size = if *here { member.manifest.size } else { 0 };
            (*here, "unknown", (size, size), "", Value::Null)
        }
    };
    let (content, total) = bytes;
    let mut line = json!({
        "ID": member.manifest.digest,
        "Descriptor": member.manifest,
        "Available": available,
        "Kind": kind,
        "Size": {"Content": content, "Total": total},
    });
    if !key.is_empty() {
        line[key] = data;
    }
    line
}

/// Clients of older versions read the size under another name as well.
fn for_version(mut image: Value, version: Version) -> Value {
    if version < WITHOUT_VIRTUAL_SIZE {
        image["VirtualSize"] = image["Size"].clone();
    }
    image
}

/// One image as lists have it.
pub fn summary(one: &ImageSummary, with_shared: bool) -> Value {
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
    let platform = platform(&call.query)?;
    let with_manifests = call.query.flag("manifests");
    if with_manifests && platform.is_some() {
        return Err(Error::new(
            ErrorKind::Invalid,
            "conflicting options: manifests and platform options cannot both be set",
        ));
    }
    let mut found = image::inspect(&shared.engine, &call.name, platform.as_ref())?;
    // An artifact is no image: its document says all there is.
    if with_manifests && found.get("ArtifactType").is_none() {
        let image = image::resolve(&shared.engine, &call.name)?;
        let containers = container::list(&shared.engine)?;
        found["Manifests"] = manifests(&shared.engine, &image, &containers)?;
    }
    Ok(Reply::json(for_version(found, call.version)))
}

/// `GET /images/{name}/history`.
pub fn history(shared: &Shared, call: &Call) -> Result<Reply> {
    let platform = platform(&call.query)?;
    let entries = image::history(&shared.engine, &call.name, platform.as_ref())?;
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
    let options = RemoveOptions {
        force: call.query.flag("force"),
        no_prune: call.query.flag("noprune"),
        platforms: platforms(&call.query, "platforms")?,
    };
    let lines = image::remove(&shared.engine, &call.name, &options)?;
    Ok(Reply::json(lines.into_iter().map(removed).collect()))
}

/// One line of what a removal or a prune did.
pub fn removed(line: RemovedImage) -> Value {
    match line {
        RemovedImage::Untagged(name) => json!({"Untagged": name}),
        RemovedImage::Deleted(id) => json!({"Deleted": id}),
    }
}

/// The parameter `platform`: a JSON document (image specification, "platform"), or `os/arch[/variant]`.
pub fn platform(query: &Query) -> Result<Option<Platform>> {
    Ok(platforms(query, "platform")?.into_iter().next())
}

/// All values of a parameter that names platforms.
pub fn platforms(query: &Query, key: &str) -> Result<Vec<Platform>> {
    query.all(key).map(parse_platform).collect()
}

fn parse_platform(text: &str) -> Result<Platform> {
    let parsed = match text.starts_with('{') {
        true => serde_json::from_str::<Platform>(text).map_err(|error| error.to_string()),
        false => text.parse::<Platform>().map_err(|error| error.to_string()),
    };
    parsed.map(Platform::normalised).map_err(|reason| {
        Error::new(
            ErrorKind::Invalid,
            format!("failed to parse platform: {reason}"),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn older_clients_find_the_size_twice() {
        let of = |minor| for_version(json!({"Size": 7}), Version(1, minor));
        assert_eq!(of(43)["VirtualSize"], 7);
        assert!(of(44).get("VirtualSize").is_none());
    }

    #[test]
    fn platforms_come_as_documents_or_words() {
        let query = Query::parse(
            "platform=%7B%22os%22%3A%22linux%22%2C%22architecture%22%3A%22arm64%22%7D&platforms=linux/amd64&platforms=linux/arm",
        );
        assert_eq!(
            platform(&query).unwrap().unwrap().to_string(),
            "linux/arm64"
        );
        let both = platforms(&query, "platforms").unwrap();
        assert_eq!(both.len(), 2);
        let bad = platform(&Query::parse("platform=a/b/c/d")).unwrap_err();
        assert_eq!(bad.kind, ErrorKind::Invalid);
    }
}
