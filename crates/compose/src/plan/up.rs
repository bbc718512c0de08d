//! `up`: from what is to what is wanted.

use std::collections::{BTreeMap, BTreeSet};

use super::selection::{orphans, selection};
use super::{Action, Observed, ObservedContainer, Plan, PlanError, Target};
use crate::model::{Condition, Project, Service};
use crate::request::{config_hash, container_name};

/// What `up` was told.
#[derive(Debug, Clone, Default)]
pub struct UpOptions {
    /// Only these services, and what they depend on; empty means all.
    pub services: Vec<String>,
    /// Recreate even what is unchanged.
    pub force_recreate: bool,
    /// Recreate what the named services depend on, too, where everything is recreated.
    pub always_recreate_deps: bool,
    /// Recreate nothing.
    pub no_recreate: bool,
    /// Leave dependencies alone.
    pub no_deps: bool,
    /// Remove containers of services that are gone.
    pub remove_orphans: bool,
    /// Do not take over anonymous volumes.
    pub renew_anonymous_volumes: bool,
    /// Numbers of containers that win over the file.
    pub scale: BTreeMap<String, u32>,
    /// Seconds until SIGKILL for containers that are replaced.
    pub timeout_s: Option<i64>,
    /// Create only.
    pub no_start: bool,
    /// End with everything running or healthy.
    pub wait: bool,
    /// Do all that this service needs, but leave its own containers alone: `run` makes one of its own.
    pub only_prepare: Option<String>,
}

/// Plans `up`.
///
/// # Errors
/// [`PlanError`].
pub fn plan_up(
    project: &Project,
    observed: &Observed,
    options: &UpOptions,
) -> Result<Plan, PlanError> {
    let selected = selection(project, &options.services, options.no_deps)?;
    let mut planner = Planner {
        project,
        observed,
        options,
        plan: Plan::default(),
        ready: BTreeMap::new(),
        created: BTreeMap::new(),
    };
    let resources = planner.resources(&selected)?;
    for name in &selected {
        if options.only_prepare.as_ref() == Some(name) {
            planner.dependencies(&project.services[name]);
            continue;
        }
        planner.service(&project.services[name], &resources)?;
    }
    if options.remove_orphans {
        planner.orphans();
    }
    if options.wait && !options.no_start {
        planner.wait_for_all(&selected);
    }
    Ok(planner.plan)
}

struct Planner<'a> {
    project: &'a Project,
    observed: &'a Observed,
    options: &'a UpOptions,
    plan: Plan,
    /// What must have ended before a service's dependents may begin.
    ready: BTreeMap<String, BTreeSet<usize>>,
    /// Creations, by service.
    created: BTreeMap<String, BTreeSet<usize>>,
}

impl Planner<'_> {
    /// Networks and volumes that the selected services need.
    fn resources(&mut self, selected: &[String]) -> Result<BTreeSet<usize>, PlanError> {
        let services = selected.iter().map(|name| &self.project.services[name]);
        let (mut networks, mut volumes) = (BTreeSet::new(), BTreeSet::new());
        for service in services {
            networks.extend(service.networks.keys());
            volumes.extend(&service.volumes);
        }
        let mut made = BTreeSet::new();
        for key in networks {
            let network = &self.project.networks[key];
            if self.observed.networks.contains(&network.name) {
                continue;
            }
            if network.external {
                return Err(PlanError::ExternalNetwork(network.name.clone()));
            }
            made.insert(
                self.plan
                    .push(Action::CreateNetwork(key.clone()), [], "it is not there"),
            );
        }
        for key in volumes {
            let volume = &self.project.volumes[key];
            if self.observed.volumes.contains(&volume.name) {
                continue;
            }
            if volume.external {
                return Err(PlanError::ExternalVolume(volume.name.clone()));
            }
            made.insert(
                self.plan
                    .push(Action::CreateVolume(key.clone()), [], "it is not there"),
            );
        }
        Ok(made)
    }

    fn service(&mut self, service: &Service, resources: &BTreeSet<usize>) -> Result<(), PlanError> {
        let scale = self
            .options
            .scale
            .get(&service.name)
            .copied()
            .unwrap_or(service.scale);
        if scale > 1 && service.container_name.is_some() {
            return Err(PlanError::FixedName(service.name.clone()));
        }
        let after = self.dependencies(service);
        let mut made = resources.clone();
        made.extend(self.shared(service));
        let mut existing: Vec<&ObservedContainer> = self
            .observed
            .containers
            .iter()
            .filter(|container| container.service == service.name && !container.one_off)
            .collect();
        // the one with the right name first: another of its number is what a replacement that was cut short left
        existing.sort_by_key(|container| {
            let name = container_name(self.project, service, container.number);
            (container.number, container.name != name)
        });
        let mut ready = BTreeSet::new();
        let mut surplus = Vec::new();
        let mut numbers = BTreeSet::new();
        for container in existing {
            if container.number > scale || !numbers.insert(container.number) {
                surplus.push(container);
                continue;
            }
            ready.extend(self.keep_or_replace(service, container, &made, &after));
        }
        for number in (1..=scale).filter(|number| !numbers.contains(number)) {
            ready.insert(self.create(service, number, &made, &after));
        }
        for container in surplus {
            self.take_away(container, "there are more than wanted");
        }
        self.ready.insert(service.name.clone(), ready);
        Ok(())
    }

    /// Creations that must come before a service's own, because it names those containers.
    fn shared(&self, service: &Service) -> BTreeSet<usize> {
        let named = |name: &&String| service.shares_with.contains(*name);
        let names = service.depends_on.keys().filter(named);
        names
            .flat_map(|name| self.created.get(name).cloned().unwrap_or_default())
            .collect()
    }

    /// What must be done before a service may begin, for its dependencies' sake.
    fn dependencies(&mut self, service: &Service) -> BTreeSet<usize> {
        let mut after = BTreeSet::new();
        for (name, dependency) in &service.depends_on {
            let Some(ready) = self.ready.get(name).cloned() else {
                continue;
            };
            if dependency.condition == Condition::Started || self.options.no_start {
                after.extend(ready);
                continue;
            }
            let wait = Action::Wait {
                service: name.clone(),
                condition: dependency.condition,
                required: dependency.required,
            };
            let reason = format!("{} depends on it", service.name);
            after.insert(self.once(wait, ready, &reason));
        }
        after
    }

    /// Appends an operation that is needed only once.
    fn once(&mut self, action: Action, after: BTreeSet<usize>, reason: &str) -> usize {
        let same = |operation: &super::Operation| operation.action == action;
        match self.plan.operations.iter().position(same) {
            Some(place) => place,
            None => self.plan.push(action, after, reason),
        }
    }

    fn create(
        &mut self,
        service: &Service,
        number: u32,
        made: &BTreeSet<usize>,
        after: &BTreeSet<usize>,
    ) -> usize {
        let name = container_name(self.project, service, number);
        let target = Target::New {
            service: service.name.clone(),
            number,
            name: name.clone(),
        };
        let action = Action::Create {
            service: service.name.clone(),
            number,
            name,
            replaces: None,
            carry: BTreeMap::new(),
        };
        let created = self
            .plan
            .push(action, made.iter().copied(), "it is not there");
        self.note(service, created);
        if self.options.no_start {
            return created;
        }
        let after = after.iter().copied().chain([created]);
        self.plan.push(Action::Start(target), after, "it is new")
    }

    fn note(&mut self, service: &Service, created: usize) {
        let places = self.created.entry(service.name.clone()).or_default();
        places.insert(created);
    }

    fn keep_or_replace(
        &mut self,
        service: &Service,
        container: &ObservedContainer,
        made: &BTreeSet<usize>,
        after: &BTreeSet<usize>,
    ) -> Option<usize> {
        if let Some(reason) = self.why_replace(service, container) {
            return Some(self.replace(service, container, made, after, reason));
        }
        let target = Target::Existing {
            id: container.id.clone(),
            name: container.name.clone(),
        };
        let mut last = after.clone();
        let name = container_name(self.project, service, container.number);
        let renamed = (container.name != name).then(|| {
            let target = target.clone();
            let rename = Action::Rename { target, name };
            self.plan.push(rename, [], "its replacement was cut short")
        });
        last.extend(renamed);
        if container.running || self.options.no_start {
            return renamed;
        }
        Some(
            self.plan
                .push(Action::Start(target), last, "it does not run"),
        )
    }

    fn why_replace(
        &self,
        service: &Service,
        container: &ObservedContainer,
    ) -> Option<&'static str> {
        if self.options.no_recreate {
            return None;
        }
        let dependency_changed = service
            .depends_on
            .iter()
            .any(|(name, dependency)| dependency.restart && self.created.contains_key(name));
        let image = self.observed.images.get(&service.image);
        let named_now = self.options.always_recreate_deps
            || self.options.services.is_empty()
            || self.options.services.contains(&service.name);
        if self.options.force_recreate && named_now {
            Some("recreation was asked for")
        } else if container.config_hash != config_hash(self.project, service) {
            Some("its configuration has changed")
        } else if image.is_some_and(|image| *image != container.image_id) {
            Some("its image has changed")
        } else if dependency_changed {
            Some("what it depends on was recreated")
        } else {
            None
        }
    }

    /// The new one is made before the old one goes, so that a mistake in it costs nothing.
    fn replace(
        &mut self,
        service: &Service,
        old: &ObservedContainer,
        made: &BTreeSet<usize>,
        after: &BTreeSet<usize>,
        reason: &str,
    ) -> usize {
        let name = container_name(self.project, service, old.number);
        let prefix: String = old.id.chars().take(12).collect();
        let temporary = format!("{prefix}_{name}");
        let target = Target::New {
            service: service.name.clone(),
            number: old.number,
            name: name.clone(),
        };
        let carry = if self.options.renew_anonymous_volumes {
            BTreeMap::new()
        } else {
            old.anonymous.clone()
        };
        let keeps_volumes = !carry.is_empty();
        let action = Action::Create {
            service: service.name.clone(),
            number: old.number,
            name: temporary,
            replaces: Some((old.name.clone(), old.id.clone())),
            carry,
        };
        let created = self.plan.push(action, made.iter().copied(), reason);
        self.note(service, created);
        let mut last: BTreeSet<usize> = after.iter().copied().chain([created]).collect();
        let previous = Target::Existing {
            id: old.id.clone(),
            name: old.name.clone(),
        };
        if old.running {
            let stop = Action::Stop {
                target: previous.clone(),
                timeout_s: self.options.timeout_s,
            };
            last = [self.plan.push(stop, last, "it is replaced")].into();
        }
        let remove = Action::Remove {
            target: previous,
            volumes: !keeps_volumes,
        };
        let removed = self.plan.push(remove, last, "it is replaced");
        let rename = Action::Rename {
            target: target.clone(),
            name,
        };
        let renamed = self.plan.push(rename, [removed], "its predecessor is gone");
        if self.options.no_start {
            return renamed;
        }
        let start = Action::Start(target);
        self.plan.push(start, [renamed], "it is new")
    }

    fn take_away(&mut self, container: &ObservedContainer, reason: &str) {
        let target = Target::Existing {
            id: container.id.clone(),
            name: container.name.clone(),
        };
        let mut after = BTreeSet::new();
        if container.running {
            let stop = Action::Stop {
                target: target.clone(),
                timeout_s: self.options.timeout_s,
            };
            after.insert(self.plan.push(stop, [], reason));
        }
        self.plan.push(
            Action::Remove {
                target,
                volumes: true,
            },
            after,
            reason,
        );
    }

    fn orphans(&mut self) {
        for container in orphans(self.project, self.observed) {
            self.take_away(container, "its service is gone");
        }
    }

    fn wait_for_all(&mut self, selected: &[String]) {
        for name in selected {
            let after = self.ready.get(name).cloned().unwrap_or_default();
            // a service that others wait for to end well is not meant to run on
            let ends = self.project.services.values().any(|service| {
                let dependency = service.depends_on.get(name);
                dependency.is_some_and(|found| found.condition == Condition::Completed)
            });
            let wait = Action::Wait {
                service: name.clone(),
                condition: match ends {
                    true => Condition::Completed,
                    false => Condition::Healthy,
                },
                required: true,
            };
            self.once(wait, after, "waiting was asked for");
        }
    }
}
