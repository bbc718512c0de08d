//! One file's tree: read, interpolated, with what it extends and includes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::rebase::{rebase, rebase_file};
use crate::dotenv;
use crate::error::LoadError;
use crate::interpolate;
use crate::merge;
use crate::node::{Node, Value};
use crate::reader::Reader;

/// How deep files may include and services extend each other.
const MAX_DEPTH: usize = 32;

/// Reads files, and collects what is worth a warning.
pub(super) struct Loader<'a> {
    variables: &'a BTreeMap<String, String>,
    standard_input: Option<&'a str>,
    warnings: Vec<String>,
    /// Files and services being read, outermost first: a repetition is a cycle.
    chain: Vec<String>,
}

impl<'a> Loader<'a> {
    pub fn new(variables: &'a BTreeMap<String, String>, standard_input: Option<&'a str>) -> Self {
        Self {
            variables,
            standard_input,
            warnings: Vec::new(),
            chain: Vec::new(),
        }
    }

    pub fn into_warnings(self) -> Vec<String> {
        self.warnings
    }

    /// The tree of a file: its own, over those that it includes, with `extends` resolved.
    pub fn file(&mut self, path: &Path, directory: &Path) -> Result<Node, LoadError> {
        let mut tree = self.read(path, directory)?;
        if tree.get("version").is_some() {
            self.warnings.push(format!(
                "{}: the attribute `version` is obsolete, it will be ignored",
                path.display()
            ));
        }
        self.extend_services(&mut tree, path, directory)?;
        self.include(tree, directory)
    }

    fn read(&mut self, path: &Path, directory: &Path) -> Result<Node, LoadError> {
        let shown = path.to_string_lossy().into_owned();
        let text = match self.standard_input {
            Some(text) if path == Path::new("-") => text.to_owned(),
            _ => {
                // paths given on the command line are relative to the working directory, which is where we are
                let real = if path.exists() {
                    path.to_owned()
                } else {
                    directory.join(path)
                };
                crate::text_file::read(&real).map_err(|source| LoadError::Read {
                    path: path.to_owned(),
                    source,
                })?
            }
        };
        let mut tree = Node::parse(&shown, &text)?;
        if tree.value == Value::Null {
            return Err(LoadError::at(&tree.at, "empty compose file"));
        }
        if !matches!(tree.value, Value::Map(_)) {
            return Err(LoadError::at(
                &tree.at,
                format!("top-level object must be a mapping, not {}", tree.kind()),
            ));
        }
        let mut unset = BTreeSet::new();
        interpolate::tree(&mut tree, self.variables, &mut unset)?;
        let warn =
            |name| format!("The {name:?} variable is not set. Defaulting to a blank string.");
        self.warnings.extend(unset.into_iter().map(warn));
        Ok(tree)
    }

    fn enter(&mut self, what: String, reader: &Reader<'_>) -> Result<(), LoadError> {
        if self.chain.contains(&what) || self.chain.len() >= MAX_DEPTH {
            return Err(reader.error(format!("is a cycle: {} -> {what}", self.chain.join(" -> "))));
        }
        self.chain.push(what);
        Ok(())
    }

    fn extend_services(
        &mut self,
        tree: &mut Node,
        path: &Path,
        directory: &Path,
    ) -> Result<(), LoadError> {
        let names: Vec<String> = match Reader::root(tree).get("services") {
            Some(services) => services
                .entries()?
                .into_iter()
                .map(|(name, _)| name.to_owned())
                .collect(),
            None => return Ok(()),
        };
        for name in names {
            let extended = self.extended(tree, &name, path, directory)?;
            if let (Some(extended), Value::Map(entries)) = (extended, &mut tree.value) {
                replace(entries, &name, extended);
            }
        }
        Ok(())
    }

    /// The service with its base below it, where it extends one.
    fn extended(
        &mut self,
        tree: &Node,
        name: &str,
        path: &Path,
        directory: &Path,
    ) -> Result<Option<Node>, LoadError> {
        let Some(service) = Reader::root(tree)
            .get("services")
            .and_then(|services| services.get(name))
        else {
            return Ok(None);
        };
        let Some(extends) = service.get("extends") else {
            return Ok(None);
        };
        let (base_name, file) = match extends.is_map() {
            true => {
                extends.check_keys(&["service", "file"], &[])?;
                let base = extends
                    .get("service")
                    .ok_or_else(|| extends.error("must have a service"))?;
                (
                    base.text()?,
                    extends.get("file").map(|file| file.text()).transpose()?,
                )
            }
            false => (extends.text()?, None),
        };
        self.enter(format!("{}:{name}", path.display()), &extends)?;
        let base = match file {
            Some(file) => {
                let other = directory.join(&file);
                let other_directory = other.parent().map(Path::to_owned).unwrap_or_default();
                let mut other_tree = self.read(&other, directory)?;
                if let Some(extended) =
                    self.extended(&other_tree, &base_name, &other, &other_directory)?
                    && let Value::Map(entries) = &mut other_tree.value
                {
                    replace(entries, &base_name, extended);
                }
                rebase(
                    take(&other_tree, &base_name, &extends)?,
                    &other_directory,
                    self.variables,
                )
            }
            None => match self.extended(tree, &base_name, path, directory)? {
                Some(extended) => extended,
                None => take(tree, &base_name, &extends)?,
            },
        };
        self.chain.pop();
        let mut own = service.node().clone();
        if let Value::Map(entries) = &mut own.value {
            entries.retain(|(key, _)| key != "extends");
        }
        Ok(Some(merge_service(base, own)))
    }

    fn include(&mut self, mut tree: Node, directory: &Path) -> Result<Node, LoadError> {
        let root = Reader::root(&tree);
        let Some(includes) = root.get("include") else {
            return Ok(tree);
        };
        let mut base: Option<Node> = None;
        for item in includes.items()? {
            let included = self.included(&item, directory)?;
            base = Some(match base {
                Some(earlier) => {
                    conflicts(&earlier, &included)?;
                    merge::merge(earlier, included)
                }
                None => included,
            });
        }
        if let Value::Map(entries) = &mut tree.value {
            entries.retain(|(key, _)| key != "include");
        }
        let Some(base) = base else { return Ok(tree) };
        conflicts(&base, &tree)?;
        Ok(merge::merge(base, tree))
    }

    fn included(&mut self, item: &Reader<'_>, directory: &Path) -> Result<Node, LoadError> {
        let (paths, project_directory, env_files) = match item.is_map() {
            true => {
                item.check_keys(&["path", "project_directory", "env_file"], &[])?;
                let path = item
                    .get("path")
                    .ok_or_else(|| item.error("must have a path"))?;
                let env_files = item
                    .get("env_file")
                    .map_or(Ok(Vec::new()), |files| files.texts())?;
                let own = item
                    .get("project_directory")
                    .map(|own| own.text())
                    .transpose()?;
                (path.texts()?, own, env_files)
            }
            false => (vec![item.text()?], None, Vec::new()),
        };
        let paths: Vec<PathBuf> = paths.iter().map(|path| directory.join(path)).collect();
        let first = paths
            .first()
            .ok_or_else(|| item.error("must have a path"))?;
        let own = match project_directory {
            Some(own) => directory.join(own),
            None => first.parent().map(Path::to_owned).unwrap_or_default(),
        };
        self.enter(first.display().to_string(), item)?;
        let variables = self.included_variables(&own, &env_files, directory)?;
        let mut inner = Loader {
            variables: &variables,
            standard_input: None,
            warnings: Vec::new(),
            chain: self.chain.clone(),
        };
        let mut merged: Option<Node> = None;
        for path in &paths {
            let tree = inner.file(path, &own)?;
            merged = Some(match merged {
                Some(earlier) => merge::merge(earlier, tree),
                None => tree,
            });
        }
        self.warnings.append(&mut inner.warnings);
        self.chain.pop();
        let mut tree = merged.unwrap_or_else(|| Node::empty(item.position().clone()));
        if let Value::Map(entries) = &mut tree.value {
            entries.retain(|(key, _)| key != "name");
            for (section, list) in entries.iter_mut() {
                let Value::Map(list) = &mut list.value else {
                    continue;
                };
                for (_, item) in list.iter_mut() {
                    match section.as_str() {
                        "services" => *item = rebase(item.clone(), &own, &variables),
                        "secrets" | "configs" => rebase_file(item, &own, &variables),
                        _ => {}
                    }
                }
            }
        }
        Ok(tree)
    }

    fn included_variables(
        &self,
        own: &Path,
        env_files: &[String],
        directory: &Path,
    ) -> Result<BTreeMap<String, String>, LoadError> {
        let mut variables = BTreeMap::new();
        let listed: Vec<PathBuf> = match env_files {
            [] => vec![own.join(".env")],
            files => files.iter().map(|file| directory.join(file)).collect(),
        };
        for path in listed {
            match crate::text_file::read(path.as_ref()) {
                Ok(text) => variables.extend(dotenv::parse(
                    &path.to_string_lossy(),
                    &text,
                    self.variables,
                )?),
                Err(error)
                    if env_files.is_empty() && error.kind() == std::io::ErrorKind::NotFound => {}
                Err(source) => return Err(LoadError::Read { path, source }),
            }
        }
        variables.extend(self.variables.clone());
        Ok(variables)
    }
}

/// What two files that include each other both have must be the same.
fn conflicts(one: &Node, other: &Node) -> Result<(), LoadError> {
    for section in ["services", "networks", "volumes", "secrets", "configs"] {
        let (Some(one), Some(other)) = (one.get(section), other.get(section)) else {
            continue;
        };
        for (key, node) in Reader::root(other).entries()? {
            let Some(same) = one.get(key) else { continue };
            if crate::model::json(same) != crate::model::json(node.node()) {
                let message = format!("{section}.{key} conflicts with imported resource");
                return Err(LoadError::at(node.position(), message));
            }
        }
    }
    Ok(())
}

/// Merges two services by the rules of whole documents.
fn merge_service(base: Node, own: Node) -> Node {
    let wrap = |service: Node| {
        let at = service.at.clone();
        let inner = Node {
            value: Value::Map(vec![("s".into(), service)]),
            at: at.clone(),
            tag: None,
        };
        Node {
            value: Value::Map(vec![("services".into(), inner)]),
            at,
            tag: None,
        }
    };
    let merged = merge::merge(wrap(base), wrap(own));
    let service = merged
        .get("services")
        .and_then(|services| services.get("s"))
        .cloned();
    service.unwrap_or(merged)
}

fn take(tree: &Node, name: &str, extends: &Reader<'_>) -> Result<Node, LoadError> {
    let found = tree
        .get("services")
        .and_then(|services| services.get(name))
        .cloned();
    found.ok_or_else(|| extends.error(format!("names a service {name:?} that does not exist")))
}

fn replace(entries: &mut [(String, Node)], name: &str, service: Node) {
    for (_, services) in entries.iter_mut().filter(|(key, _)| key == "services") {
        if let Value::Map(list) = &mut services.value {
            for (_, old) in list.iter_mut().filter(|(key, _)| key == name) {
                *old = service.clone();
            }
        }
    }
}
