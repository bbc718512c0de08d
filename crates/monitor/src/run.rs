//! One run of the container: from its init's start to its end.

use std::time::Instant;

use ketch_runtime::Exit;

use crate::bring_up::Made;
use crate::health::Health;
use crate::log::Log;
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

impl Run {
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
