//! The start of a run, step by step, each with an undo in [`Made::undo`].
//!
//! 1. the owner lock (taken before, let go of after everything)
//! 2. the root: the image's layers and the writable layer as a detached mount, attached nowhere on the host
//! 3. what the config leaves open: users, volumes (new ones are filled), namespaces, devices
//! 4. the log, the pipes
//! 5. the cgroup and the clone; the child prepares its mounts while we go on with the network
//! 6. a place in each network: an address is claimed, the bridge is up
//! 7. hosts, hostname, resolv.conf, which need the addresses. They are mounted by then: that is why they are made empty
//!    before the clone, and written in place
//! 8. links into the container's network namespace, 9. published ports, 10. the name server
//! 11. execve
//! 12. the state record says running: **commit point**

use std::fs::File;
use std::os::fd::AsFd;
use std::time::Instant;

use jiff::Timestamp;
use ketch_engine::container::config::ContainerConfig;
use ketch_engine::container::files;
use ketch_engine::container::state::Status;
use ketch_engine::container::{root, spec};
use ketch_engine::event::Event;
use ketch_engine::{Engine, Error, ErrorKind};
use ketch_runtime::{Stdio, WindowSize};
use ketch_spec::runtime::Spec;

use crate::health::Health;
use crate::log::Log;
use crate::made::Made;
use crate::monitor::Monitor;
use crate::networks;
use crate::process_streams::{self, ProcessStreams, Wiring};
use crate::run::{Run, Started};
use crate::start_failure::StartFailure;

impl Monitor {
    /// Starts a run.
    ///
    /// # Errors
    /// What failed; everything before it is undone.
    pub fn start(&mut self) -> Result<(), StartFailure> {
        let mut made = Made::default();
        match self.bring_up(&mut made) {
            Ok(started) => {
                self.run = Some(Run::new(made, started));
                Ok(())
            }
            Err(mut failure) => {
                let remains = made.undo(&self.config);
                self.idle.extend(remains.idle);
                for error in remains.errors {
                    failure.error = failure
                        .error
                        .hint(format!("not all of the start could be undone: {error}"));
                }
                Err(failure)
            }
        }
    }

    fn bring_up(&mut self, made: &mut Made) -> Result<Started, StartFailure> {
        let (engine, config) = (&self.engine, &self.config);
        // 2. root
        let (root, layers) = root::mount(engine, config)?;
        // A later run's are in use before an earlier one's are let go of.
        self.layers = Some(layers);
        // 3. what the config leaves open
        let prepared = spec::prepare(engine, config, root.as_fd())?;
        // 4. log, pipes
        let log = open_log(engine, config)?;
        let (mut streams, stdio) = stdio(config, self.size)?;
        // 5. cgroup and clone
        make_files(engine, config)?;
        let mut spec = runtime_spec(engine, config, &prepared, self.size)?;
        if let Some(process) = &mut spec.process {
            self.secrets.apply(&mut process.env);
        }
        let filter = spec::filter(config, &spec)?;
        made.create(engine, config, &spec, filter, root.as_fd(), stdio)?;
        // 6. places in networks
        for (index, endpoint) in config.network.endpoints.iter().enumerate() {
            made.joined
                .push(networks::join(engine, config, endpoint, index)?);
        }
        // 7. files
        files::write(engine, config, &networks::addresses(&made.joined))?;
        // 8. links, 9. ports, 10. names
        made.connect(config)?;
        // 11. execve
        let container = made.container_mut();
        container.start()?;
        if let Some(console) = container.take_console() {
            streams
                .set_console(console)
                .map_err(|errno| internal("cannot use the terminal", &errno))?;
        }
        let began = Instant::now();
        let check = self.config.health.as_ref();
        let health = check.and_then(|check| Health::new(check, began));
        self.commit_running(made, health.as_ref())?;
        Ok(Started {
            streams,
            log,
            health,
            began,
        })
    }

    /// Step 12, the commit point: from here on the container runs.
    fn commit_running(&mut self, made: &Made, health: Option<&Health>) -> Result<(), Error> {
        self.state.status = Status::Running;
        self.state.pid = made.container().pid();
        self.state.started = Some(Timestamp::now());
        self.state.cgroup = Some(spec::cgroup_path(&self.id));
        self.state.endpoints = networks::states(&made.joined);
        self.state.ports = made.ports();
        self.state.health = health.map(|health| health.state().clone());
        self.commit()?;
        for joined in &made.joined {
            self.publish_plain(networks::event("connect", &self.config, &joined.network));
        }
        self.publish(Event::now("container", "start", self.id.as_str()));
        Ok(())
    }
}

/// Makes the files that the child mounts, where an earlier start has not; their text follows.
fn make_files(engine: &Engine, config: &ContainerConfig) -> Result<(), Error> {
    let paths = engine.paths();
    for path in [
        paths.hosts(&config.id),
        paths.hostname(&config.id),
        paths.resolv_conf(&config.id),
    ] {
        let opened = File::options().create(true).append(true).open(&path);
        opened.map_err(|error| internal(&format!("cannot make {}", path.display()), &error))?;
    }
    Ok(())
}

fn open_log(engine: &Engine, config: &ContainerConfig) -> Result<Log, Error> {
    let failed = |error: &(dyn std::error::Error + 'static)| {
        Error::caused(
            ErrorKind::Internal,
            "failed to initialize logging driver",
            error,
        )
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

fn stdio(
    config: &ContainerConfig,
    size: Option<(u16, u16)>,
) -> Result<(ProcessStreams, Stdio), Error> {
    let wiring = match config.process.tty {
        true => Wiring::Terminal,
        false => Wiring::Pipes {
            stdin: config.process.open_stdin,
            output: true,
        },
    };
    let (ours, child) =
        process_streams::make(wiring).map_err(|errno| internal("cannot make pipes", &errno))?;
    let stdio = match child {
        Some(ends) => Stdio::Files {
            stdin: ends.stdin,
            stdout: ends.stdout,
            stderr: ends.stderr,
        },
        None => Stdio::Terminal {
            size: size.map(|(rows, columns)| WindowSize { rows, columns }),
        },
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
