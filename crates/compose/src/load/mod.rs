//! Files to a project: find, read, interpolate, extend, include, merge, normalise, check.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::dotenv;
use crate::error::{LoadError, Position};
use crate::model::{FileSource, Network, Project, Service, Volume, strings};
use crate::node::Node;
use crate::normalise::{self, Surroundings};
use crate::reader::Reader;

mod check;
mod document;
mod files;
mod rebase;

/// What the caller says about a project.
#[derive(Debug, Clone, Default)]
pub struct LoadOptions {
    /// `-f`, in order; empty: look for the usual names in the working directory and its parents.
    pub files: Vec<PathBuf>,
    /// Text of `-f -`.
    pub standard_input: Option<String>,
    /// `-p`.
    pub project_name: Option<String>,
    /// `--project-directory`.
    pub project_directory: Option<PathBuf>,
    /// `--env-file`; empty: `.env` in the project's directory, if it is there.
    pub env_files: Vec<PathBuf>,
    /// `--profile`; `*` turns all on.
    pub profiles: Vec<String>,
    /// Services that the command names: their profiles are on.
    pub named_services: Vec<String>,
    /// `--all-resources`: networks, volumes, secrets and configs that no service uses are kept.
    pub all_resources: bool,
    /// The caller's environment.
    pub environment: BTreeMap<String, String>,
    /// The caller's working directory, absolute.
    pub working_directory: PathBuf,
}

/// Loads a project.
///
/// # Errors
/// [`LoadError`]: no file, not YAML, not a compose file, or one that contradicts itself; with the place.
pub fn load(options: &LoadOptions) -> Result<Project, LoadError> {
    let start = files::directory(options, &[]);
    let mut variables = variables(options, &start)?;
    let paths = files::find(options, &variables)?;
    let directory = files::directory(options, &paths);
    if directory != start {
        variables = self::variables(options, &directory)?;
    }
    let mut loader = document::Loader::new(&variables, options.standard_input.as_deref());
    let mut merged: Option<Node> = None;
    for path in &paths {
        let tree = loader.file(path, &directory)?;
        merged = Some(match merged {
            Some(earlier) => crate::merge::merge(earlier, tree),
            None => tree,
        });
    }
    let mut tree = merged.unwrap_or_else(|| Node::empty(Position::of_file("compose.yaml")));
    crate::merge::finish(&mut tree);
    let name = project_name(options, &variables, &tree, &directory)?;
    let home = variables.get("HOME").map(String::as_str);
    let surroundings = Surroundings {
        project: &name,
        directory: &directory,
        home,
        variables: &variables,
    };
    let tree = normalise::document(&tree, &surroundings)?;
    let mut warnings = loader.into_warnings();
    warnings.sort();
    warnings.dedup();
    let absolute = |path: &PathBuf| match path.as_os_str() == "-" {
        true => path.clone(),
        false => options.working_directory.join(path),
    };
    let paths = paths.iter().map(absolute).collect();
    let mut project = read(name, directory, paths, tree, warnings, &variables)?;
    enable(&mut project, options, &variables)?;
    check::project(&project)?;
    Ok(project)
}

/// Variables for interpolation: the caller's win over the files'.
fn variables(
    options: &LoadOptions,
    directory: &Path,
) -> Result<BTreeMap<String, String>, LoadError> {
    let disabled = options
        .environment
        .get("COMPOSE_DISABLE_ENV_FILE")
        .is_some_and(|value| value == "1" || value == "true");
    let mut files: Vec<(PathBuf, bool)> = options
        .env_files
        .iter()
        .map(|path| (path.clone(), true))
        .collect();
    if files.is_empty() {
        let named = options
            .environment
            .get("COMPOSE_ENV_FILES")
            .map(String::as_str)
            .unwrap_or_default();
        files.extend(
            named
                .split(',')
                .filter(|name| !name.is_empty())
                .map(|name| (PathBuf::from(name), true)),
        );
    }
    if files.is_empty() && !disabled {
        files.push((directory.join(".env"), false));
    }
    let mut variables = BTreeMap::new();
    for (path, required) in files {
        let path = options.working_directory.join(path);
        match crate::text_file::read(path.as_ref()) {
            Ok(text) => {
                let mut outer = variables.clone();
                outer.extend(options.environment.clone());
                variables.extend(dotenv::parse(&path.to_string_lossy(), &text, &outer)?);
            }
            Err(error) if !required && error.kind() == std::io::ErrorKind::NotFound => {}
            Err(source) => return Err(LoadError::Read { path, source }),
        }
    }
    variables.extend(options.environment.clone());
    Ok(variables)
}

/// `-p`, then `COMPOSE_PROJECT_NAME`, then the files' `name`, then the directory's name.
fn project_name(
    options: &LoadOptions,
    variables: &BTreeMap<String, String>,
    tree: &Node,
    directory: &Path,
) -> Result<String, LoadError> {
    let given = options
        .project_name
        .clone()
        .or_else(|| variables.get("COMPOSE_PROJECT_NAME").cloned());
    let given = match given.filter(|name| !name.is_empty()) {
        Some(name) => Some(name),
        None => Reader::root(tree)
            .get("name")
            .map(|name| name.text())
            .transpose()?,
    };
    let valid_rest =
        |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_');
    let Some(name) = given else {
        let base = directory
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .to_lowercase();
        let name: String = base.chars().filter(|c| valid_rest(*c)).collect();
        let name = name.trim_start_matches(['-', '_']).to_owned();
        return if name.is_empty() {
            Err(LoadError::project(
                "project name must not be empty; give one with -p",
            ))
        } else {
            Ok(name)
        };
    };
    let starts_well = name.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    if starts_well && name.chars().all(valid_rest) {
        return Ok(name);
    }
    Err(LoadError::project(format!(
        "invalid project name {name:?}: must consist only of lowercase alphanumeric characters, hyphens, and underscores \
         as well as start with a letter or number"
    )))
}

fn read(
    name: String,
    directory: PathBuf,
    files: Vec<PathBuf>,
    tree: Node,
    warnings: Vec<String>,
    variables: &BTreeMap<String, String>,
) -> Result<Project, LoadError> {
    let root = Reader::root(&tree);
    let entries = |key: &str| root.get(key).map_or(Ok(Vec::new()), |list| list.entries());
    let mut services = BTreeMap::new();
    for (key, reader) in entries("services")? {
        services.insert(key.to_owned(), Service::read(&name, key, &reader)?);
    }
    let mut networks = BTreeMap::new();
    for (key, reader) in entries("networks")? {
        networks.insert(key.to_owned(), Network::read(&reader)?);
    }
    let mut volumes = BTreeMap::new();
    for (key, reader) in entries("volumes")? {
        volumes.insert(key.to_owned(), Volume::read(&reader)?);
    }
    let mut files_by_key = BTreeMap::new();
    for kind in ["secrets", "configs"] {
        for (key, reader) in entries(kind)? {
            let mut fields = strings(Some(reader))?;
            let content = match fields.remove("environment") {
                Some(name) => Some(variables.get(&name).cloned().unwrap_or_default()),
                None => fields.remove("content"),
            };
            let source = match content {
                Some(content) => FileSource::Content(content),
                None => FileSource::Host(fields.remove("file").unwrap_or_default()),
            };
            files_by_key.insert(format!("{kind}.{key}"), source);
        }
    }
    Ok(Project {
        name,
        directory,
        files,
        services,
        disabled: BTreeSet::new(),
        disabled_profiles: Vec::new(),
        networks,
        volumes,
        files_by_key,
        variables: variables.clone(),
        warnings,
        tree,
    })
}

/// Takes out the services whose profiles are off.
fn enable(
    project: &mut Project,
    options: &LoadOptions,
    variables: &BTreeMap<String, String>,
) -> Result<(), LoadError> {
    let mut on: BTreeSet<String> = options.profiles.iter().cloned().collect();
    let listed = variables
        .get("COMPOSE_PROFILES")
        .filter(|_| options.profiles.is_empty())
        .map(String::as_str)
        .unwrap_or_default();
    on.extend(
        listed
            .split(',')
            .map(str::trim)
            .filter(|profile| !profile.is_empty())
            .map(ToOwned::to_owned),
    );
    let mut off = BTreeSet::new();
    for (name, service) in &project.services {
        let profiles = Service::profiles(&service.reader())?;
        let enabled = profiles.is_empty()
            || on.contains("*")
            || profiles.iter().any(|profile| on.contains(profile))
            || options.named_services.contains(name);
        if !enabled {
            project.disabled_profiles.extend(profiles);
            off.insert(name.clone());
        }
    }
    project.services.retain(|name, _| !off.contains(name));
    for service in project.services.values_mut() {
        // what is off and not required is as if it were not named
        service
            .depends_on
            .retain(|name, dependency| dependency.required || !off.contains(name));
    }
    project.tree.retain("services", &|name| !off.contains(name));
    project.disabled = off;
    if !options.all_resources {
        keep_used(project)?;
    }
    Ok(())
}

/// Takes out networks, volumes, secrets and configs that no service uses.
fn keep_used(project: &mut Project) -> Result<(), LoadError> {
    let services = project.services.values();
    let networks: BTreeSet<String> = services
        .clone()
        .flat_map(|own| own.networks.keys().cloned())
        .collect();
    let volumes: BTreeSet<String> = services
        .clone()
        .flat_map(|own| own.volumes.clone())
        .collect();
    let mut files = BTreeSet::new();
    for service in services {
        let built = service
            .build
            .iter()
            .flat_map(|build| build.secrets.values());
        files.extend(built.map(|key| format!("secrets.{key}")));
        for kind in ["secrets", "configs"] {
            let listed = service.reader().get(kind);
            for item in listed.map_or(Ok(Vec::new()), |listed| listed.items())? {
                let source = item.get("source").map(|source| source.text()).transpose()?;
                files.insert(format!("{kind}.{}", source.unwrap_or_default()));
            }
        }
    }
    project.networks.retain(|key, _| networks.contains(key));
    project.volumes.retain(|key, _| volumes.contains(key));
    project.files_by_key.retain(|key, _| files.contains(key));
    let tree = &mut project.tree;
    tree.retain("networks", &|key| networks.contains(key));
    tree.retain("volumes", &|key| volumes.contains(key));
    for kind in ["secrets", "configs"] {
        tree.retain(kind, &|key| files.contains(&format!("{kind}.{key}")));
    }
    Ok(())
}

#[cfg(test)]
mod robust;
#[cfg(test)]
mod tests;
