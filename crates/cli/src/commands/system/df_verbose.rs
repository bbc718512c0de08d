//! `ketch system df -v`: every object with what it takes.

use jiff::Timestamp;
use ketch_engine::{Engine, container, image, layer, volume};
use ketch_spec::{duration, size};
use serde_json::{Map, Value};

use crate::commands::{container::list as containers, image::list as images};
use crate::failure::Failure;
use crate::format::{Listing, Row, inspect};
use crate::text;

const IMAGES: Listing<'static> = Listing {
    headers: images::HEADERS,
    table: r"{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}\t{{.SharedSize}}\t{{.UniqueSize}}\t{{.Containers}}",
    quiet: "",
    raw: "",
};
const CONTAINERS: Listing<'static> = Listing {
    headers: containers::HEADERS,
    table: r"{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.LocalVolumes}}\t{{.Size}}\t{{.RunningFor}}\t{{.Status}}\t{{.Names}}",
    quiet: "",
    raw: "",
};
const VOLUMES: Listing<'static> = Listing {
    headers: &[
        ("Name", "VOLUME NAME"),
        ("Driver", "DRIVER"),
        ("Scope", "SCOPE"),
        ("Mountpoint", "MOUNTPOINT"),
        ("Labels", "LABELS"),
        ("Links", "LINKS"),
        ("Size", "SIZE"),
    ],
    table: r"{{.Name}}\t{{.Links}}\t{{.Size}}",
    quiet: "",
    raw: "",
};
const CACHE: Listing<'static> = Listing {
    headers: &[
        ("ID", "CACHE ID"),
        ("CacheType", "CACHE TYPE"),
        ("Size", "SIZE"),
        ("CreatedSince", "CREATED"),
        ("LastUsedSince", "LAST USED"),
        ("Shared", "SHARED"),
    ],
    table: r"{{.ID}}\t{{.CacheType}}\t{{.Size}}\t{{.CreatedSince}}\t{{.LastUsedSince}}\t{{.Shared}}",
    quiet: "",
    raw: "",
};

/// All four tables; with a format, a template (or `json`) over one object that has the rows.
///
/// # Errors
/// Something cannot be read; the template.
pub fn render(engine: &Engine, format: &str, now: Timestamp) -> Result<String, Failure> {
    let images = image_rows(engine, now)?;
    let containers = container_rows(engine, now)?;
    let volumes = volume_rows(engine)?;
    let cache = cache_rows(engine, now)?;
    if matches!(format, "" | "table") {
        let cache_bytes = image::disk_usage(engine)?.cache_bytes;
        return Ok(format!(
            "Images space usage:\n\n{}\nContainers space usage:\n\n{}\nLocal Volumes space usage:\n\n{}\nBuild cache usage: {}\n\n{}",
            IMAGES.render(&images, "", false)?,
            CONTAINERS.render(&containers, "", false)?,
            VOLUMES.render(&volumes, "", false)?,
            size::human_long(cache_bytes),
            CACHE.render(&cache, "", false)?,
        ));
    }
    let mut object = Map::new();
    for (key, listing, rows) in [
        ("BuildCache", &CACHE, &cache),
        ("Containers", &CONTAINERS, &containers),
        ("Images", &IMAGES, &images),
        ("Volumes", &VOLUMES, &volumes),
    ] {
        let lines = listing.render(rows, "json", false)?;
        let values = lines
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok());
        object.insert(key.into(), Value::Array(values.collect()));
    }
    let object = Value::Object(object);
    if format == "json" {
        return Ok(format!("{object}\n"));
    }
    Ok(format!("{}\n", inspect::execute(format, &object)?))
}

/// One row an image, under its first name.
fn image_rows(engine: &Engine, now: Timestamp) -> Result<Vec<Row>, Failure> {
    let all = image::list(engine, &image::ListFilter::default())?;
    let first = |summary| images::rows(summary, now, true, false).into_iter().next();
    Ok(all.iter().filter_map(first).collect())
}

fn container_rows(engine: &Engine, now: Timestamp) -> Result<Vec<Row>, Failure> {
    let mut all = container::list(engine)?;
    all.sort_by_key(|container| std::cmp::Reverse(container.config.created));
    let mut rows = Vec::with_capacity(all.len());
    for found in &all {
        let bytes = container::size(engine, &found.config.id)?.writable_bytes;
        rows.push(containers::row(found, now, true, Some(&size::human(bytes))));
    }
    Ok(rows)
}

fn volume_rows(engine: &Engine) -> Result<Vec<Row>, Failure> {
    let mut all = volume::list(engine)?;
    all.sort_by(|a, b| a.record.name.cmp(&b.record.name));
    let row = |found: &volume::Volume| {
        Row::new()
            .with("Name", found.record.name.as_str())
            .with("Driver", volume::DRIVER)
            .with("Scope", "local")
            .with("Mountpoint", found.mountpoint.display().to_string())
            .with_labels(&found.record.labels)
            .with("Links", found.users.len().to_string())
            .with("Size", size::human_long(volume::size_bytes(found)))
    };
    Ok(all.iter().map(row).collect())
}

fn cache_rows(engine: &Engine, now: Timestamp) -> Result<Vec<Row>, Failure> {
    let images = image::list(engine, &image::ListFilter::default())?;
    let since = |seconds: i64| {
        let age = now.as_second().saturating_sub(seconds).max(0);
        format!("{} ago", duration::age(age))
    };
    let mut rows = Vec::new();
    for (key, record, used) in layer::cache_list(engine)? {
        let layer = record.layer.as_ref();
        let is_shared = layer.is_some_and(|layer| {
            images
                .iter()
                .any(|one| one.image.layers.contains(&layer.digest))
        });
        let used = used
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap_or_default();
        let used = i64::try_from(used.as_secs()).unwrap_or(0);
        rows.push(
            Row::new()
                .with("ID", text::short_id(key.as_str()))
                .with("CacheType", "regular")
                .with("Size", size::human(layer.map_or(0, |layer| layer.size)))
                .with("CreatedSince", since(record.created.as_second()))
                .with("LastUsedSince", since(used))
                .with("Shared", is_shared.to_string()),
        );
    }
    Ok(rows)
}
