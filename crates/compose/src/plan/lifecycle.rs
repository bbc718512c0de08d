//! `start`, `stop`, `restart`, `kill`, `pause`, `unpause`, `rm`: what is there changes its state.

use std::collections::{BTreeMap, BTreeSet};

use super::{Action, Observed, ObservedContainer, Plan, Target};
use crate::model::{Condition, Project};

/// What happens to the containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifecycle {
    /// Start those that do not run, dependencies first.
    Start,
    /// Stop those that run, dependents first.
    Stop {
        /// Seconds until SIGKILL.
        timeout_s: Option<i64>,
    },
    /// Restart all, dependencies first.
    Restart {
        /// Seconds until SIGKILL.
        timeout_s: Option<i64>,
    },
    /// Send a signal to those that run.
    Kill {
        /// Its number.
        signal: i32,
    },
    /// Freeze those that run.
    Pause,
    /// Let those go on that are frozen.
    Unpause,
}

/// Plans it for the containers of the named services, all of them if there is no name.
pub fn plan_lifecycle(
    project: &Project,
    observed: &Observed,
    services: &[String],
    what: Lifecycle,
) -> Plan {
    let mut plan = Plan::default();
    let containers: Vec<&ObservedContainer> = observed
        .containers
        .iter()
        .filter(|container| !container.one_off && is_named(container, services))
        .collect();
    let mut order = super::down::dependents_first(&containers);
    let forwards = matches!(what, Lifecycle::Start | Lifecycle::Restart { .. });
    if forwards {
        order.reverse();
    }
    let ordered = forwards || matches!(what, Lifecycle::Stop { .. });
    let mut done: BTreeMap<String, BTreeSet<usize>> = BTreeMap::new();
    for service in order {
        let mut after = BTreeSet::new();
        for other in containers.iter().filter(|_| ordered) {
            let first = if forwards {
                containers
                    .iter()
                    .any(|own| own.service == service && own.depends_on.contains(&other.service))
            } else {
                other.depends_on.contains(&service)
            };
            if first {
                after.extend(done.get(&other.service).into_iter().flatten());
            }
        }
        if what == Lifecycle::Start {
            after = conditions(project, &service, after, &mut plan);
        }
        for container in containers.iter().filter(|own| own.service == service) {
            if let Some((action, reason)) = action(container, what) {
                let place = plan.push(action, after.iter().copied(), reason);
                done.entry(service.clone()).or_default().insert(place);
            }
        }
    }
    plan
}

/// Waits for what the files say a service waits for, where it is among what is started.
fn conditions(
    project: &Project,
    service: &str,
    after: BTreeSet<usize>,
    plan: &mut Plan,
) -> BTreeSet<usize> {
    let Some(service) = project.services.get(service) else {
        return after;
    };
    let mut ready = after.clone();
    for (name, dependency) in &service.depends_on {
        if dependency.condition == Condition::Started || after.is_empty() {
            continue;
        }
        let wait = Action::Wait {
            service: name.clone(),
            condition: dependency.condition,
            required: dependency.required,
        };
        ready.insert(plan.push(
            wait,
            after.iter().copied(),
            format!("{} depends on it", service.name),
        ));
    }
    ready
}

fn action(container: &ObservedContainer, what: Lifecycle) -> Option<(Action, &'static str)> {
    let target = target(container);
    let wanted = match what {
        Lifecycle::Start if !container.running => (Action::Start(target), "it does not run"),
        Lifecycle::Stop { timeout_s } if container.running => {
            (Action::Stop { target, timeout_s }, "it runs")
        }
        Lifecycle::Restart { timeout_s } => {
            (Action::Restart { target, timeout_s }, "it was asked for")
        }
        Lifecycle::Kill { signal } if container.running => {
            (Action::Kill { target, signal }, "it runs")
        }
        Lifecycle::Pause if container.running && !container.paused => {
            (Action::Pause(target), "it runs")
        }
        Lifecycle::Unpause if container.paused => (Action::Unpause(target), "it is paused"),
        _ => return None,
    };
    Some(wanted)
}

/// Plans `rm`: containers that do not run, or with `stop` all.
pub fn plan_remove(observed: &Observed, services: &[String], stop: bool, volumes: bool) -> Plan {
    let mut plan = Plan::default();
    for container in &observed.containers {
        if !is_named(container, services) || container.running && !stop {
            continue;
        }
        let mut after = None;
        if container.running {
            let action = Action::Stop {
                target: target(container),
                timeout_s: None,
            };
            after = Some(plan.push(action, [], "stopping was asked for"));
        }
        let action = Action::Remove {
            target: target(container),
            volumes,
        };
        plan.push(action, after, "it does not run");
    }
    plan
}

fn is_named(container: &ObservedContainer, services: &[String]) -> bool {
    services.is_empty() || services.contains(&container.service)
}

fn target(container: &ObservedContainer) -> Target {
    Target::Existing {
        id: container.id.clone(),
        name: container.name.clone(),
    }
}
