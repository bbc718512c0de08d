//! What commands ask for, and what clients send once they are attached.
//!
//! Events of verbs are published by the engine's verbs; here are those that only the monitor can know of.

use std::time::Instant;

use ketch_engine::container::control::{AttachStreams, ExecConfig, Reply, Request};
use ketch_engine::container::state::Status;
use ketch_engine::container::stream::Frame;
use ketch_engine::event::Event;
use ketch_engine::{Error, ErrorKind, Result};
use rustix::process::Signal;

use crate::client::{Awaited, Client, Role, Target};
use crate::monitor::{Monitor, Removal};
use crate::stop::{DEFAULT_TIMEOUT_S, Stop};

/// Signals by which a user means that it should end, and stay so whatever its restart policy is; besides its own stop
/// signal.
const ENDING_SIGNALS: [Signal; 4] = [Signal::KILL, Signal::TERM, Signal::INT, Signal::QUIT];

/// What becomes of a request.
enum Outcome {
    /// The reply, and no more.
    Reply(Reply),
    /// The reply comes later.
    Wait(Awaited),
    /// `Ok`, then frames.
    Attach(Target, AttachStreams),
}

impl Monitor {
    /// Deals with a request line of a client.
    pub fn request(&mut self, id: u64, line: &[u8]) {
        let outcome = match serde_json::from_slice::<Request>(line) {
            Ok(request) => self.answer(request),
            Err(error) => Err(Error::caused(ErrorKind::Invalid, "not a request", &error)),
        };
        let Some(client) = self.control.client(id) else {
            return;
        };
        match outcome {
            Ok(Outcome::Reply(reply)) => client.reply_and_leave(&reply),
            Ok(Outcome::Wait(awaited)) => client.role = Role::Waiting(awaited),
            Ok(Outcome::Attach(target, streams)) => {
                client.reply(&Reply::Ok);
                client.role = Role::Attached { target, streams };
            }
            Err(error) => client.reply_and_leave(&Reply::Failed(error)),
        }
    }

    /// A client that sent what none sends.
    pub fn refuse(&mut self, id: u64, reason: &str) {
        let error = Error::new(ErrorKind::Invalid, format!("not a request: {reason}"));
        if let Some(client) = self.control.client(id) {
            client.reply_and_leave(&Reply::Failed(error));
        }
    }

    fn answer(&mut self, request: Request) -> Result<Outcome> {
        let done = || Outcome::Reply(Reply::Ok);
        match request {
            Request::Attach(streams) => self.attach(streams),
            Request::Exec(config) => self.exec(config),
            Request::Kill { signal } => self.kill(signal).map(|()| done()),
            Request::Stop {
                signal,
                timeout_s,
                keep,
            } => {
                self.keep |= keep;
                self.stop(signal, timeout_s)
            }
            Request::Wait => Ok(Outcome::Wait(Awaited::Exit)),
            Request::Pause => self.pause().map(|()| done()),
            Request::Unpause => self.unpause().map(|()| done()),
            Request::Resize { rows, columns } => self.resize(rows, columns).map(|()| done()),
            Request::Rename { name } => self.rename(&name).map(|()| done()),
            Request::NetworkConnect(endpoint) => self.connect(endpoint).map(|()| done()),
            Request::NetworkDisconnect { network } => self.disconnect(&network).map(|()| done()),
            Request::Remove { force, volumes } => self.remove(force, volumes),
        }
    }

    fn attach(&mut self, streams: AttachStreams) -> Result<Outcome> {
        if self.run.is_none() {
            return Err(self.is_restarting());
        }
        if self.state.status == Status::Paused {
            let message = "You cannot attach to a paused container, unpause it first";
            return Err(Error::new(ErrorKind::Conflict, message));
        }
        self.publish(Event::now("container", "attach", self.id.as_str()));
        Ok(Outcome::Attach(Target::Init, streams))
    }

    fn exec(&mut self, config: ExecConfig) -> Result<Outcome> {
        match (&self.run, self.state.status) {
            (None, _) => return Err(self.is_restarting()),
            (Some(_), Status::Paused) => {
                let message = format!(
                    "Container {} is paused, unpause the container before exec",
                    self.id
                );
                return Err(Error::new(ErrorKind::Conflict, message));
            }
            (Some(_), _) => {}
        }
        let (detach, stdin) = (config.detach, config.stdin);
        let session = self.start_session(&config)?;
        if detach {
            return Ok(Outcome::Reply(Reply::Ok));
        }
        Ok(Outcome::Attach(
            Target::Session(session),
            AttachStreams {
                stdin,
                stdout: true,
                stderr: true,
            },
        ))
    }

    fn kill(&mut self, signal: i32) -> Result<()> {
        let is_kill = signal == Signal::KILL.as_raw();
        let ends_it = signal == self.stop_signal()
            || ENDING_SIGNALS
                .iter()
                .any(|ending| ending.as_raw() == signal);
        // A user who kills it does not want it back.
        self.stopping |= ends_it;
        self.state.stopped_by_user |= ends_it;
        let Some(run) = &self.run else {
            // Between two runs there is nothing to signal; the waiting ends if that was the wish.
            return if ends_it {
                Ok(())
            } else {
                Err(self.is_restarting())
            };
        };
        run.signal(signal).map_err(|error| {
            Error::caused(
                ErrorKind::Internal,
                format!("Cannot kill container {}", self.id),
                &error,
            )
        })?;
        if is_kill && self.state.status == Status::Paused {
            self.unpause()?;
        }
        Ok(())
    }

    fn stop(&mut self, signal: Option<i32>, timeout_s: Option<i64>) -> Result<Outcome> {
        self.state.stopped_by_user = true;
        self.begin_stop(signal, timeout_s)?;
        Ok(Outcome::Wait(Awaited::Exit))
    }

    /// The machine goes down, or somebody ended the monitor: the container stops, but no user wanted it to.
    pub fn stop_for_shutdown(&mut self) {
        if let Err(error) = self.begin_stop(None, None) {
            self.note(&error);
        }
    }

    fn begin_stop(&mut self, signal: Option<i32>, timeout_s: Option<i64>) -> Result<()> {
        self.stopping = true;
        let timeout_s = timeout_s
            .or(self.config.stop_timeout_s)
            .unwrap_or(DEFAULT_TIMEOUT_S);
        let signal = signal.unwrap_or_else(|| self.stop_signal());
        let now = Instant::now();
        let Some(run) = self.run.as_mut() else {
            return Ok(());
        };
        match &mut run.stop {
            Some(stop) => stop.again(now, timeout_s),
            none => *none = Some(Stop::begin(now, timeout_s)),
        }
        run.signal(signal).map_err(|error| {
            Error::caused(
                ErrorKind::Internal,
                format!("cannot stop container: {}", self.id),
                &error,
            )
        })?;
        self.publish(
            Event::now("container", "kill", self.id.as_str()).with("signal", signal.to_string()),
        );
        if self.state.status == Status::Paused {
            // A frozen process cannot obey.
            self.unpause()?;
        }
        Ok(())
    }

    fn stop_signal(&self) -> i32 {
        let configured = self
            .config
            .stop_signal
            .as_deref()
            .and_then(|name| ketch_spec::signal::parse(name).ok());
        configured.unwrap_or(Signal::TERM.as_raw())
    }

    fn pause(&mut self) -> Result<()> {
        if self.state.status == Status::Paused {
            return Err(Error::new(
                ErrorKind::Conflict,
                format!("Container {} is already paused", self.id),
            ));
        }
        let Some(run) = self.run.as_mut() else {
            return Err(self.is_restarting());
        };
        run.made.cgroup().freeze().map_err(|error| {
            Error::caused(
                ErrorKind::Internal,
                format!("Cannot pause container {}", self.id),
                &error,
            )
        })?;
        if let Some(health) = &mut run.health {
            health.suspend();
        }
        self.state.status = Status::Paused;
        self.commit()
    }

    fn unpause(&mut self) -> Result<()> {
        if self.state.status != Status::Paused {
            return Err(Error::new(
                ErrorKind::Conflict,
                format!("Container {} is not paused", self.id),
            ));
        }
        let Some(run) = self.run.as_mut() else {
            return Err(self.is_restarting());
        };
        run.made.cgroup().thaw().map_err(|error| {
            Error::caused(
                ErrorKind::Internal,
                format!("Cannot unpause container {}", self.id),
                &error,
            )
        })?;
        if let Some(health) = &mut run.health {
            health.resume(Instant::now());
        }
        self.state.status = Status::Running;
        self.commit()
    }

    fn resize(&mut self, rows: u16, columns: u16) -> Result<()> {
        let Some(run) = &self.run else {
            return Err(self.is_restarting());
        };
        run.streams.resize(rows, columns).map_err(|error| {
            Error::caused(ErrorKind::Internal, "cannot resize the terminal", &error)
        })
    }

    fn remove(&mut self, force: bool, volumes: bool) -> Result<Outcome> {
        if !force {
            let (state, advice) = match self.state.status {
                Status::Paused => ("paused and must be unpaused first", ""),
                Status::Restarting => (
                    "restarting",
                    ": stop the container before removing or force remove",
                ),
                _ => (
                    "running",
                    ": stop the container before removing or force remove",
                ),
            };
            let message = format!(
                "cannot remove container \"/{}\": container is {state}{advice}",
                self.config.name
            );
            return Err(Error::new(ErrorKind::Conflict, message));
        }
        self.removal = Some(Removal {
            volumes: volumes || self.removal.is_some_and(|removal| removal.volumes),
        });
        self.kill(Signal::KILL.as_raw())?;
        Ok(Outcome::Wait(Awaited::Removal))
    }

    /// A frame of an attached client.
    pub fn frame(&mut self, id: u64, frame: Frame) {
        let Some(Role::Attached { target, streams }) =
            self.control.client(id).map(|client| &client.role)
        else {
            return;
        };
        let (target, stdin) = (*target, streams.stdin);
        match frame {
            Frame::Stdin(bytes) if stdin => {
                if let Some(streams) = self.streams(target) {
                    streams.feed(&bytes);
                }
            }
            Frame::StdinEnd if stdin => self.end_input(target),
            Frame::Resize { rows, columns } => {
                // A client may resize what has no terminal any more: nothing is lost by that.
                let _ = self
                    .streams(target)
                    .map(|streams| streams.resize(rows, columns));
            }
            Frame::Signal(signal) => self.signal_target(target, signal),
            Frame::Stdin(_) | Frame::StdinEnd => {}
            Frame::Stdout(_) | Frame::Stderr(_) | Frame::Exit(_) => {
                self.refuse(id, "a frame of the other direction")
            }
        }
    }

    fn signal_target(&mut self, target: Target, signal: i32) {
        let result = match target {
            Target::Init => self.kill(signal),
            Target::Session(session) => {
                match self.run.as_mut().and_then(|run| run.session(session)) {
                    Some(session) => session.process.kill(signal).map_err(|error| {
                        Error::caused(ErrorKind::Internal, "cannot signal an exec session", &error)
                    }),
                    None => Ok(()),
                }
            }
        };
        if let Err(error) = result {
            self.note(&error);
        }
    }

    /// Input of a target ends, where its kind of standard input has an end.
    fn end_input(&mut self, target: Target) {
        let ends = match target {
            // Without `stdin_once`, another client may come and feed it.
            Target::Init => self.config.process.stdin_once,
            Target::Session(_) => true,
        };
        if let Some(streams) = self.streams(target).filter(|_| ends) {
            streams.end_input();
        }
    }

    /// The sending direction of a client has ended.
    pub fn input_ended(&mut self, id: u64) {
        let Some(client) = self.control.client(id) else {
            return;
        };
        match &client.role {
            Role::Attached { target, streams } => {
                let (target, stdin) = (*target, streams.stdin);
                if stdin {
                    self.end_input(target);
                }
            }
            // It asked nothing, or does not wait for the answer any more.
            Role::Asking | Role::Waiting(_) => client.set_gone(),
            Role::Leaving => {}
        }
    }

    /// A client is gone for good.
    pub fn client_left(&mut self, client: &Client) {
        if let Role::Attached { target, streams } = &client.role {
            if streams.stdin {
                self.end_input(*target);
            }
            if *target == Target::Init {
                self.publish(Event::now("container", "detach", self.id.as_str()));
                // Its builder is gone: nobody else knows of a build step's container, or wants what it makes.
                if self.config.hidden && self.run.is_some() {
                    let _ = self.remove(true, true);
                }
            }
        }
    }

    fn is_restarting(&self) -> Error {
        let message = format!(
            "Container {} is restarting, wait until the container is running",
            self.id
        );
        Error::new(ErrorKind::Conflict, message)
    }
}
