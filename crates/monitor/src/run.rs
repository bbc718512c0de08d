//! One run of the container: from its init's start to its end.

use std::time::Instant;

use ketch_runtime::Exit;

use crate::health::Health;
use crate::log::Log;
use crate::made::Made;
use crate::oom::Kills;
use crate::process_streams::ProcessStreams;
use crate::session::Session;
use crate::stop::Stop;

/// A run.
pub struct Run {
    /// What bring-up made, and tear-down takes apart: the processes, the cgroup, the network.
    pub made: Made,
    /// Init's standard streams.
    pub streams: ProcessStreams,
    /// Where its output goes.
    pub log: Log,
    /// Processes beside init.
    pub sessions: Vec<Session>,
    /// Number of the next of them.
    pub next_session: u64,
    /// A stop under way.
    pub stop: Option<Stop>,
    /// Health checks.
    pub health: Option<Health>,
    /// Out-of-memory kills.
    pub kills: Kills,
    /// When it began.
    pub began: Instant,
    /// How init ended.
    pub ended: Option<Exit>,
}

/// What bring-up gives to a run besides what it made in the kernel.
pub struct Started {
    /// Init's standard streams.
    pub streams: ProcessStreams,
    /// Where its output goes.
    pub log: Log,
    /// Health checks.
    pub health: Option<Health>,
    /// When its program was executed.
    pub began: Instant,
}

impl Run {
    /// A run that has just begun.
    pub fn new(made: Made, started: Started) -> Self {
        let Started {
            streams,
            log,
            health,
            began,
        } = started;
        Self {
            made,
            streams,
            log,
            sessions: Vec::new(),
            next_session: 1,
            stop: None,
            health,
            kills: Kills::default(),
            began,
            ended: None,
        }
    }

    /// Sends `signal` to init. One that has ended already is no error.
    ///
    /// # Errors
    /// A number that is no signal; those of pidfd_send_signal(2).
    pub fn signal(&self, signal: i32) -> ketch_runtime::Result<()> {
        self.made.container().kill(signal)
    }

    /// Earliest time at which something is due in this run.
    pub fn deadline(&self) -> Option<Instant> {
        let stop = self.stop.as_ref().and_then(Stop::deadline);
        let health = self.health.as_ref().and_then(Health::deadline);
        stop.into_iter().chain(health).min()
    }

    /// The exec session with this number.
    pub fn session(&mut self, id: u64) -> Option<&mut Session> {
        self.sessions.iter_mut().find(|session| session.id == id)
    }
}
