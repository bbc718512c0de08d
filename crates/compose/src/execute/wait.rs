//! Waiting for services: until they run, are healthy, or have ended well.

use std::time::{Duration, Instant};

use ketch_engine::container::state::HealthStatus;
use ketch_engine::container::{self, Container, ContainerState, Status, Watch};
use ketch_engine::{Error, ErrorKind, Result};

use super::operation::told;
use super::{Run, interrupted, observe};
use crate::model::Condition;

/// The longest sleep before a waiter looks whether the user has had enough.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// Waits for all containers of a service. In vain is a failure if it is `required`, else a warning.
pub(super) fn wait(
    run: &Run<'_>,
    service: &str,
    condition: Condition,
    required: bool,
) -> Result<()> {
    for found in observe::containers(run.engine, &run.project.name)? {
        let described = observe::describe(&found);
        if described.service != service || described.one_off || condition == Condition::Started {
            continue;
        }
        let after = match condition {
            Condition::Completed => "Exited",
            _ => "Healthy",
        };
        let subject = format!("Container {}", found.config.name);
        let waited = told(run, &subject, "Waiting", after, || {
            until(run, &found, |state| {
                verdict(&found, service, condition, state)
            })
        });
        match waited {
            Err(error) if !required && error.kind != ErrorKind::Interrupted => {
                run.observer
                    .warning(&format!("optional dependency failed: {error}"));
            }
            other => other?,
        }
    }
    Ok(())
}

/// Whether a container is as wanted; None if it may yet become so.
fn verdict(
    found: &Container,
    service: &str,
    condition: Condition,
    state: &ContainerState,
) -> Option<Result<()>> {
    let code = state.exit.as_ref().map_or(0, |exit| exit.code);
    let failed = |message: String| Some(Err(Error::new(ErrorKind::Conflict, message)));
    let ended = matches!(state.status, Status::Exited | Status::Dead);
    if condition == Condition::Completed {
        return match ended {
            true if code == 0 => Some(Ok(())),
            true => failed(format!(
                "service {service:?} didn't complete successfully: exit {code}"
            )),
            false => None,
        };
    }
    let name = &found.config.name;
    if ended {
        return failed(format!(
            "dependency failed to start: container {name} exited ({code})"
        ));
    }
    if !matches!(state.status, Status::Running | Status::Paused) {
        return None;
    }
    match state.health.as_ref().map(|health| health.status) {
        Some(HealthStatus::Healthy) | None => Some(Ok(())),
        Some(HealthStatus::Unhealthy) => failed(format!(
            "dependency failed to start: container {name} is unhealthy"
        )),
        Some(HealthStatus::Starting) => None,
    }
}

/// Looks at a container until there is a verdict, the time is over, or the user has had enough.
fn until(
    run: &Run<'_>,
    found: &Container,
    verdict: impl Fn(&ContainerState) -> Option<Result<()>>,
) -> Result<()> {
    let id = &found.config.id;
    let watch = Watch::container(run.engine, id)?;
    loop {
        let (_, state) = container::load(run.engine, id)?;
        if let Some(verdict) = verdict(&state) {
            return verdict;
        }
        if run.observer.cancelled() {
            return Err(interrupted());
        }
        let left = run
            .deadline
            .map(|deadline| deadline.saturating_duration_since(Instant::now()));
        if left == Some(Duration::ZERO) {
            let message = format!("timeout waiting for container {}", found.config.name);
            return Err(Error::new(ErrorKind::Unavailable, message));
        }
        watch.wait(left.unwrap_or(LOOK_AGAIN).min(LOOK_AGAIN))?;
    }
}
