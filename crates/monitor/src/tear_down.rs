//! The end of a run: what is left of its output, then the undos in reverse order, then the record of how it ended.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use ketch_engine::Error;
use ketch_engine::container::config::NamespaceMode;
use ketch_engine::container::state::ExitRecord;
use ketch_engine::event::Event;
use ketch_runtime::Exit;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::Signal;

use crate::client::Target;
use crate::log_line::Stream;
use crate::monitor::Monitor;
use crate::networks;
use crate::process_streams::Output;
use crate::session::exit_record;

/// How long the end of output is waited for when every process is dead: it comes at once, but for a process that the
/// kernel cannot end.
const DRAIN_LIMIT: Duration = Duration::from_secs(2);

/// What is recorded of a process whose own ending cannot be had.
const KILLED: Exit = Exit::Signal(Signal::KILL.as_raw());

impl Monitor {
    /// Takes the run apart and says how it ended. `lost` is why the monitor itself gave it up, if it did.
    pub fn tear_down(&mut self, lost: Option<Error>) -> ExitRecord {
        let ending = self.end_processes();
        self.drain();
        let Some(mut run) = self.run.take() else {
            return exit_record(KILLED, Timestamp::now());
        };
        let now = Timestamp::now();
        run.log.finish(now);
        let mut exit = exit_record(ending, now);
        exit.out_of_memory = run.kills.any(run.made.cgroup());
        let stopped = run.stop.is_some();
        drop(run.streams);
        let left: Vec<Event> = run
            .made
            .joined
            .iter()
            .map(|j| networks::event("disconnect", &self.config, &j.network))
            .collect();
        let remains = run.made.undo(&self.config);
        self.idle.extend(remains.idle);
        if self.will_be_removed().is_some() {
            // Taking the mounts down waits for the kernel: not before those who wait for us have heard the end.
            self.mounts = remains.container;
        }
        let reasons: Vec<String> = lost
            .iter()
            .chain(&remains.errors)
            .map(ToString::to_string)
            .collect();
        exit.error = reasons.join("; ");
        let die = Event::now("container", "die", self.id.as_str())
            .with("exitCode", exit.code.to_string());
        self.publish(die);
        if stopped {
            self.publish(Event::now("container", "stop", self.id.as_str()));
        }
        for event in left {
            self.publish_plain(event);
        }
        exit
    }

    /// Sees that nothing of the container runs any more.
    fn end_processes(&mut self) -> Exit {
        let Some(run) = self.run.as_mut() else {
            return KILLED;
        };
        let shares_processes = self.config.namespaces.pid != NamespaceMode::Private;
        if run.ended.is_none() || shares_processes {
            // With a process namespace of its own the kernel has ended all with init. Otherwise they go with it here.
            let _ = run.made.cgroup().kill();
        }
        let ending = match run.ended {
            Some(ending) => ending,
            None => {
                let _ = run.signal(Signal::KILL.as_raw());
                run.made.container_mut().wait().unwrap_or(KILLED)
            }
        };
        run.ended = Some(ending);
        let sessions: Vec<u64> = run.sessions.iter().map(|session| session.id).collect();
        for id in sessions {
            let Some(session) = self.run.as_mut().and_then(|run| run.session(id)) else {
                continue;
            };
            // One that joined from outside its process namespace: the kernel has killed it, or does now.
            let _ = session.process.kill(Signal::KILL.as_raw());
            let ending = session.process.wait().unwrap_or(KILLED);
            self.session_ended(id, &exit_record(ending, Timestamp::now()));
        }
        ending
    }

    /// Reads what is left of init's output. Clients take it as it comes: what is left in dead pipes is bounded.
    fn drain(&mut self) {
        let limit = Instant::now() + DRAIN_LIMIT;
        for stream in [Stream::Stdout, Stream::Stderr] {
            loop {
                match self.pass_output(Target::Init, stream) {
                    Output::Bytes(_) => {}
                    Output::End => break,
                    Output::Nothing if !self.wait_for_output(stream, limit) => break,
                    Output::Nothing => {}
                }
            }
        }
    }

    fn wait_for_output(&self, stream: Stream, limit: Instant) -> bool {
        let Some(source) = self.run.as_ref().and_then(|run| run.streams.source(stream)) else {
            return false;
        };
        let left = limit.saturating_duration_since(Instant::now());
        let timeout = Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(0),
            tv_nsec: left.subsec_nanos().into(),
        };
        let mut descriptors = [PollFd::from_borrowed_fd(source, PollFlags::IN)];
        // Interrupted or failed: as good as the time being over, which is checked by the caller's next read.
        poll(&mut descriptors, Some(&timeout)).is_ok_and(|ready| ready > 0)
    }
}
