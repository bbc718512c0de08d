//! Secrets and configs whose content is in the compose file or a variable.

use super::Result;
use crate::model::{FileSource, Project, Service};
use crate::reader::Reader;

/// The highest user or group id that an archive has room for.
const MAX_ID: u32 = 0o7_777_777;

/// A file to copy into a container.
pub(crate) struct FileToCopy {
    /// Absolute path in the container.
    pub target: String,
    /// What it holds.
    pub content: String,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Permissions.
    pub mode: u32,
}

/// Kinds of files, with the directory they are in unless they say otherwise.
pub(super) const KINDS: [(&str, &str); 2] = [("secrets", "/run/secrets/"), ("configs", "/")];

/// Where a secret or config of a service lands.
pub(super) fn target(item: &Reader<'_>, directory: &str) -> Result<String> {
    let text = |key: &str| item.get(key).map(|value| value.text()).transpose();
    Ok(match text("target")? {
        Some(target) if target.starts_with('/') => target,
        Some(target) => format!("{directory}{target}"),
        None => format!("{directory}{}", text("source")?.unwrap_or_default()),
    })
}

/// What is to be copied into a container of a service before it starts.
pub(crate) fn files_to_copy(project: &Project, service: &Service) -> Result<Vec<FileToCopy>> {
    let mut files = Vec::new();
    for (kind, directory) in KINDS {
        let Some(listed) = service.reader().get(kind) else {
            continue;
        };
        for item in listed.items()? {
            let Some(content) = content(project, kind, &item) else {
                continue;
            };
            let id = |key: &str| -> Result<u32> {
                let Some(value) = item.get(key) else {
                    return Ok(0);
                };
                match value.parsed("a numeric id")? {
                    id if id <= MAX_ID => Ok(id),
                    _ => Err(value.error(format!("must be at most {MAX_ID}"))),
                }
            };
            files.push(FileToCopy {
                target: target(&item, directory)?,
                content: content.to_owned(),
                uid: id("uid")?,
                gid: id("gid")?,
                mode: match item.get("mode") {
                    Some(mode) => super::mounts::octal(&mode)?,
                    None => 0o444,
                },
            });
        }
    }
    Ok(files)
}

/// Those contents, for the hash: a change of one makes the container another one.
pub(super) fn contents(project: &Project, service: &Service) -> Vec<String> {
    let reader = service.reader();
    let items = |kind| reader.get(kind).and_then(|listed| listed.items().ok());
    KINDS
        .into_iter()
        .flat_map(|(kind, _)| {
            items(kind)
                .into_iter()
                .flatten()
                .map(move |item| (kind, item))
        })
        .filter_map(|(kind, item)| content(project, kind, &item).map(ToOwned::to_owned))
        .collect()
}

fn content<'a>(project: &'a Project, kind: &str, item: &Reader<'_>) -> Option<&'a str> {
    let source = item.get("source")?.text().ok()?;
    match project.files_by_key.get(&format!("{kind}.{source}"))? {
        FileSource::Content(content) => Some(content),
        FileSource::Host(_) => None,
    }
}
