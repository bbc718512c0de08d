//! `inspect` of an image: the JSON of Docker's Engine API 1.51, `ImageInspect`.

use ketch_spec::{Platform, Reference};
use serde_json::{Map, Value, json};

use super::artifact::{or_artifact, referrers};
use super::resolve::{resolve_for, resolve_merged};
use super::{Image, ImageError};
use crate::{Engine, Result};

/// Docker's document about an image; of the given platform where several are here.
///
/// # Errors
/// As [`super::resolve_for`].
pub fn inspect(engine: &Engine, wanted: &str, platform: Option<&Platform>) -> Result<Value> {
    let image = match platform {
        Some(_) => resolve_for(engine, wanted, platform)?,
        None => or_artifact(engine, wanted, resolve_merged(engine, wanted))?,
    };
    document(engine, &image)
}

fn document(engine: &Engine, image: &Image) -> Result<Value> {
    let config = &image.config;
    let names = |references: &[Reference]| {
        references
            .iter()
            .map(Reference::familiar)
            .collect::<Vec<_>>()
    };
    let comment = config
        .history
        .last()
        .and_then(|step| step.comment.clone())
        .unwrap_or_default();
    let mut found = Map::new();
    let mut set = |key: &str, value: Value| {
        found.insert(key.to_owned(), value);
    };
    set("Id", json!(image.id));
    set("RepoTags", json!(names(&image.references)));
    set("RepoDigests", json!(names(&image.repo_digests)));
    set("Parent", json!(""));
    set("Comment", json!(comment));
    if let Some(created) = &config.created {
        set("Created", json!(created));
    }
    set("DockerVersion", json!(""));
    set("Author", json!(config.author.clone().unwrap_or_default()));
    set("Config", json!(config.config.clone().unwrap_or_default()));
    set("Architecture", json!(config.architecture));
    if let Some(variant) = &config.variant {
        set("Variant", json!(variant));
    }
    set("Os", json!(config.os));
    if let Some(version) = config.other.get("os.version") {
        set("OsVersion", version.clone());
    }
    set("Size", json!(image.size_bytes));
    set("GraphDriver", graph_driver(engine, image)?);
    set(
        "RootFS",
        json!({ "Type": "layers", "Layers": image.layers }),
    );
    let tagged = image.tagged.map_or_else(
        || "0001-01-01T00:00:00Z".to_owned(),
        |time| time.to_string(),
    );
    set("Metadata", json!({ "LastTagTime": tagged }));
    set("Descriptor", json!(image.target));
    // Not Docker's: what it is, where it is no image, and what is here about it.
    if let Some(kind) = &image.artifact {
        set("ArtifactType", json!(kind));
    }
    let about = referrers(engine, &[&image.manifest.digest, &image.target.digest])?;
    if !about.is_empty() {
        let about = about.iter().map(|one| {
            json!({
                "Id": one.id,
                "ArtifactType": one.artifact,
                "RepoTags": names(&one.references),
                "RepoDigests": names(&one.repo_digests),
            })
        });
        set("Referrers", about.collect());
    }
    Ok(Value::Object(found))
}

/// Where the layers are, as Docker's overlay2 driver tells it: the top one apart from those below, uppermost first.
fn graph_driver(engine: &Engine, image: &Image) -> Result<Value> {
    let mut directories = Vec::with_capacity(image.layers.len());
    let mut forms = Vec::with_capacity(image.layers.len());
    for diff_id in image.layers.iter().rev() {
        let directory = crate::layer::shown_dir(engine, diff_id).map_err(ImageError::from)?;
        directories.push(directory.display().to_string());
        let record = engine.store().layer(diff_id).map_err(ImageError::from)?;
        forms.push(record.form.name());
    }
    let mut data = Map::new();
    if !forms.is_empty() {
        // Not Docker's: how each layer is kept, in the order of the directories.
        data.insert("LayerForms".into(), json!(forms.join(":")));
    }
    if let Some((top, below)) = directories.split_first() {
        if !below.is_empty() {
            data.insert("LowerDir".into(), json!(below.join(":")));
        }
        data.insert("UpperDir".into(), json!(top));
    }
    Ok(json!({ "Name": "overlay", "Data": data }))
}
