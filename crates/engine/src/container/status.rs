//! What Docker's engine says of a container's state, as in the STATUS column of `ps`.

use jiff::Timestamp;
use ketch_spec::duration;

use super::state::{ContainerState, HealthStatus, Status};

/// `Up 2 hours (healthy)`, `Exited (137) 3 minutes ago`, …, at time `now`.
pub fn text(state: &ContainerState, now: Timestamp) -> String {
    let exit_code = state.exit.as_ref().map_or(0, |exit| exit.code);
    let ended = || {
        state
            .exit
            .as_ref()
            .map_or_else(String::new, |exit| age(exit.at, now))
    };
    match state.status {
        Status::Created => "Created".into(),
        Status::Dead => "Dead".into(),
        Status::Exited => format!("Exited ({exit_code}) {} ago", ended()),
        Status::Restarting => format!("Restarting ({exit_code}) {} ago", ended()),
        Status::Running | Status::Paused => {
            let up = state
                .started
                .map_or_else(String::new, |started| age(started, now));
            let paused = if state.status == Status::Paused {
                " (Paused)"
            } else {
                ""
            };
            let health = match state.health.as_ref().map(|health| health.status) {
                _ if !paused.is_empty() => "",
                None => "",
                Some(HealthStatus::Starting) => " (health: starting)",
                Some(HealthStatus::Healthy) => " (healthy)",
                Some(HealthStatus::Unhealthy) => " (unhealthy)",
            };
            format!("Up {up}{paused}{health}")
        }
    }
}

/// The time from `then` to `now` in words, without `ago`.
pub fn age(then: Timestamp, now: Timestamp) -> String {
    duration::age(now.as_second().saturating_sub(then.as_second()).max(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::state::{ExitRecord, HealthState};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn state(status: Status) -> ContainerState {
        let exit = ExitRecord {
            code: 137,
            signal: Some(9),
            out_of_memory: false,
            at: at(820),
            error: String::new(),
        };
        ContainerState {
            status,
            started: Some(at(0)),
            exit: Some(exit),
            ..ContainerState::created()
        }
    }

    #[test]
    fn each_state_has_dockers_words() {
        let shown = |state: &ContainerState| text(state, at(1000));
        assert_eq!(shown(&state(Status::Created)), "Created");
        assert_eq!(shown(&state(Status::Running)), "Up 16 minutes");
        assert_eq!(shown(&state(Status::Paused)), "Up 16 minutes (Paused)");
        assert_eq!(shown(&state(Status::Exited)), "Exited (137) 3 minutes ago");
        assert_eq!(
            shown(&state(Status::Restarting)),
            "Restarting (137) 3 minutes ago"
        );
        assert_eq!(shown(&state(Status::Dead)), "Dead");
    }

    #[test]
    fn health_is_shown_while_running() {
        for (status, words) in [
            (HealthStatus::Starting, "Up 16 minutes (health: starting)"),
            (HealthStatus::Healthy, "Up 16 minutes (healthy)"),
            (HealthStatus::Unhealthy, "Up 16 minutes (unhealthy)"),
        ] {
            let health = Some(HealthState {
                status,
                failing_streak: 0,
                log: Vec::new(),
            });
            assert_eq!(
                text(
                    &ContainerState {
                        health,
                        ..state(Status::Running)
                    },
                    at(1000)
                ),
                words
            );
        }
    }

    #[test]
    fn a_clock_that_went_back_gives_no_negative_age() {
        assert_eq!(age(at(100), at(50)), "Less than a second");
    }
}
