//! `environment` and `env_file` become one mapping.

use std::collections::BTreeMap;

use super::{Surroundings, absolute, owned_map, text};
use crate::dotenv;
use crate::error::LoadError;
use crate::node::Node;
use crate::reader::Reader;

/// `labels`, over those of `label_file`.
pub(super) fn labels(
    service: &Reader<'_>,
    around: &Surroundings<'_>,
) -> Result<Option<Node>, LoadError> {
    let mut merged: BTreeMap<String, String> = BTreeMap::new();
    let Some(at) = service.get("labels").or_else(|| service.get("label_file")) else {
        return Ok(None);
    };
    let files = service.get("label_file");
    for path in files
        .iter()
        .map(Reader::texts)
        .collect::<Result<Vec<_>, _>>()?
        .concat()
    {
        let path = absolute(&path, around);
        let content = crate::text_file::read(path.as_ref())
            .map_err(|error| at.error(format!("label file {path} cannot be read: {error}")))?;
        merged.extend(dotenv::parse(&path, &content, around.variables)?);
    }
    if let Some(labels) = service.get("labels") {
        for (name, value) in labels.pairs(&['='])? {
            merged.insert(name, value.unwrap_or_default());
        }
    }
    let at = at.position();
    let entries = merged
        .into_iter()
        .map(|(name, value)| (name, text(value, at)));
    Ok(Some(owned_map(entries.collect(), at)))
}

/// Files first, in order; then `environment`, whose bare names take the caller's value or are left out.
pub(super) fn environment(
    service: &Reader<'_>,
    around: &Surroundings<'_>,
) -> Result<Option<Node>, LoadError> {
    let mut merged: BTreeMap<String, String> = BTreeMap::new();
    if let Some(files) = service.get("env_file") {
        let listed = if files.is_list() {
            files.items()?
        } else {
            vec![files]
        };
        for file in listed {
            merged.extend(env_file(&file, around)?);
        }
    }
    if let Some(environment) = service.get("environment") {
        for (name, value) in environment.pairs(&['='])? {
            match value.or_else(|| around.variables.get(&name).cloned()) {
                Some(value) => merged.insert(name, value),
                None => merged.remove(&name),
            };
        }
    }
    if merged.is_empty() {
        return Ok(None);
    }
    let entries = merged
        .into_iter()
        .map(|(name, value)| (name, text(value, service.position())));
    Ok(Some(owned_map(entries.collect(), service.position())))
}

fn env_file(
    file: &Reader<'_>,
    around: &Surroundings<'_>,
) -> Result<Vec<(String, String)>, LoadError> {
    let (path, required, raw) = match file.get("path") {
        Some(path) => {
            file.check_keys(&["path", "required", "format"], &[])?;
            let required = file
                .get("required")
                .map_or(Ok(true), |required| required.boolean())?;
            let format = file.get("format").map(|format| format.text()).transpose()?;
            if format.as_deref().is_some_and(|format| format != "raw") {
                return Err(file.error("format must be raw"));
            }
            (path.text()?, required, format.is_some())
        }
        None => (file.text()?, true, false),
    };
    let path = absolute(&path, around);
    match crate::text_file::read(path.as_ref()) {
        Ok(content) if raw => Ok(dotenv::parse_raw(&content)),
        Ok(content) => dotenv::parse(&path, &content, around.variables),
        Err(error) if !required && error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(file.error(format!("env file {path} cannot be read: {error}"))),
    }
}
