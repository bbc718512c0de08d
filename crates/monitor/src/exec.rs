//! Exec sessions of a run: begin and end. Health checks are sessions too.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

use jiff::Timestamp;
use ketch_engine::container::control::ExecConfig;
use ketch_engine::container::state::ExitRecord;
use ketch_engine::container::{apparmor, spec, user};
use ketch_engine::event::Event;
use ketch_engine::{Error, ErrorKind, Result};
use ketch_runtime::{ExecOptions, Lifetime, Stdio, WindowSize};
use rustix::fs::{Mode, OFlags};
use rustix::process::Signal;

use crate::client::Target;
use crate::health::Action;
use crate::log_line::Stream;
use crate::monitor::Monitor;
use crate::process_streams::{self, Output, Wiring};
use crate::session::{MAX_SESSIONS, Purpose, Session};
use crate::start_failure::runtime_error;

impl Monitor {
    /// Starts a command's session; gives its number.
    ///
    /// # Errors
    /// In Docker's words where the program or the user is not there; `Unavailable` with too many sessions.
    pub fn start_session(&mut self, config: &ExecConfig) -> Result<u64> {
        let words = config.command.join(" ");
        self.publish(Event::now(
            "container",
            &format!("exec_create: {words}"),
            self.id.as_str(),
        ));
        let streams = match (config.tty, config.detach) {
            (true, _) => Wiring::Terminal,
            (false, detach) => Wiring::Pipes {
                stdin: config.stdin && !detach,
                output: !detach,
            },
        };
        let event = Event::now(
            "container",
            &format!("exec_start: {words}"),
            self.id.as_str(),
        );
        let session = self.spawn(config, streams, Purpose::Command)?;
        self.publish(event);
        Ok(session)
    }

    fn spawn(&mut self, config: &ExecConfig, wiring: Wiring, purpose: Purpose) -> Result<u64> {
        let Some(run) = self.run.as_mut() else {
            return Err(Error::new(
                ErrorKind::Conflict,
                format!("container {} is not running", self.id),
            ));
        };
        if run.sessions.len() >= MAX_SESSIONS {
            let message = format!(
                "container {} has {MAX_SESSIONS} exec sessions already",
                self.id
            );
            return Err(Error::new(ErrorKind::Unavailable, message));
        }
        let failed = |errno: rustix::io::Errno| {
            Error::caused(ErrorKind::Internal, "cannot start an exec session", &errno)
        };
        let root = root_of(run.made.container().pid()).map_err(failed)?;
        // Docker joins the container's supplementary groups only where the user is the container's own.
        let own_user = config.user.is_none();
        let name = config.user.as_deref().unwrap_or(&self.config.process.user);
        let groups: &[String] = if own_user {
            &self.config.process.groups
        } else {
            &[]
        };
        let user = user::resolve(root.as_fd(), name, groups)?;
        let profile = apparmor::profile(&self.config.security)?;
        let process = spec::exec_process(&self.config, config, &user, profile)?;
        let (mut streams, ends) = process_streams::make(wiring).map_err(failed)?;
        let stdio = match ends {
            Some(ends) => Stdio::Files {
                stdin: ends.stdin,
                stdout: ends.stdout,
                stderr: ends.stderr,
            },
            None => Stdio::Terminal {
                size: config
                    .size
                    .map(|(rows, columns)| WindowSize { rows, columns }),
            },
        };
        let options = ExecOptions {
            target: run.made.container().pidfd(),
            process: &process,
            cgroup: Some(run.made.cgroup()),
            stdio,
            preserve_fds: 0,
            seccomp: run.made.filter().filter(|_| !config.privileged),
            agent: run.made.agent().cloned(),
            lifetime: Lifetime::Parents,
            resctrl: None,
        };
        let mut process = ketch_runtime::exec(options).map_err(|error| runtime_error(&error))?;
        if let Some(console) = process.take_console() {
            streams.set_console(console).map_err(failed)?;
        }
        let id = run.next_session;
        run.next_session += 1;
        run.sessions.push(Session {
            id,
            purpose,
            process,
            streams,
        });
        Ok(id)
    }

    /// A session's process has ended: what it wrote is passed on, its clients hear of it.
    ///
    /// Its descendants may hold its pipes open for as long as they like; what they write after this is nobody's.
    pub fn session_ended(&mut self, id: u64, exit: &ExitRecord) {
        let target = Target::Session(id);
        for stream in [Stream::Stdout, Stream::Stderr] {
            while let Output::Bytes(_) = self.pass_output(target, stream) {}
        }
        self.control.end_target(target, exit);
        let Some(run) = self.run.as_mut() else { return };
        let Some(at) = run.sessions.iter().position(|session| session.id == id) else {
            return;
        };
        match run.sessions.swap_remove(at).purpose {
            Purpose::Probe { output } => self.probe_ended(exit.code, &output),
            Purpose::Command => {
                let event = Event::now("container", "exec_die", self.id.as_str());
                self.publish(event.with("exitCode", exit.code.to_string()));
            }
        }
    }

    /// Starts or abandons a health check if it is time.
    pub fn health_timer(&mut self, now: Instant) {
        let Some(run) = self.run.as_mut() else { return };
        let Some(health) = &run.health else { return };
        match health.action(now) {
            Action::Wait => {}
            Action::Probe => self.start_probe(now),
            Action::Abandon => {
                // Its end is of no interest any more: the verdict is out. It is collected when it comes.
                if let Some(probe) = run.sessions.iter_mut().find(|session| session.is_probe()) {
                    let _ = probe.process.kill(Signal::KILL.as_raw());
                    probe.purpose = Purpose::Command;
                }
                let changed = run
                    .health
                    .as_mut()
                    .is_some_and(|health| health.timed_out(now, Timestamp::now()));
                self.record_health(changed);
            }
        }
    }

    fn start_probe(&mut self, now: Instant) {
        let Some(health) = self.run.as_mut().and_then(|run| run.health.as_mut()) else {
            return;
        };
        health.started(now, Timestamp::now());
        let config = ExecConfig {
            command: health.command().to_vec(),
            ..ExecConfig::default()
        };
        let wiring = Wiring::Pipes {
            stdin: false,
            output: true,
        };
        if let Err(error) = self.spawn(&config, wiring, Purpose::Probe { output: Vec::new() }) {
            self.probe_ended(-1, error.to_string().as_bytes());
        }
    }

    fn probe_ended(&mut self, code: i32, output: &[u8]) {
        let health = self.run.as_mut().and_then(|run| run.health.as_mut());
        let changed = health
            .is_some_and(|health| health.finished(Instant::now(), Timestamp::now(), code, output));
        self.record_health(changed);
    }

    fn record_health(&mut self, changed: bool) {
        let Some(health) = self.run.as_ref().and_then(|run| run.health.as_ref()) else {
            return;
        };
        self.state.health = Some(health.state().clone());
        let verdict = health.state().status;
        // A verdict that a power cut takes away is made anew at the next start: no fsync.
        if let Err(error) = self.commit_volatile() {
            self.note(&error);
        }
        if changed {
            let action = format!("health_status: {}", crate::health::verdict_name(verdict));
            self.publish(Event::now("container", &action, self.id.as_str()));
        }
    }
}

/// The container's root as its init sees it. Init is our child and not collected yet: its number is still its own.
fn root_of(pid: u32) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(format!("/proc/{pid}/root"), flags, Mode::empty())
}
