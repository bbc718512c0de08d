//! The start of a run, step by step, each with an undo in [`Made::undo`].
//!
//! 1. the owner lock (taken before, let go of after everything)
//! 2. the root: the image's layers and the writable layer as a detached mount, attached nowhere on the host
//! 3. what the config leaves open: users, volumes (new ones are filled), namespaces, devices
//! 4. a place in each network: an address is claimed
//! 5. hosts, hostname, resolv.conf: the child mounts them, and they need the addresses
//! 6. the log, the pipes
//! 7. the cgroup and the clone; the child prepares its mounts while we go on
//! 8. links into its network namespace, 9. published ports, 10. the name server
//! 11. execve
//! 12. the state record says running: **commit point**

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use ketch_engine::container::config::{ContainerConfig, NetworkMode};
use ketch_engine::container::files;
use ketch_engine::container::state::{ExitRecord, Status};
use ketch_engine::container::{root, spec};
use ketch_engine::event::Event;
use ketch_engine::network::network_error;
use ketch_engine::{Engine, Error, ErrorKind};
use ketch_network::{Published, RetiredBridge};
use ketch_runtime::cgroup::Cgroup;
use ketch_runtime::seccomp::{self, Program};
use ketch_runtime::{Container, CreateOptions, Rootfs, Stdio, WindowSize};
use ketch_spec::port::PortMapping;
use ketch_spec::runtime::Spec;
use rustix::process::Signal;

use crate::health::Health;
use crate::log::Log;
use crate::monitor::Monitor;
use crate::networks::{self, Joined, Names};
use crate::oom::Kills;
use crate::process_streams::{self, ProcessStreams, Wiring};
use crate::run::Run;

/// How long the last processes of a run may take to leave its cgroup.
const CGROUP_LIMIT: Duration = Duration::from_secs(10);

/// A start that failed.
#[derive(Debug)]
pub struct StartFailure {
    /// What the user is told.
    pub error: Error,
    /// 127: no such program; 126: it cannot be executed; 125: anything else.
    pub code: i32,
}

impl StartFailure {
    /// As the container's record has it.
    pub fn exit_record(&self) -> ExitRecord {
        ExitRecord {
            code: self.code,
            signal: None,
            out_of_memory: false,
            at: Timestamp::now(),
            error: self.error.to_string(),
        }
    }
}

impl From<Error> for StartFailure {
    fn from(error: Error) -> Self {
        Self { error, code: 125 }
    }
}

impl From<ketch_runtime::Error> for StartFailure {
    fn from(error: ketch_runtime::Error) -> Self {
        Self { code: error.exit_code(), error: runtime_error(&error) }
    }
}

/// The runtime's error as the engine's; its text is what users know from runc.
pub fn runtime_error(error: &ketch_runtime::Error) -> Error {
    use ketch_runtime::ErrorKind as Kind;
    let kind = match error.kind() {
        Kind::ProgramNotFound => ErrorKind::NotFound,
        Kind::ProgramNotExecutable => ErrorKind::Forbidden,
        Kind::Invalid => ErrorKind::Invalid,
        Kind::Unsupported => ErrorKind::Unsupported,
        Kind::System => ErrorKind::Internal,
    };
    Error::new(kind, error.to_string())
}

/// What a run has made in the kernel, in the order in which it was made.
#[derive(Default)]
pub struct Made {
    /// Places in networks.
    pub joined: Vec<Joined>,
    cgroup: Option<Cgroup>,
    filter: Option<Program>,
    container: Option<Container>,
    published: Option<Published>,
    names: Option<Names>,
}

impl Made {
    /// The container's processes. There from step 7 to the undo.
    pub fn container(&self) -> &Container {
        self.container.as_ref().expect("a run has a container until it is undone")
    }

    /// The same, to be changed.
    pub fn container_mut(&mut self) -> &mut Container {
        self.container.as_mut().expect("a run has a container until it is undone")
    }

    /// The container's cgroup. There from step 7 to the undo.
    pub fn cgroup(&self) -> &Cgroup {
        self.cgroup.as_ref().expect("a run has a cgroup until it is undone")
    }

    /// The system call filter, if there is one.
    pub fn filter(&self) -> Option<&Program> {
        self.filter.as_ref()
    }

    fn create(
        &mut self,
        engine: &Engine,
        config: &ContainerConfig,
        spec: &Spec,
        root: BorrowedFd<'_>,
        stdio: Stdio,
    ) -> Result<(), ketch_runtime::Error> {
        let linux = spec.linux.as_ref();
        let resources = linux.and_then(|linux| linux.resources.clone()).unwrap_or_default();
        self.cgroup = Some(Cgroup::create(&spec::cgroup_path(&config.id), &resources)?);
        // Kept for exec sessions, which go through the same filter.
        self.filter = linux.and_then(|linux| linux.seccomp.as_ref()).map(seccomp::compile).transpose()?;
        self.container = Some(ketch_runtime::create(CreateOptions {
            spec,
            rootfs: Rootfs::Detached(root),
            bundle: &engine.paths().bundle(&config.id),
            cgroup: self.cgroup.as_ref(),
            stdio,
            preserve_fds: 0,
            seccomp: self.filter.as_ref(),
        })?);
        Ok(())
    }

    /// The container's own network namespace, if it has one.
    fn own_netns(&self, config: &ContainerConfig) -> Result<Option<OwnedFd>, ketch_runtime::Error> {
        match config.network.mode {
            NetworkMode::Bridge | NetworkMode::None => self.container().network_namespace().map(Some),
            NetworkMode::Host | NetworkMode::Container(_) => Ok(None),
        }
    }

    /// Its ports as they are published.
    pub fn ports(&self) -> Vec<PortMapping> {
        self.published.as_ref().map(|published| published.mappings.clone()).unwrap_or_default()
    }

    /// The name server, if the container is in a network that has names.
    pub fn names(&self) -> Option<&Names> {
        self.names.as_ref()
    }

    /// Publishes the ports anew: the address they lead to may be another one now.
    ///
    /// # Errors
    /// A port that is in use, by name; the kernel's refusal.
    pub fn renew_ports(&mut self, config: &ContainerConfig) -> Result<(), Error> {
        if self.published.take().is_some() {
            ketch_network::unpublish(&config.id).map_err(|error| network_error(&error))?;
        }
        self.published = networks::publish(config, &self.joined)?;
        Ok(())
    }

    /// Answers what containers' names were asked for. A server that fails is closed: the container then asks in vain, as
    /// it would with a loop that turns on a broken descriptor.
    ///
    /// # Errors
    /// Why it failed.
    pub fn answer_names(&mut self) -> Result<(), Error> {
        let result = self.names.as_mut().map_or(Ok(()), Names::answer);
        if result.is_err() {
            self.names = None;
        }
        result
    }

    /// Starts the name server, or tells it of the networks there are now.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn renew_names(&mut self, config: &ContainerConfig) -> Result<(), Error> {
        if let Some(names) = &mut self.names {
            names.set_networks(config, &self.joined);
            return Ok(());
        }
        let netns = self.container().network_namespace().map_err(|error| runtime_error(&error))?;
        self.names = Names::serve(config, &self.joined, netns.as_fd())?;
        Ok(())
    }

    /// Takes everything apart in reverse order, and goes on after errors.
    pub fn undo(mut self, config: &ContainerConfig) -> Remains {
        let mut remains = Remains::default();
        drop(self.names.take());
        if self.published.take().is_some()
            && let Err(error) = ketch_network::unpublish(&config.id)
        {
            remains.errors.push(network_error(&error));
        }
        if let Some(mut container) = self.container.take() {
            // Of a start that failed it may still be there.
            let _ = container.kill(Signal::KILL.as_raw());
            let _ = container.wait();
            remains.container = Some(container);
        }
        if let Some(cgroup) = self.cgroup.take()
            && let Err(error) = cgroup.remove(CGROUP_LIMIT)
        {
            remains.errors.push(runtime_error(&error));
        }
        for joined in self.joined.iter().rev() {
            match networks::leave(config, joined) {
                Ok(bridge) => remains.retired.extend(bridge),
                Err(error) => remains.errors.push(error),
            }
        }
        remains
    }
}

/// What is left of a run that was undone.
#[derive(Default)]
pub struct Remains {
    /// What could not be undone.
    pub errors: Vec<Error>,
    /// Bridges that nobody uses any more.
    pub retired: Vec<RetiredBridge>,
    /// The ended container; its mounts go when it is dropped.
    pub container: Option<Container>,
}

impl Monitor {
    /// Starts a run.
    ///
    /// # Errors
    /// What failed; everything before it is undone.
    pub fn start(&mut self) -> Result<(), StartFailure> {
        let mut made = Made::default();
        match self.bring_up(&mut made) {
            Ok((streams, log)) => {
                let began = Instant::now();
                let health = self.config.health.as_ref().and_then(|check| Health::new(check, began));
                self.run = Some(Run {
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
                });
                Ok(())
            }
            Err(mut failure) => {
                let remains = made.undo(&self.config);
                self.retired.extend(remains.retired);
                for error in remains.errors {
                    failure.error = failure.error.hint(format!("not all of the start could be undone: {error}"));
                }
                Err(failure)
            }
        }
    }

    fn bring_up(&mut self, made: &mut Made) -> Result<(ProcessStreams, Log), StartFailure> {
        let (engine, config) = (&self.engine, &self.config);
        // 2. root
        let root = root::mount(engine, config)?;
        // 3. what the config leaves open
        let prepared = spec::prepare(engine, config, root.as_fd())?;
        // 4. places in networks
        for (index, endpoint) in config.network.endpoints.iter().enumerate() {
            made.joined.push(networks::join(engine, config, endpoint, index)?);
        }
        // 5. files
        files::write(engine, config, &networks::addresses(&made.joined))?;
        // 6. log, pipes
        let log = open_log(engine, config)?;
        let (mut streams, stdio) = stdio(config, self.size)?;
        // 7. cgroup and clone
        let spec = runtime_spec(engine, config, &prepared, self.size)?;
        made.create(engine, config, &spec, root.as_fd(), stdio)?;
        // 8. links, 9. ports, 10. names
        if let Some(netns) = made.own_netns(config)? {
            networks::attach_all(&made.joined, netns.as_fd())?;
            made.published = networks::publish(config, &made.joined)?;
            made.names = Names::serve(config, &made.joined, netns.as_fd())?;
        }
        // 11. execve
        let container = made.container_mut();
        container.start()?;
        if let Some(console) = container.take_console() {
            streams.set_console(console).map_err(|errno| internal("cannot use the terminal", &errno))?;
        }
        self.commit_running(made)?;
        Ok((streams, log))
    }

    /// Step 12, the commit point: from here on the container runs.
    fn commit_running(&mut self, made: &Made) -> Result<(), Error> {
        let check = self.config.health.as_ref().and_then(|check| Health::new(check, Instant::now()));
        self.state.status = Status::Running;
        self.state.pid = made.container().pid();
        self.state.started = Some(Timestamp::now());
        self.state.cgroup = Some(spec::cgroup_path(&self.id));
        self.state.endpoints = networks::states(&made.joined);
        self.state.ports = made.ports();
        self.state.health = check.map(|health| health.state().clone());
        self.commit()?;
        for joined in &made.joined {
            self.publish_plain(networks::event("connect", &self.config, &joined.network));
        }
        self.publish(Event::now("container", "start", self.id.as_str()));
        Ok(())
    }
}

fn open_log(engine: &Engine, config: &ContainerConfig) -> Result<Log, Error> {
    let failed = |error: &(dyn std::error::Error + 'static)| {
        Error::caused(ErrorKind::Internal, "failed to initialize logging driver", error)
    };
    if config.log.driver != "none" {
        let directory = engine.paths().log_dir(&config.id);
        if let Err(error) = std::fs::create_dir(&directory)
            && error.kind() != std::io::ErrorKind::AlreadyExists
        {
            return Err(failed(&error));
        }
    }
    Log::open(&engine.paths().log_file(&config.id), &config.log).map_err(|error| failed(&error))
}

fn stdio(config: &ContainerConfig, size: Option<(u16, u16)>) -> Result<(ProcessStreams, Stdio), Error> {
    let wiring = match config.process.tty {
        true => Wiring::Terminal,
        false => Wiring::Pipes { stdin: config.process.open_stdin, output: true },
    };
    let (ours, child) = process_streams::make(wiring).map_err(|errno| internal("cannot make pipes", &errno))?;
    let stdio = match child {
        Some(ends) => Stdio::Files { stdin: ends.stdin, stdout: ends.stdout, stderr: ends.stderr },
        None => Stdio::Terminal { size: size.map(|(rows, columns)| WindowSize { rows, columns }) },
    };
    Ok((ours, stdio))
}

fn runtime_spec(
    engine: &Engine,
    config: &ContainerConfig,
    prepared: &spec::Prepared,
    size: Option<(u16, u16)>,
) -> Result<Spec, Error> {
    let mut spec = spec::runtime_spec(engine, config, prepared, size)?;
    if let Some(process) = &mut spec.process {
        // The monitor protects itself from the out-of-memory killer; that must not be inherited.
        process.oom_score_adj.get_or_insert(0);
    }
    Ok(spec)
}

fn internal(message: &str, error: &(dyn std::error::Error + 'static)) -> Error {
    Error::caused(ErrorKind::Internal, message, error)
}
