//! `down`: dependents first, then what they depended on, then networks, and volumes if asked.

use std::collections::{BTreeMap, BTreeSet};

use super::{Action, Observed, ObservedContainer, Plan, Target};
use crate::model::Project;

/// What `down` was told.
#[derive(Debug, Clone, Default)]
pub struct DownOptions {
    /// Only these services' containers; empty means the whole project.
    pub services: Vec<String>,
    /// Remove volumes too.
    pub volumes: bool,
    /// Remove containers of services that are gone.
    pub remove_orphans: bool,
    /// Seconds until SIGKILL.
    pub timeout_s: Option<i64>,
    /// Remove images.
    pub images: RemoveImages,
}

/// Which images `down` removes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum RemoveImages {
    /// None.
    #[default]
    None,
    /// Those without a name of their own in the file.
    Local,
    /// All that services use.
    All,
}

/// Plans `down`.
pub fn plan_down(project: &Project, observed: &Observed, options: &DownOptions) -> Plan {
    let mut plan = Plan::default();
    let wanted = |container: &&ObservedContainer| {
        let known = !project.has_files()
            || project.services.contains_key(&container.service)
            || project.disabled.contains(&container.service);
        match options.services.as_slice() {
            [] => known || options.remove_orphans,
            services => services.contains(&container.service),
        }
    };
    let containers: Vec<&ObservedContainer> = observed.containers.iter().filter(wanted).collect();
    let mut removed: BTreeMap<String, BTreeSet<usize>> = BTreeMap::new();
    for service in dependents_first(&containers) {
        // whoever depends on this service has gone before
        let after: BTreeSet<usize> = containers
            .iter()
            .filter(|other| other.depends_on.contains(&service))
            .flat_map(|other| removed.get(&other.service).cloned().unwrap_or_default())
            .collect();
        for container in containers
            .iter()
            .filter(|container| container.service == service)
        {
            let target = Target::Existing {
                id: container.id.clone(),
                name: container.name.clone(),
            };
            let mut last = after.clone();
            if container.running {
                let stop = Action::Stop {
                    target: target.clone(),
                    timeout_s: options.timeout_s,
                };
                last = [plan.push(stop, last, "the project goes down")].into();
            }
            let remove = Action::Remove {
                target,
                volumes: options.volumes,
            };
            let place = plan.push(remove, last, "the project goes down");
            removed.entry(service.clone()).or_default().insert(place);
        }
    }
    if !options.services.is_empty() {
        return plan;
    }
    let all: BTreeSet<usize> = removed.into_values().flatten().collect();
    for name in &observed.own_networks {
        let remove = Action::RemoveNetwork(name.clone());
        plan.push(remove, all.iter().copied(), "the project goes down");
    }
    if options.volumes {
        for name in own_volumes(project, observed) {
            let remove = Action::RemoveVolume(name);
            plan.push(remove, all.iter().copied(), "volumes were to go too");
        }
    }
    images(project, observed, options.images, &all, &mut plan);
    plan
}

/// Volumes that carry the project's label, or that its files name as its own, as far as they are there.
fn own_volumes(project: &Project, observed: &Observed) -> BTreeSet<String> {
    let declared = project.volumes.values().filter(|volume| !volume.external);
    let declared = declared.map(|volume| &volume.name);
    let names = observed.own_volumes.iter().chain(declared);
    let is_there = |name: &&String| observed.volumes.contains(*name);
    names.filter(is_there).cloned().collect()
}

fn images(
    project: &Project,
    observed: &Observed,
    which: RemoveImages,
    after: &BTreeSet<usize>,
    plan: &mut Plan,
) {
    let own_name = |service: &crate::model::Service| !service.has_own_image;
    let references: BTreeSet<&String> = project
        .services
        .values()
        .filter(|service| {
            which == RemoveImages::All || (which == RemoveImages::Local && own_name(service))
        })
        .map(|service| &service.image)
        .filter(|image| observed.images.contains_key(*image))
        .collect();
    for reference in references {
        plan.push(
            Action::RemoveImage(reference.clone()),
            after.iter().copied(),
            "images were to go too",
        );
    }
}

/// Services of the containers, each after all that depend on it; a cycle in old labels is cut anywhere.
pub(super) fn dependents_first(containers: &[&ObservedContainer]) -> Vec<String> {
    let mut left: BTreeSet<&str> = containers
        .iter()
        .map(|container| container.service.as_str())
        .collect();
    let mut order = Vec::new();
    while !left.is_empty() {
        let free = |service: &&&str| {
            !containers.iter().any(|other| {
                left.contains(other.service.as_str())
                    && other.service != **service
                    && other.depends_on.iter().any(|name| name == **service)
            })
        };
        let next = left
            .iter()
            .find(free)
            .or(left.first())
            .copied()
            .unwrap_or_default();
        left.remove(next);
        order.push(next.to_owned());
    }
    order
}
