//! Archives: images and containers out, images in; and images of containers.

use std::io::{BufWriter, Write};

use ketch_engine::container::{self, ChangeKind, CommitOptions};
use ketch_engine::image::{self, Format, SaveOptions, Silent};
use ketch_engine::{Engine, Error, ErrorKind, Result, layer};
use ketch_spec::Reference;
use serde_json::{Value, json};

use crate::call::Call;
use crate::image::platforms;
use crate::reply::{JSON, Reply, Sink};
use crate::shared::Shared;
use crate::upload::Upload;

/// Content type of archives.
const TAR: &str = "application/x-tar";
/// Bytes of one piece.
const PIECE_BYTES: usize = 64 << 10;

/// `GET /images/{name}/get`.
pub fn save_one(shared: &Shared, call: &Call) -> Result<Reply> {
    save_names(shared, call, vec![call.name.clone()])
}

/// `GET /images/get`.
pub fn save(shared: &Shared, call: &Call) -> Result<Reply> {
    let names: Vec<String> = call.query.all("names").map(str::to_owned).collect();
    if names.is_empty() {
        return Err(Error::new(ErrorKind::Invalid, "no image to save is named"));
    }
    save_names(shared, call, names)
}

fn save_names(shared: &Shared, call: &Call, names: Vec<String>) -> Result<Reply> {
    let options = SaveOptions {
        format: Format::Docker,
        platforms: platforms(&call.query, "platform")?,
    };
    for name in &names {
        // What is not here is a status, not the end of a stream.
        match options.platforms.as_slice() {
            [] => drop(image::resolve(&shared.engine, name)?),
            some => {
                for platform in some {
                    image::resolve_for(&shared.engine, name, Some(platform))?;
                }
            }
        }
    }
    let engine = shared.engine.clone();
    Ok(stream(move |out| {
        image::save(&engine, &names, out, &options, &Silent)
    }))
}

/// `GET /containers/{id}/export`.
pub fn export(shared: &Shared, call: &Call) -> Result<Reply> {
    let id = container::resolve(&shared.engine, &call.name)?;
    let engine = shared.engine.clone();
    Ok(stream(move |out| {
        container::export(&engine, id.as_str(), out)
    }))
}

/// An archive as it is written. A failure breaks the connection, so that nobody takes it for whole.
fn stream(produce: impl FnOnce(&mut dyn Write) -> Result<()> + Send + 'static) -> Reply {
    Reply::stream(TAR, move |sink| {
        let mut out = BufWriter::with_capacity(PIECE_BYTES, Pieces(sink));
        let produced = produce(&mut out);
        if produced.is_err() || out.flush().is_err() {
            drop(out.into_parts());
            sink.abort();
        }
    })
}

struct Pieces<'a>(&'a Sink);

impl Write for Pieces<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match self.0.send(bytes.to_vec()) {
            true => Ok(bytes.len()),
            false => Err(std::io::ErrorKind::BrokenPipe.into()),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// `POST /images/load`.
pub fn load(shared: &Shared, call: &Call, body: &mut Upload) -> Result<Reply> {
    let platforms = platforms(&call.query, "platform")?;
    let loaded = image::load(&shared.engine, body, &platforms, &Silent)?;
    let mut lines = Vec::new();
    for one in loaded {
        for (name, old) in &one.taken {
            let name = name.familiar();
            lines.push(format!(
                "The image {name} already exists, renaming the old one with ID {old} to empty string\n"
            ));
        }
        if one.references.is_empty() {
            lines.push(format!("Loaded image ID: {}\n", one.id));
        }
        let names = one.references.iter().map(Reference::familiar);
        lines.extend(names.map(|name| format!("Loaded image: {name}\n")));
    }
    Ok(Reply::stream(JSON, move |sink| {
        for line in lines {
            if !sink.send_json(&json!({"stream": line})) {
                return;
            }
        }
    }))
}

/// `GET /containers/{id}/changes`.
pub fn changes(shared: &Shared, call: &Call) -> Result<Reply> {
    let changes = container::diff(&shared.engine, &call.name)?;
    let one = |change: container::FileChange| {
        let kind = match change.kind {
            ChangeKind::Modified => 0,
            ChangeKind::Added => 1,
            ChangeKind::Deleted => 2,
        };
        json!({"Path": change.path, "Kind": kind})
    };
    Ok(Reply::json(changes.into_iter().map(one).collect()))
}

/// `POST /commit`.
pub fn commit(shared: &Shared, call: &Call) -> Result<Reply> {
    let query = &call.query;
    let missing = || Error::new(ErrorKind::Invalid, "parameter container is missing");
    let wanted = query.get("container").ok_or_else(missing)?;
    refuse_config(call)?;
    let changes = query.all("changes").flat_map(str::lines);
    let options = CommitOptions {
        reference: reference(query.get("repo"), query.get("tag"))?,
        author: query.get("author").unwrap_or_default().to_owned(),
        message: query.get("comment").unwrap_or_default().to_owned(),
        changes: changes.map(str::to_owned).collect(),
        pause: query.get("pause").is_none() || query.flag("pause"),
    };
    let id = container::commit(&shared.engine, wanted, &options)?;
    Ok(Reply::created(json!({"Id": id})))
}

/// The body is a config that replaces the container's: it comes empty from clients that have no use for it.
fn refuse_config(call: &Call) -> Result<()> {
    if call.body.is_empty() {
        return Ok(());
    }
    let config: Value = call.json()?;
    let is_unset = |value: &Value| match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::Number(number) => number.as_i64() == Some(0),
        Value::Bool(true) => false,
    };
    let fields = config.as_object();
    let set = fields.and_then(|fields| fields.iter().find(|(_, value)| !is_unset(value)));
    match set {
        Some((name, _)) => Err(Error::new(
            ErrorKind::Unsupported,
            format!("{name} in the body of a commit is not supported: use the parameter changes"),
        )),
        None => Ok(()),
    }
}

/// A name out of the parameters `repo` and `tag`.
///
/// # Errors
/// `Invalid` for what is none.
pub fn reference(repository: Option<&str>, tag: Option<&str>) -> Result<Option<Reference>> {
    let Some(repository) = repository else {
        return Ok(None);
    };
    let text = match tag {
        Some(tag) => format!("{repository}:{tag}"),
        None => repository.to_owned(),
    };
    let parsed = text.parse::<Reference>();
    parsed.map(Some).map_err(|error| {
        Error::new(
            ErrorKind::Invalid,
            format!("invalid reference format: {text:?}: {error}"),
        )
    })
}

/// `POST /images/prune`.
pub fn prune_images(shared: &Shared, call: &Call) -> Result<Reply> {
    let filters = call
        .query
        .filters(&["dangling", "until", "label", "label!"])?;
    let options = image::PruneOptions {
        all: filters.boolean("dangling")? == Some(false),
        until: crate::filters::moment(&filters, "until")?,
        labels: filters.values("label").to_vec(),
        without_labels: filters.values("label!").to_vec(),
    };
    let pruned = image::prune(&shared.engine, &options)?;
    let removed = pruned.removed.into_iter().map(crate::image::removed);
    Ok(Reply::json(json!({
        "ImagesDeleted": removed.collect::<Vec<_>>(),
        "SpaceReclaimed": pruned.freed_bytes,
    })))
}

/// `POST /containers/prune`.
pub fn prune_containers(shared: &Shared, call: &Call) -> Result<Reply> {
    let filters = call.query.filters(&["until", "label", "label!"])?;
    let until = crate::filters::moment(&filters, "until")?;
    let pruned = container::prune(&shared.engine, &filters, until)?;
    Ok(Reply::json(json!({
        "ContainersDeleted": pruned.ids,
        "SpaceReclaimed": pruned.bytes,
    })))
}

/// `POST /build/prune`.
pub fn prune_cache(shared: &Shared, call: &Call) -> Result<Reply> {
    for key in [
        "keep-storage",
        "reserved-space",
        "max-used-space",
        "min-free-space",
    ] {
        call.query.refuse(key)?;
    }
    let filters = call.query.filters(&["until"])?;
    let until = crate::filters::moment(&filters, "until")?;
    let all = call.query.flag("all");
    let images = image::list(&shared.engine, &image::ListFilter::default())?;
    let in_image = |record: &layer::CacheRecord| {
        record.layer.as_ref().is_some_and(|layer| {
            images
                .iter()
                .any(|one| one.image.layers.contains(&layer.digest))
        })
    };
    let (keys, freed) = layer::cache_prune_if(&shared.engine, |record, used| {
        let used = jiff::Timestamp::try_from(used).ok();
        let is_old = until.is_none_or(|until| used.is_none_or(|used| used < until));
        is_old && (all || !in_image(record))
    })?;
    let keys: Vec<&str> = keys.iter().map(ketch_spec::Digest::hex).collect();
    Ok(Reply::json(json!({
        "CachesDeleted": keys,
        "SpaceReclaimed": freed.bytes,
    })))
}

/// `GET /system/df`.
pub fn usage(shared: &Shared, call: &Call) -> Result<Reply> {
    let engine = &shared.engine;
    let kinds: Vec<&str> = call.query.all("type").collect();
    let known = ["container", "image", "volume", "build-cache"];
    if let Some(kind) = kinds.iter().find(|kind| !known.contains(kind)) {
        let what = format!("unknown object type: {kind}");
        return Err(Error::new(ErrorKind::Invalid, what));
    }
    let wants = |kind: &str| kinds.is_empty() || kinds.contains(&kind);
    let mut found = json!({});
    if wants("image") {
        let all = image::list(engine, &image::ListFilter::default())?;
        let all = all.iter().map(|one| crate::image::summary(one, true));
        found["Images"] = all.collect();
        found["LayersSize"] = json!(image::disk_usage(engine)?.image_bytes);
    }
    if wants("container") {
        found["Containers"] = crate::container::list::all_with_sizes(engine)?;
    }
    if wants("volume") {
        found["Volumes"] = volumes(engine)?;
    }
    if wants("build-cache") {
        found["BuildCache"] = cache(engine)?;
    }
    Ok(Reply::json(found))
}

fn volumes(engine: &Engine) -> Result<Value> {
    use ketch_engine::volume;
    let all = volume::list(engine)?;
    let one = |found: &volume::Volume| {
        let mut value = found.to_docker_json();
        value["UsageData"] = json!({
            "RefCount": found.users.len(),
            "Size": volume::size_bytes(found),
        });
        value
    };
    Ok(all.iter().map(one).collect())
}

fn cache(engine: &Engine) -> Result<Value> {
    let all = layer::cache_list(engine)?;
    let one = |(key, record, used): (ketch_spec::Digest, layer::CacheRecord, _)| {
        let used = jiff::Timestamp::try_from(used).ok();
        json!({
            "ID": key.hex(),
            "Type": "regular",
            "InUse": false,
            "Size": record.layer.map_or(0, |layer| layer.size),
            "CreatedAt": record.created.to_string(),
            "LastUsedAt": used.map(|time| time.to_string()),
        })
    };
    Ok(all.into_iter().map(one).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_commits_are_put_together() {
        let name = reference(Some("team/app"), Some("1")).unwrap().unwrap();
        assert_eq!(name.familiar(), "team/app:1");
        assert_eq!(reference(None, Some("1")).unwrap(), None);
        assert!(reference(Some("UPPER"), None).is_err());
    }
}
