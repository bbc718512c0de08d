//! Which files make a project.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::LoadOptions;
use crate::error::LoadError;

const NAMES: &[&str] = &[
    "compose.yaml",
    "compose.yml",
    "docker-compose.yml",
    "docker-compose.yaml",
];

/// `-f`, then `COMPOSE_FILE`, then the usual names in the working directory and its parents, with an override beside it.
pub(super) fn find(
    options: &LoadOptions,
    variables: &BTreeMap<String, String>,
) -> Result<Vec<PathBuf>, LoadError> {
    if !options.files.is_empty() {
        return Ok(options.files.clone());
    }
    if let Some(listed) = variables
        .get("COMPOSE_FILE")
        .filter(|listed| !listed.is_empty())
    {
        let separator = variables
            .get("COMPOSE_PATH_SEPARATOR")
            .map_or(":", String::as_str);
        return Ok(listed
            .split(separator)
            .filter(|name| !name.is_empty())
            .map(PathBuf::from)
            .collect());
    }
    let start = match &options.project_directory {
        Some(directory) => options.working_directory.join(directory),
        None => options.working_directory.clone(),
    };
    for directory in start.ancestors() {
        let Some(name) = NAMES.iter().find(|name| directory.join(name).is_file()) else {
            continue;
        };
        let mut found = vec![directory.join(name)];
        let (stem, _) = name.rsplit_once('.').unwrap_or((name, ""));
        let overrides =
            ["yml", "yaml"].map(|extension| directory.join(format!("{stem}.override.{extension}")));
        found.extend(overrides.into_iter().find(|path| path.is_file()));
        return Ok(found);
    }
    Err(LoadError::NoFile { directory: start })
}

/// What relative paths are relative to: `--project-directory`, else the first file's directory.
pub(super) fn directory(options: &LoadOptions, files: &[PathBuf]) -> PathBuf {
    let chosen = match (&options.project_directory, files.first()) {
        (Some(directory), _) => directory.clone(),
        (None, Some(file)) if file != Path::new("-") => {
            file.parent().map(Path::to_owned).unwrap_or_default()
        }
        _ => PathBuf::new(),
    };
    let mut absolute = PathBuf::from("/");
    for part in options.working_directory.join(chosen).components() {
        match part {
            std::path::Component::ParentDir => {
                absolute.pop();
            }
            std::path::Component::Normal(name) => absolute.push(name),
            _ => {}
        }
    }
    absolute
}
