//! Images first: what is to be built is built, what is missing is pulled.

use std::collections::{BTreeMap, BTreeSet};

use super::{Action, Observed, Plan, PlanError};
use crate::model::{Project, PullPolicy, Service};

/// What a command says about images.
#[derive(Debug, Clone, Default)]
pub struct ImageOptions {
    /// `--build`: build even what is there.
    pub build: bool,
    /// `--no-build`: build nothing.
    pub no_build: bool,
    /// `--pull`.
    pub pull: PullMode,
}

/// `--pull` of `up`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum PullMode {
    /// As the files say.
    #[default]
    Policy,
    /// Even what is there.
    Always,
    /// What is missing.
    Missing,
    /// Nothing.
    Never,
    /// Build everything that can be.
    Build,
}

/// Plans what it takes to have the images of the named services here.
///
/// # Errors
/// [`PlanError::NoImage`].
pub fn plan_images(
    project: &Project,
    services: &[String],
    observed: &Observed,
    options: &ImageOptions,
) -> Result<Plan, PlanError> {
    let mut planner = ImagePlanner::default();
    for service in services
        .iter()
        .filter_map(|name| project.services.get(name))
    {
        let here = observed.images.contains_key(&service.image);
        let policy = match options.pull {
            PullMode::Policy => service.pull_policy,
            PullMode::Always => PullPolicy::Always,
            PullMode::Missing => PullPolicy::Missing,
            PullMode::Never => PullPolicy::Never,
            PullMode::Build => PullPolicy::Build,
        };
        let buildable = service.build.is_some() && !options.no_build;
        if buildable && options.build {
            planner.build(service, "building was asked for");
        } else if buildable && policy == PullPolicy::Build {
            planner.build(service, "its pull policy is build");
        } else if policy == PullPolicy::Always && service.has_own_image {
            planner.pull(service, buildable, "its image is always pulled");
        } else if here {
            continue;
        } else if policy == PullPolicy::Never || !service.has_own_image {
            if !buildable {
                return Err(PlanError::NoImage {
                    service: service.name.clone(),
                    image: service.image.clone(),
                });
            }
            planner.build(service, "its image is not here");
        } else {
            planner.pull(service, buildable, "its image is not here");
        }
    }
    Ok(planner.plan)
}

/// Plans the builds of the named services; those without a `build` are left out.
pub fn plan_builds(project: &Project, services: &[String]) -> Plan {
    let mut planner = ImagePlanner::default();
    for service in services
        .iter()
        .filter_map(|name| project.services.get(name))
    {
        if service.build.is_some() {
            planner.build(service, "building was asked for");
        }
    }
    planner.plan
}

/// Plans the pulls of the named services. `missing_only` leaves those alone that are here; `ignore_buildable` those
/// that can be built.
pub fn plan_pulls(
    project: &Project,
    services: &[String],
    observed: &Observed,
    missing_only: bool,
    ignore_buildable: bool,
) -> Plan {
    let mut planner = ImagePlanner::default();
    for service in services
        .iter()
        .filter_map(|name| project.services.get(name))
    {
        let here = observed.images.contains_key(&service.image);
        let buildable = service.build.is_some();
        if !service.has_own_image || buildable && ignore_buildable || here && missing_only {
            continue;
        }
        planner.pull(service, false, "pulling was asked for");
    }
    planner.plan
}

#[derive(Default)]
struct ImagePlanner {
    plan: Plan,
    pulled: BTreeMap<String, usize>,
    last_build: Option<usize>,
}

impl ImagePlanner {
    /// Builds come one after the other: their output is for reading, and their steps share a cache.
    fn build(&mut self, service: &Service, reason: &str) {
        let after: BTreeSet<usize> = self.last_build.into_iter().collect();
        let action = Action::Build(service.name.clone());
        self.last_build = Some(self.plan.push(action, after, reason));
    }

    /// Pulls go side by side; two services of one image need it once.
    fn pull(&mut self, service: &Service, buildable: bool, reason: &str) {
        if self.pulled.contains_key(&service.image) {
            return;
        }
        let place = if buildable {
            let after: BTreeSet<usize> = self.last_build.into_iter().collect();
            let action = Action::PullOrBuild(service.name.clone());
            let place = self.plan.push(action, after, reason);
            self.last_build = Some(place);
            place
        } else {
            self.plan
                .push(Action::Pull(service.name.clone()), [], reason)
        };
        self.pulled.insert(service.image.clone(), place);
    }
}
