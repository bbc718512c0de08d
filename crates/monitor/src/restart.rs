//! Restart policies: what happens after an exit, and after how long. Pure: time comes in as durations.

use std::time::Duration;

use ketch_engine::container::config::RestartPolicy;

/// The first pause.
const FIRST_DELAY: Duration = Duration::from_millis(100);
/// The longest pause.
const LONGEST_DELAY: Duration = Duration::from_secs(60);
/// A run of this length was a success: the pauses begin anew.
const GOOD_RUN: Duration = Duration::from_secs(10);

/// What to do after an exit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Leave it.
    Stay,
    /// Start it again.
    Restart {
        /// Pause before that.
        after: Duration,
    },
}

/// The restarts of one container since a user started it.
#[derive(Debug)]
pub struct Restarts {
    policy: RestartPolicy,
    count: u32,
    delay: Option<Duration>,
}

impl Restarts {
    /// None so far.
    pub fn new(policy: RestartPolicy) -> Self {
        Self {
            policy,
            count: 0,
            delay: None,
        }
    }

    /// How many there were, the one under way included.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Decides after an exit with `code` at the end of a run of length `ran`; `stopped` says a user wanted the exit.
    pub fn after_exit(&mut self, code: i32, ran: Duration, stopped: bool) -> Verdict {
        let wanted = match self.policy {
            RestartPolicy::No => false,
            RestartPolicy::Always | RestartPolicy::UnlessStopped => true,
            RestartPolicy::OnFailure(most) => code != 0 && (most == 0 || self.count < most),
        };
        if stopped || !wanted {
            return Verdict::Stay;
        }
        let delay = match self.delay {
            Some(delay) if ran < GOOD_RUN => (delay * 2).min(LONGEST_DELAY),
            _ => FIRST_DELAY,
        };
        self.delay = Some(delay);
        self.count = self.count.saturating_add(1);
        Verdict::Restart { after: delay }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_millis(5);

    #[test]
    fn no_policy_stays() {
        assert_eq!(
            Restarts::new(RestartPolicy::No).after_exit(1, SHORT, false),
            Verdict::Stay
        );
    }

    #[test]
    fn delays_double_to_a_minute_and_begin_anew_after_a_good_run() {
        let mut restarts = Restarts::new(RestartPolicy::Always);
        let mut delays = Vec::new();
        for _ in 0..12 {
            let Verdict::Restart { after } = restarts.after_exit(0, SHORT, false) else {
                panic!("always restarts")
            };
            delays.push(after.as_millis());
        }
        assert_eq!(delays[..4], [100, 200, 400, 800]);
        assert_eq!(delays[9..], [51_200, 60_000, 60_000]);
        assert_eq!(
            restarts.after_exit(0, GOOD_RUN, false),
            Verdict::Restart { after: FIRST_DELAY }
        );
        assert_eq!(restarts.count(), 13);
    }

    #[test]
    fn on_failure_needs_a_failure_and_has_a_bound() {
        let mut restarts = Restarts::new(RestartPolicy::OnFailure(2));
        assert_eq!(restarts.after_exit(0, SHORT, false), Verdict::Stay);
        assert!(matches!(
            restarts.after_exit(1, SHORT, false),
            Verdict::Restart { .. }
        ));
        assert!(matches!(
            restarts.after_exit(137, SHORT, false),
            Verdict::Restart { .. }
        ));
        assert_eq!(restarts.after_exit(1, SHORT, false), Verdict::Stay);
        let mut unbounded = Restarts::new(RestartPolicy::OnFailure(0));
        assert!((0..50).all(|_| unbounded.after_exit(1, SHORT, false) != Verdict::Stay));
    }

    #[test]
    fn a_users_stop_ends_every_policy() {
        for policy in [
            RestartPolicy::Always,
            RestartPolicy::UnlessStopped,
            RestartPolicy::OnFailure(0),
        ] {
            assert_eq!(
                Restarts::new(policy).after_exit(143, SHORT, true),
                Verdict::Stay
            );
        }
    }
}
