//! Which containers a command means.

use ketch_compose::{ObservedContainer, Project};
use ketch_engine::container::Container;

use crate::context::Context;
use crate::failure::Failure;

/// A container of a project.
pub struct Member {
    /// As the engine has it.
    pub container: Container,
    /// As planning sees it.
    pub seen: ObservedContainer,
}

/// Which containers of the project.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Scope {
    /// Those of `run`, too.
    pub one_off: bool,
    /// Those whose service is gone, too.
    pub orphans: bool,
    /// Those that do not run, too.
    pub stopped: bool,
}

/// Containers of the named services, all of them if there is no name, by service and number.
///
/// # Errors
/// `no such service: x`.
pub fn members(
    context: &Context,
    project: &Project,
    services: &[String],
    scope: Scope,
) -> Result<Vec<Member>, Failure> {
    check_services(project, services)?;
    let known = |name: &String| {
        !project.has_files()
            || project.services.contains_key(name)
            || project.disabled.contains(name)
    };
    let containers = ketch_compose::containers(context.engine()?, &project.name)?;
    let mut members: Vec<Member> = containers
        .into_iter()
        .map(|container| Member {
            seen: ketch_compose::describe(&container),
            container,
        })
        .filter(|member| services.is_empty() || services.contains(&member.seen.service))
        .filter(|member| scope.one_off || !member.seen.one_off)
        .filter(|member| scope.orphans || known(&member.seen.service))
        .filter(|member| scope.stopped || member.seen.running)
        .collect();
    members.sort_by(|a, b| {
        let key = |member: &Member| (member.seen.service.clone(), member.seen.number);
        key(a).cmp(&key(b))
    });
    Ok(members)
}

/// Makes sure that names are services; a project without files knows none, and takes every name.
///
/// # Errors
/// `no such service: x`.
pub fn check_services(project: &Project, services: &[String]) -> Result<(), Failure> {
    let known =
        |name: &&String| project.services.contains_key(*name) || project.disabled.contains(*name);
    match services.iter().find(|name| !known(name)) {
        Some(name) if project.has_files() => {
            Err(Failure::usage(format!("no such service: {name}")))
        }
        _ => Ok(()),
    }
}

/// The running container `index` of a service, or its first.
///
/// # Errors
/// `service "x" is not running`.
pub fn running(
    context: &Context,
    project: &Project,
    service: &str,
    index: i64,
) -> Result<Member, Failure> {
    let named = [service.to_owned()];
    let members = members(context, project, &named, Scope::default())?;
    let wanted = |member: &Member| index <= 0 || i64::from(member.seen.number) == index;
    members.into_iter().find(wanted).ok_or_else(|| {
        Failure::usage(match index {
            1.. => format!("service {service:?} is not running container #{index}"),
            _ => format!("service {service:?} is not running"),
        })
    })
}
