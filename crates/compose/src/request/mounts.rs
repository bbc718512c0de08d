//! Volumes, tmpfs, secrets and configs as mounts.

use std::collections::BTreeMap;

use ketch_spec::mount::{Mount, MountSource, parse_tmpfs};

use super::Result;
use super::files::{KINDS, target};
use crate::model::{FileSource, Project, strings};
use crate::reader::Reader;

/// All mounts of a service.
pub(super) fn mounts(project: &Project, reader: &Reader<'_>) -> Result<Vec<Mount>> {
    let mut mounts = Vec::new();
    for volume in reader
        .get("volumes")
        .map_or(Ok(Vec::new()), |volumes| volumes.items())?
    {
        mounts.push(mount(project, &volume)?);
    }
    if let Some(tmpfs) = reader.get("tmpfs") {
        for text in tmpfs.texts()? {
            mounts.push(parse_tmpfs(&text).map_err(|error| tmpfs.error(error.to_string()))?);
        }
    }
    for (kind, directory) in KINDS {
        for item in reader
            .get(kind)
            .map_or(Ok(Vec::new()), |list| list.items())?
        {
            mounts.extend(file(project, kind, directory, &item)?);
        }
    }
    Ok(mounts)
}

fn mount(project: &Project, volume: &Reader<'_>) -> Result<Mount> {
    let text = |key: &str| volume.get(key).map(|value| value.text()).transpose();
    let detail = |part: &str, key: &str| volume.get(part).and_then(|details| details.get(key));
    let flag = |part: &str, key: &str| detail(part, key).map_or(Ok(false), |value| value.boolean());
    let kind = text("type")?.unwrap_or_default();
    let mut non_recursive = false;
    let source = match kind.as_str() {
        "bind" => {
            if let Some(recursive) = detail("bind", "recursive") {
                non_recursive = match recursive.text()?.as_str() {
                    "enabled" => false,
                    "disabled" => true,
                    other => return Err(recursive.error(format!("{other:?} is not supported"))),
                };
            }
            let create =
                detail("bind", "create_host_path").map_or(Ok(true), |value| value.boolean())?;
            MountSource::Bind {
                path: text("source")?.unwrap_or_default(),
                create,
            }
        }
        "tmpfs" => MountSource::Tmpfs {
            size_bytes: detail("tmpfs", "size")
                .map(|size| size.bytes())
                .transpose()?,
            mode: detail("tmpfs", "mode")
                .map(|mode| octal(&mode))
                .transpose()?,
            options: Vec::new(),
        },
        _ => {
            let key = text("source")?;
            let name = key.map(|key| {
                project
                    .volumes
                    .get(&key)
                    .map_or(key, |volume| volume.name.clone())
            });
            MountSource::Volume {
                anonymous: name.is_none(),
                name,
                no_copy: flag("volume", "nocopy")?,
                subpath: detail("volume", "subpath")
                    .map(|subpath| subpath.text())
                    .transpose()?,
                labels: strings(detail("volume", "labels"))?,
            }
        }
    };
    Ok(Mount {
        source,
        target: text("target")?.unwrap_or_default(),
        read_only: volume
            .get("read_only")
            .map_or(Ok(false), |value| value.boolean())?,
        propagation: detail("bind", "propagation")
            .map(|value| value.text())
            .transpose()?,
        non_recursive,
    })
}

pub(super) fn octal(mode: &Reader<'_>) -> Result<u32> {
    let text = mode.text()?;
    // a plain number in YAML is decimal: 1770 as written is what people mean by it
    u32::from_str_radix(text.trim_start_matches("0o"), 8)
        .map_err(|_| mode.error(format!("must be an octal mode, not {text:?}")))
}

/// A secret or config that is a file of the host; others are copied in.
fn file(
    project: &Project,
    kind: &str,
    directory: &str,
    item: &Reader<'_>,
) -> Result<Option<Mount>> {
    let source = item.get("source").map(|source| source.text()).transpose()?;
    let key = format!("{kind}.{}", source.unwrap_or_default());
    let Some(FileSource::Host(path)) = project.files_by_key.get(&key) else {
        return Ok(None);
    };
    Ok(Some(Mount {
        source: MountSource::Bind {
            path: path.clone(),
            create: false,
        },
        target: target(item, directory)?,
        read_only: true,
        propagation: None,
        non_recursive: false,
    }))
}

/// Anonymous volumes that a container's successor takes over: target to volume name.
pub(crate) fn carry_over(mounts: &mut Vec<Mount>, anonymous: &BTreeMap<String, String>) {
    for (target, name) in anonymous {
        let source = MountSource::Volume {
            name: Some(name.clone()),
            anonymous: true,
            no_copy: false,
            subpath: None,
            labels: BTreeMap::new(),
        };
        match mounts.iter_mut().find(|mount| mount.target == *target) {
            Some(mount) if matches!(mount.source, MountSource::Volume { name: None, .. }) => {
                mount.source = source
            }
            Some(_) => {}
            None => mounts.push(Mount {
                source,
                target: target.clone(),
                read_only: false,
                propagation: None,
                non_recursive: false,
            }),
        }
    }
}
