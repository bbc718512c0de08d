//! What Docker's engine says of a container's state.

use jiff::Timestamp;
use ketch_engine::container::state::{ContainerState, HealthStatus, Status};
use ketch_spec::duration;

/// `Up 2 hours (healthy)`, `Exited (137) 3 minutes ago`, …, at time `now`.
pub fn text(state: &ContainerState, now: Timestamp) -> String {
    let code = state.exit.as_ref().map_or(0, |exit| exit.code);
    let ended = || {
        state
            .exit
            .as_ref()
            .map_or_else(String::new, |exit| age(exit.at, now))
    };
    match state.status {
        Status::Created => "Created".into(),
        Status::Dead => "Dead".into(),
        Status::Exited => format!("Exited ({code}) {} ago", ended()),
        Status::Restarting => format!("Restarting ({code}) {} ago", ended()),
        Status::Running | Status::Paused => {
            let up = state
                .started
                .map_or_else(String::new, |started| age(started, now));
            let more = match state.health.as_ref().map(|health| health.status) {
                _ if state.status == Status::Paused => " (Paused)",
                None => "",
                Some(HealthStatus::Starting) => " (health: starting)",
                Some(HealthStatus::Healthy) => " (healthy)",
                Some(HealthStatus::Unhealthy) => " (unhealthy)",
            };
            format!("Up {up}{more}")
        }
    }
}

/// The time from `then` to `now` in words.
fn age(then: Timestamp, now: Timestamp) -> String {
    duration::age(now.as_second().saturating_sub(then.as_second()).max(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_state_has_dockers_words() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let state = |status: &str| -> ContainerState {
            serde_json::from_value(serde_json::json!({
                "version": 1, "status": status, "started": at(0).to_string(),
                "exit": {"code": 137, "at": at(820).to_string()},
            }))
            .unwrap()
        };
        let shown = |status| text(&state(status), at(1000));
        assert_eq!(shown("created"), "Created");
        assert_eq!(shown("running"), "Up 16 minutes");
        assert_eq!(shown("paused"), "Up 16 minutes (Paused)");
        assert_eq!(shown("exited"), "Exited (137) 3 minutes ago");
        assert_eq!(shown("restarting"), "Restarting (137) 3 minutes ago");
    }
}
