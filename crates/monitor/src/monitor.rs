//! The monitor of one container, from its first act (taking over the owner lock) to its last (letting go of it).
//!
//! ```text
//!            bring up            init ends                policy says no
//! start ───────────────> running ────────> tear down ───────────────────> remove? ──> unlock, last replies
//!    │ fails                ^                  │ policy says yes
//!    └─> undo, report       └── restarting <───┘
//!                              (the control socket answers; a stop ends the waiting)
//! ```

use std::fs::DirBuilder;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use ketch_engine::container::config::ContainerConfig;
use ketch_engine::container::load;
use ketch_engine::container::state::{ContainerState, ExitRecord, Status};
use ketch_engine::container::{AttachStreams, SecretEnv};
use ketch_engine::event::{self, Event};
use ketch_engine::layer::LayerUse;
use ketch_engine::lock::OwnerLock;
use ketch_engine::{Engine, EngineOptions, Error, ErrorKind, Result, container, record};
use ketch_network::{IdleBridge, RetiredBridge};
use ketch_runtime::Container;
use ketch_spec::Id;
use ketch_sys::poll::SignalFd;
use rustix::process::Signal;

use crate::arguments::Arguments;
use crate::control::Control;
use crate::last_words::{self, LastWords, Leftovers};
use crate::leave;
use crate::restart::{Restarts, Verdict};
use crate::run::Run;
use crate::start_failure::StartFailure;
use crate::status::Status as StatusSocket;

/// What the monitor listens to itself.
const SIGNALS: [Signal; 4] = [Signal::TERM, Signal::INT, Signal::QUIT, Signal::HUP];
/// Chores that nobody waits for are done so long after a start: a short run is over without them.
const CHORES_AFTER: Duration = Duration::from_secs(1);

/// A wish to have the container removed when it has exited.
#[derive(Debug, Clone, Copy)]
pub struct Removal {
    /// Its anonymous volumes too.
    pub volumes: bool,
}

/// The monitor.
pub struct Monitor {
    /// The engine's files.
    pub engine: Engine,
    /// The container.
    pub id: Id,
    /// What the user asked for.
    pub config: ContainerConfig,
    /// Variables of its environment that are in no record.
    pub secrets: SecretEnv,
    /// What is.
    pub state: ContainerState,
    /// Signals to ourselves.
    pub signals: SignalFd,
    /// Connections of commands.
    pub control: Control,
    /// The run under way.
    pub run: Option<Run>,
    /// Somebody wants it to stay down.
    pub stopping: bool,
    /// It is about to be started again by whoever stops it: a `--rm` container stays at this exit.
    pub keep: bool,
    /// Somebody wants it removed.
    pub removal: Option<Removal>,
    /// Terminal size at the start of a run: rows, columns.
    pub size: Option<(u16, u16)>,
    /// Bridges of networks that nobody is in any more: deleting them takes tens of milliseconds.
    pub retired: Vec<RetiredBridge>,
    /// Bridges of networks that were empty when a run left them; the next run may use them again.
    pub idle: Vec<IdleBridge>,
    /// The mounts of the last run, if they are to be taken down after everything else.
    pub mounts: Option<Container>,
    /// The image's layers, in use from the first run to the end.
    pub layers: Option<LayerUse>,
    /// For reads; one for all of them.
    pub buffer: Vec<u8>,
    restarts: Restarts,
    chores_at: Option<Instant>,
    /// The mount we were executed from, to be let go of when nobody waits.
    program: OwnedFd,
    lock: OwnerLock,
}

impl Monitor {
    /// Makes ready to run the container, whose owner lock the starting command has handed over.
    ///
    /// # Errors
    /// `NotFound` if it is gone; damaged records; the file system's.
    pub fn new(arguments: &Arguments, lock: OwnerLock, program: OwnedFd) -> Result<Self> {
        let engine = Engine::open(EngineOptions {
            data_root: arguments.data_root.clone(),
            run_root: arguments.run_root.clone(),
            executable: arguments.executable.clone(),
            registry_config: None,
            layer_forms: Default::default(),
        })?;
        let id = arguments.id.clone();
        let (config, state) = load::load_record(&engine, &id)?;
        let failed = |error: &(dyn std::error::Error + 'static)| {
            Error::caused(
                ErrorKind::Internal,
                format!("cannot make ready to run container {}", id.short()),
                error,
            )
        };
        let run_dir = engine.paths().run_dir(&id);
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(run_dir)
            .map_err(|error| failed(&error))?;
        let control =
            Control::bind(&engine.paths().control_socket(&id)).map_err(|error| failed(&error))?;
        let signals =
            SignalFd::new(&SIGNALS.map(Signal::as_raw)).map_err(|error| failed(&error))?;
        Ok(Self {
            restarts: Restarts::new(config.restart),
            engine,
            id,
            config,
            secrets: SecretEnv::default(),
            state,
            signals,
            control,
            run: None,
            stopping: false,
            keep: false,
            removal: None,
            size: arguments.size,
            retired: Vec::new(),
            idle: Vec::new(),
            mounts: None,
            layers: None,
            buffer: vec![0; 16 * 1024],
            chores_at: None,
            program,
            lock,
        })
    }

    /// Adds the client that the starting command handed over.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn adopt(&mut self, socket: UnixStream, streams: AttachStreams) -> Result<()> {
        self.control.adopt(socket, streams).map_err(|error| {
            Error::caused(
                ErrorKind::Internal,
                "cannot attach the starting command",
                &error,
            )
        })
    }

    /// Runs the container to the end of its last run. What is left has no lock any more.
    pub fn supervise(mut self, status: StatusSocket) -> (LastWords, bool) {
        self.state.restart_count = 0;
        self.state.stopped_by_user = false;
        self.state.health = None;
        if let Err(failure) = self.start() {
            let error = self.record_failed_start(failure);
            let (words, removed) = self.end(None);
            status.failed(error_of_start(error, removed));
            return (words, false);
        }
        status.ready();
        let (mut exit, mut ran) = self.run_to_its_end();
        loop {
            let down = self.stopping || self.removal.is_some();
            let Verdict::Restart { after } = self.restarts.after_exit(exit.code, ran, down) else {
                break;
            };
            self.wait_between_runs(&exit, after);
            if self.stopping || self.removal.is_some() {
                break;
            }
            (exit, ran) = match self.start() {
                Ok(()) => self.run_to_its_end(),
                // Not the end: what was in the way may have gone by the next time.
                Err(failure) => (failure.exit_record(), Duration::ZERO),
            };
        }
        self.record_exit(Status::Exited, &exit);
        (self.end(Some(exit)).0, true)
    }

    /// Turns until init has ended, and takes the run apart.
    fn run_to_its_end(&mut self) -> (ExitRecord, Duration) {
        self.chores_at = Some(Instant::now() + CHORES_AFTER);
        let mut lost = None;
        while self.run.as_ref().is_some_and(|run| run.ended.is_none()) {
            let until = self.run.as_ref().and_then(Run::deadline);
            let until = until.into_iter().chain(self.chores_at).min();
            if let Err(error) = self.turn(until) {
                lost = Some(error);
                break;
            }
        }
        let ran = self
            .run
            .as_ref()
            .map_or(Duration::ZERO, |run| run.began.elapsed());
        (self.tear_down(lost), ran)
    }

    /// What is due by the clock.
    pub fn timers(&mut self, now: Instant) {
        if self.chores_at.is_some_and(|at| at <= now) {
            self.chores_at = None;
            leave::leave_cgroup();
            self.delete_retired();
            if let Some(run) = self.run.as_mut() {
                run.kills.watch(run.made.cgroup());
            }
            ketch_sys::memory::release();
        }
        let Some(run) = self.run.as_mut() else { return };
        if run.stop.as_mut().is_some_and(|stop| stop.kill_due(now))
            && let Err(error) = run.signal(Signal::KILL.as_raw())
        {
            let error = Error::caused(ErrorKind::Internal, "cannot kill the container", &error);
            self.note(&error);
        }
        self.health_timer(now);
    }

    /// Deletes the bridges that nobody uses any more. What fails here is swept up with the next one.
    fn delete_retired(&mut self) {
        for bridge in self.retired.drain(..) {
            let _ = bridge.delete();
        }
    }

    /// The pause before a restart: commands are answered, and a stop ends it.
    fn wait_between_runs(&mut self, exit: &ExitRecord, after: Duration) {
        self.state.restart_count = self.restarts.count();
        self.record_exit(Status::Restarting, exit);
        last_words::tell_exit(&mut self.control, exit);
        let until = Instant::now() + after;
        while !self.stopping && self.removal.is_none() && Instant::now() < until {
            if self.turn(Some(until)).is_err() {
                self.stopping = true;
            }
        }
    }

    /// Commit point of an exit: the state record with the exit in it.
    fn record_exit(&mut self, status: Status, exit: &ExitRecord) {
        self.state.status = status;
        self.state.exit = Some(exit.clone());
        self.state.pid = 0;
        self.state.cgroup = None;
        self.state.endpoints.clear();
        self.state.ports.clear();
        if status == Status::Exited && self.will_be_removed().is_some() {
            // The removal is the commit point then: one write less in the way of `run --rm`. Killed in between, the
            // next command finds "running" and a free lock, and removes it as well.
            return;
        }
        if let Err(error) = self.commit() {
            // The disk is full: the next command finds "running" and a free lock, and recovers.
            self.publish(
                Event::now("container", "error", self.id.as_str()).with("error", error.to_string()),
            );
        }
    }

    /// A start that failed: the container stays what it was, with the reason in its record.
    fn record_failed_start(&mut self, failure: StartFailure) -> Error {
        self.state.exit = Some(failure.exit_record());
        self.state.pid = 0;
        self.state.cgroup = None;
        self.state.endpoints.clear();
        self.state.ports.clear();
        if self.will_be_removed().is_none()
            && let Err(error) = self.commit()
        {
            return failure
                .error
                .hint(format!("its state could not be recorded: {error}"));
        }
        failure.error
    }

    /// Whether the container goes at the end, and how.
    pub fn will_be_removed(&self) -> Option<Removal> {
        let automatic = (self.config.auto_remove && !self.keep) || self.config.hidden;
        self.removal
            .or(automatic.then_some(Removal { volumes: true }))
    }

    /// The end: removal if wished, then the control socket, then the lock; whoever waits hears of it after that, so
    /// that the next command never meets us.
    fn end(self, exit: Option<ExitRecord>) -> (LastWords, Result<()>) {
        let removal = self.will_be_removed();
        let removed = match removal {
            Some(removal) => container::remove::commit(&self.engine, &self.config, removal.volumes),
            None => Ok(()),
        };
        let clients = self.control.close();
        // Not empty, or gone already: either way there is nothing more of ours in it.
        let _ = std::fs::remove_dir_all(self.engine.paths().run_dir(&self.id));
        drop(self.lock);
        let words = LastWords::new(
            clients,
            Leftovers {
                mounts: self.mounts,
                layers: self.layers,
                program: Some(self.program),
                bridges: self.retired,
                idle: self.idle,
            },
            exit,
            removal.is_some().then(|| removed.clone()),
        );
        (words, removed)
    }

    /// Replaces the state record.
    ///
    /// # Errors
    /// Input and output.
    pub fn commit(&self) -> Result<()> {
        load::write_state(&self.engine, &self.config, &self.state)
    }

    /// The same, for what need not outlive a power cut.
    ///
    /// # Errors
    /// Input and output.
    pub fn commit_volatile(&self) -> Result<()> {
        let path = self.engine.paths().container_state(&self.id);
        Ok(record::write(
            &path,
            &self.state,
            record::Durability::Volatile,
        )?)
    }

    /// Tells the world of something about this container.
    pub fn publish(&self, event: Event) {
        let event = event
            .with("name", self.config.name.as_str())
            .with("image", self.config.image.reference.as_str());
        self.publish_plain(event);
    }

    /// Tells the world. A world that cannot be told is no reason to stop.
    pub fn publish_plain(&self, event: Event) {
        if !self.config.hidden {
            let _ = event::publish(&self.engine, &event);
        }
    }

    /// Says in the container's log what went wrong in the monitor: it has no other place, and nobody is told twice.
    pub fn note(&mut self, error: &Error) {
        if let Some(run) = self.run.as_mut() {
            run.log.note(&error.to_string(), jiff::Timestamp::now());
        }
    }
}

fn error_of_start(error: Error, removed: Result<()>) -> Error {
    match removed {
        Ok(()) => error,
        Err(removal) => error.hint(format!("it could not be removed either: {removal}")),
    }
}
