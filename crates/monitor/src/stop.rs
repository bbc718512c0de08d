//! The way of a stop: the stop signal, a time-out, SIGKILL. Pure: time comes in as instants.

use std::time::{Duration, Instant};

/// Docker's time-out where neither the container nor the request has one.
pub const DEFAULT_TIMEOUT_S: i64 = 10;

/// A stop under way.
#[derive(Debug)]
pub struct Stop {
    kill_at: Option<Instant>,
    killed: bool,
}

impl Stop {
    /// Begins at `now`; the caller sends the stop signal. A negative `timeout_s` waits forever.
    pub fn begin(now: Instant, timeout_s: i64) -> Self {
        Self {
            kill_at: kill_time(now, timeout_s),
            killed: false,
        }
    }

    /// Another stop of the same run: the earlier SIGKILL counts.
    pub fn again(&mut self, now: Instant, timeout_s: i64) {
        self.kill_at = match (self.kill_at, kill_time(now, timeout_s)) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
    }

    /// When [`Self::kill_due`] may next say yes.
    pub fn deadline(&self) -> Option<Instant> {
        self.kill_at.filter(|_| !self.killed)
    }

    /// Whether SIGKILL is due at `now`; says so once.
    pub fn kill_due(&mut self, now: Instant) -> bool {
        let due = self.deadline().is_some_and(|at| at <= now);
        self.killed |= due;
        due
    }
}

fn kill_time(now: Instant, timeout_s: i64) -> Option<Instant> {
    let timeout = Duration::from_secs(u64::try_from(timeout_s).ok()?);
    // A time-out beyond the clock's range is one that never ends.
    now.checked_add(timeout)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kills_once_when_the_time_is_over() {
        let start = Instant::now();
        let mut stop = Stop::begin(start, 10);
        assert!(!stop.kill_due(start + Duration::from_millis(9_999)));
        assert_eq!(stop.deadline(), Some(start + Duration::from_secs(10)));
        assert!(stop.kill_due(start + Duration::from_secs(10)));
        assert!(!stop.kill_due(start + Duration::from_secs(11)));
        assert_eq!(stop.deadline(), None);
    }

    #[test]
    fn zero_kills_at_once_and_negative_never() {
        let start = Instant::now();
        assert!(Stop::begin(start, 0).kill_due(start));
        let mut forever = Stop::begin(start, -1);
        assert!(!forever.kill_due(start + Duration::from_secs(1 << 30)));
        assert_eq!(forever.deadline(), None);
        assert_eq!(Stop::begin(start, i64::MAX).deadline(), None);
    }

    #[test]
    fn a_second_stop_can_only_shorten() {
        let start = Instant::now();
        let mut stop = Stop::begin(start, -1);
        stop.again(start, 5);
        assert_eq!(stop.deadline(), Some(start + Duration::from_secs(5)));
        stop.again(start, 60);
        stop.again(start, -1);
        assert_eq!(stop.deadline(), Some(start + Duration::from_secs(5)));
    }
}
