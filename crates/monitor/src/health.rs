//! Health checks: when the next probe is due, and what its outcome means. Pure: time comes in as instants, the probe
//! itself is an exec session that the event loop runs.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use ketch_engine::container::state::{HealthProbe, HealthState, HealthStatus};
use ketch_spec::image::HealthCheck;

/// The most output of a probe that is kept, in bytes.
pub const MAX_OUTPUT_BYTES: usize = 4096;
/// The most probes that are kept.
const MAX_PROBES: usize = 5;

const DEFAULT_INTERVAL: Duration = Duration::from_secs(30);
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);
const DEFAULT_START_INTERVAL: Duration = Duration::from_secs(5);
const DEFAULT_RETRIES: u32 = 3;

/// What is to be done now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Nothing before the deadline.
    Wait,
    /// Start a probe, then call [`Health::started`].
    Probe,
    /// The probe takes too long: end it, then call [`Health::timed_out`].
    Abandon,
}

/// The checks of one run.
#[derive(Debug)]
pub struct Health {
    command: Vec<String>,
    interval: Duration,
    timeout: Duration,
    start_period: Duration,
    start_interval: Duration,
    retries: u32,
    run_began: Instant,
    phase: Phase,
    state: HealthState,
}

#[derive(Debug)]
enum Phase {
    Idle { next: Instant },
    Probing { began: Instant, at: Timestamp },
    Suspended,
}

impl Health {
    /// The checks of a run that began at `now`; None where `check` asks for none.
    pub fn new(check: &HealthCheck, now: Instant) -> Option<Self> {
        let command = match check.test.split_first()? {
            (kind, words) if kind == "CMD" && !words.is_empty() => words.to_vec(),
            (kind, [line]) if kind == "CMD-SHELL" => {
                vec!["/bin/sh".into(), "-c".into(), line.clone()]
            }
            _ => return None,
        };
        let mut health = Self {
            command,
            interval: or_default(check.interval, DEFAULT_INTERVAL),
            timeout: or_default(check.timeout, DEFAULT_TIMEOUT),
            start_period: or_default(check.start_period, Duration::ZERO),
            start_interval: or_default(check.start_interval, DEFAULT_START_INTERVAL),
            retries: u32::try_from(check.retries)
                .ok()
                .filter(|n| *n > 0)
                .unwrap_or(DEFAULT_RETRIES),
            run_began: now,
            phase: Phase::Suspended,
            state: HealthState {
                status: HealthStatus::Starting,
                failing_streak: 0,
                log: Vec::new(),
            },
        };
        health.schedule(now);
        Some(health)
    }

    /// Program and arguments of a probe.
    pub fn command(&self) -> &[String] {
        &self.command
    }

    /// As it goes into the container's state.
    pub fn state(&self) -> &HealthState {
        &self.state
    }

    /// When [`Self::action`] may next be something else than waiting.
    pub fn deadline(&self) -> Option<Instant> {
        match self.phase {
            Phase::Idle { next } => Some(next),
            Phase::Probing { began, .. } => Some(began + self.timeout),
            Phase::Suspended => None,
        }
    }

    /// What is to be done at `now`.
    pub fn action(&self, now: Instant) -> Action {
        match self.phase {
            Phase::Idle { next } if next <= now => Action::Probe,
            Phase::Probing { began, .. } if began + self.timeout <= now => Action::Abandon,
            _ => Action::Wait,
        }
    }

    /// A probe has been started.
    pub fn started(&mut self, now: Instant, at: Timestamp) {
        self.phase = Phase::Probing { began: now, at };
    }

    /// The probe ended with `exit_code`, or could not run (-1) for the reason in `output`. True if the verdict changed.
    pub fn finished(&mut self, now: Instant, at: Timestamp, exit_code: i32, output: &[u8]) -> bool {
        let (began, start) = match self.phase {
            Phase::Probing { began, at } => (began, at),
            // A probe that was under way when the container was paused, or one that never started.
            Phase::Idle { .. } | Phase::Suspended => (now, at),
        };
        let output =
            String::from_utf8_lossy(&output[..output.len().min(MAX_OUTPUT_BYTES)]).into_owned();
        if self.state.log.len() == MAX_PROBES {
            self.state.log.remove(0);
        }
        self.state.log.push(HealthProbe {
            start,
            end: at,
            exit_code,
            output,
        });
        let before = self.state.status;
        if exit_code == 0 {
            self.state.failing_streak = 0;
            self.state.status = HealthStatus::Healthy;
        } else if before != HealthStatus::Starting || began - self.run_began >= self.start_period {
            self.state.failing_streak = self.state.failing_streak.saturating_add(1);
            if self.state.failing_streak >= self.retries {
                self.state.status = HealthStatus::Unhealthy;
            }
        }
        if !matches!(self.phase, Phase::Suspended) {
            self.schedule(now);
        }
        before != self.state.status
    }

    /// The probe was ended for taking too long. True if the verdict changed.
    pub fn timed_out(&mut self, now: Instant, at: Timestamp) -> bool {
        let message = format!(
            "Health check exceeded timeout ({})",
            ketch_spec::duration::go_format(self.timeout)
        );
        self.finished(now, at, -1, message.as_bytes())
    }

    /// No probes while the container is paused.
    pub fn suspend(&mut self) {
        self.phase = Phase::Suspended;
    }

    /// Probes again, the next after a whole interval.
    pub fn resume(&mut self, now: Instant) {
        self.schedule(now);
    }

    fn schedule(&mut self, now: Instant) {
        let starting =
            self.state.status == HealthStatus::Starting && now - self.run_began < self.start_period;
        let pause = if starting {
            self.start_interval
        } else {
            self.interval
        };
        self.phase = Phase::Idle { next: now + pause };
    }
}

/// As Docker's events and listings write it.
pub fn verdict_name(verdict: HealthStatus) -> &'static str {
    match verdict {
        HealthStatus::Starting => "starting",
        HealthStatus::Healthy => "healthy",
        HealthStatus::Unhealthy => "unhealthy",
    }
}

fn or_default(nanoseconds: i64, default: Duration) -> Duration {
    match u64::try_from(nanoseconds) {
        Ok(0) | Err(_) => default,
        Ok(nanoseconds) => Duration::from_nanos(nanoseconds),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000_000;

    fn check(interval: i64, start_period: i64) -> HealthCheck {
        HealthCheck {
            test: vec!["CMD-SHELL".into(), "true".into()],
            interval: interval * SECOND,
            timeout: 3 * SECOND,
            start_period: start_period * SECOND,
            start_interval: SECOND,
            retries: 2,
        }
    }

    fn seconds(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    fn probe(health: &mut Health, now: Instant, code: i32) -> bool {
        assert_eq!(health.action(now), Action::Probe);
        health.started(now, Timestamp::UNIX_EPOCH);
        health.finished(now, Timestamp::UNIX_EPOCH, code, b"out")
    }

    #[test]
    fn none_and_nonsense_have_no_checks() {
        for test in [
            vec![],
            vec!["NONE"],
            vec!["CMD"],
            vec!["CMD-SHELL", "a", "b"],
            vec!["x", "y"],
        ] {
            let test = test.into_iter().map(String::from).collect();
            assert!(
                Health::new(
                    &HealthCheck {
                        test,
                        ..HealthCheck::default()
                    },
                    Instant::now()
                )
                .is_none()
            );
        }
    }

    #[test]
    fn becomes_healthy_then_unhealthy_after_enough_failures() {
        let start = Instant::now();
        let mut health = Health::new(&check(10, 0), start).expect("checks");
        assert_eq!(health.action(seconds(start, 9)), Action::Wait);
        assert!(probe(&mut health, seconds(start, 10), 0));
        assert_eq!(health.state().status, HealthStatus::Healthy);
        assert!(!probe(&mut health, seconds(start, 20), 1));
        assert_eq!(health.state().failing_streak, 1);
        assert!(probe(&mut health, seconds(start, 30), 1));
        assert_eq!(health.state().status, HealthStatus::Unhealthy);
        assert!(probe(&mut health, seconds(start, 40), 0));
        assert_eq!(health.state().failing_streak, 0);
    }

    #[test]
    fn failures_in_the_start_period_do_not_count() {
        let start = Instant::now();
        let mut health = Health::new(&check(10, 4), start).expect("checks");
        for second in 1..4 {
            assert!(!probe(&mut health, seconds(start, second), 1));
        }
        assert_eq!(
            (health.state().failing_streak, health.state().status),
            (0, HealthStatus::Starting)
        );
        // The one at second 4 counts; after the period the long interval rules.
        assert!(!probe(&mut health, seconds(start, 4), 1));
        assert_eq!(health.state().failing_streak, 1);
        assert_eq!(health.deadline(), Some(seconds(start, 14)));
    }

    #[test]
    fn a_slow_probe_is_abandoned() {
        let start = Instant::now();
        let mut health = Health::new(&check(10, 0), start).expect("checks");
        health.started(seconds(start, 10), Timestamp::UNIX_EPOCH);
        assert_eq!(health.action(seconds(start, 12)), Action::Wait);
        assert_eq!(health.action(seconds(start, 13)), Action::Abandon);
        health.timed_out(seconds(start, 13), Timestamp::UNIX_EPOCH);
        assert_eq!(health.state().log[0].exit_code, -1);
        assert!(
            health.state().log[0]
                .output
                .contains("exceeded timeout (3s)")
        );
    }

    #[test]
    fn keeps_five_probes_and_bounded_output() {
        let start = Instant::now();
        let mut health = Health::new(&check(1, 0), start).expect("checks");
        for second in 1..=7 {
            health.started(seconds(start, second), Timestamp::UNIX_EPOCH);
            let code = i32::try_from(second).expect("small");
            health.finished(
                seconds(start, second),
                Timestamp::UNIX_EPOCH,
                code,
                &[b'x'; 10_000],
            );
        }
        let codes: Vec<i32> = health
            .state()
            .log
            .iter()
            .map(|probe| probe.exit_code)
            .collect();
        assert_eq!(codes, [3, 4, 5, 6, 7]);
        assert_eq!(health.state().log[0].output.len(), MAX_OUTPUT_BYTES);
    }

    #[test]
    fn nothing_is_due_while_suspended() {
        let start = Instant::now();
        let mut health = Health::new(&check(10, 0), start).expect("checks");
        health.suspend();
        assert_eq!(
            (health.deadline(), health.action(seconds(start, 1_000))),
            (None, Action::Wait)
        );
        health.resume(seconds(start, 1_000));
        assert_eq!(health.deadline(), Some(seconds(start, 1_010)));
    }
}
