//! Whether a project's parts fit together.

use std::collections::BTreeMap;

use crate::error::LoadError;
use crate::model::{Project, Service};

/// Checks references between services, networks, volumes, secrets and configs.
pub(super) fn project(project: &Project) -> Result<(), LoadError> {
    for (name, service) in &project.services {
        references(project, name, service)?;
    }
    let mut marks = BTreeMap::new();
    for name in project.services.keys() {
        visit(project, name, &mut Vec::new(), &mut marks)?;
    }
    Ok(())
}

fn references(project: &Project, name: &str, service: &Service) -> Result<(), LoadError> {
    let at = |key: &str| {
        let reader = service.reader();
        reader.get(key).unwrap_or(reader).position().clone()
    };
    for dependency in service.depends_on.keys() {
        if !project.services.contains_key(dependency) && service.depends_on[dependency].required {
            let why = if project.disabled.contains(dependency) {
                "is disabled by its profiles"
            } else {
                "is undefined"
            };
            return Err(LoadError::at(
                &at("depends_on"),
                format!("service {name:?} depends on service {dependency:?} which {why}"),
            ));
        }
    }
    for network in service.networks.keys() {
        if !project.networks.contains_key(network) {
            return Err(LoadError::at(
                &at("networks"),
                format!("service {name:?} refers to undefined network {network}"),
            ));
        }
    }
    for volume in &service.volumes {
        if !project.volumes.contains_key(volume) {
            return Err(LoadError::at(
                &at("volumes"),
                format!("service {name:?} refers to undefined volume {volume}"),
            ));
        }
    }
    for kind in ["secrets", "configs"] {
        let Some(listed) = service.reader().get(kind) else {
            continue;
        };
        for item in listed.items()? {
            let source = item
                .get("source")
                .map(|source| source.text())
                .transpose()?
                .unwrap_or_default();
            if !project
                .files_by_key
                .contains_key(&format!("{kind}.{source}"))
            {
                return Err(item.error(format!(
                    "refers to undefined {} {source}",
                    kind.trim_end_matches('s')
                )));
            }
        }
    }
    Ok(())
}

/// Depth-first walk over dependencies; a service met again on the way is a cycle.
fn visit<'a>(
    project: &'a Project,
    name: &'a str,
    path: &mut Vec<&'a str>,
    done: &mut BTreeMap<&'a str, ()>,
) -> Result<(), LoadError> {
    if done.contains_key(name) {
        return Ok(());
    }
    if let Some(start) = path.iter().position(|seen| *seen == name) {
        let cycle = [&path[start..], &[name]].concat().join(" -> ");
        return Err(LoadError::project(format!(
            "dependency cycle detected: {cycle}"
        )));
    }
    path.push(name);
    if let Some(service) = project.services.get(name) {
        for dependency in service.depends_on.keys() {
            visit(project, dependency, path, done)?;
        }
    }
    path.pop();
    done.insert(name, ());
    Ok(())
}
