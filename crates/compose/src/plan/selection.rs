//! Which services a command is about, and which containers have none.

use super::{Observed, ObservedContainer, PlanError};
use crate::model::Project;

/// The services that a command is about, dependencies first.
///
/// # Errors
/// A name that is no service.
pub fn selection(
    project: &Project,
    named: &[String],
    no_deps: bool,
) -> Result<Vec<String>, PlanError> {
    for name in named {
        if !project.services.contains_key(name) {
            return Err(PlanError::NoSuchService(name.clone()));
        }
    }
    let roots: Vec<&String> = if named.is_empty() {
        project.services.keys().collect()
    } else {
        named.iter().collect()
    };
    let mut order = Vec::new();
    for root in roots {
        visit(project, root, no_deps && !named.is_empty(), &mut order);
    }
    Ok(order)
}

/// Depth first; loading has made sure that there is no cycle.
fn visit(project: &Project, name: &str, alone: bool, order: &mut Vec<String>) {
    if order.iter().any(|seen| seen == name) {
        return;
    }
    let Some(service) = project.services.get(name) else {
        return;
    };
    if !alone {
        for dependency in service.depends_on.keys() {
            visit(project, dependency, alone, order);
        }
    }
    order.push(name.to_owned());
}

/// Containers of the project whose service the files no longer have.
pub(super) fn orphans<'a>(project: &Project, observed: &'a Observed) -> Vec<&'a ObservedContainer> {
    let known = |name: &str| project.services.contains_key(name) || project.disabled.contains(name);
    observed
        .containers
        .iter()
        .filter(|container| !known(&container.service) && !container.one_off)
        .collect()
}

impl Observed {
    /// Names of containers whose service is gone.
    pub fn orphan_names(&self, project: &Project) -> Vec<String> {
        orphans(project, self)
            .into_iter()
            .map(|container| container.name.clone())
            .collect()
    }
}
