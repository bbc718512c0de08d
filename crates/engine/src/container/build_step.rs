//! A build step: a hidden container that removes itself, and whose writable layer is the layer being built.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use jiff::Timestamp;
use ketch_spec::mount::Mount;
use rustix::event::{PollFd, PollFlags};
use serde_json::Map;

use super::config::{
    self, ContainerConfig, EndpointConfig, ImageSource, LogConfig, NetworkConfig, NetworkMode,
    ProcessConfig,
};
use super::control::AttachStreams;
use super::load::{self, is_live};
use super::request::NetworkRequest;
use super::secret::SecretEnv;
use super::start::{self, StartOptions};
use super::state::ExitRecord;
use super::stream::{Frame, read_frame};
use super::watch::Watch;
use super::{channel, create, remove};
use crate::layer::LayerDraft;
use crate::lock::OwnerLock;
use crate::{Engine, Error, ErrorKind, Result, names, network};

/// A step to run.
#[derive(Debug)]
pub struct StepRun {
    /// Where its changes go; its parents are what it runs on.
    pub draft: LayerDraft,
    /// What runs; no terminal, no input.
    pub process: ProcessConfig,
    /// Variables that are written nowhere.
    pub secrets: SecretEnv,
    /// Its network: the default one, `host` or `none`.
    pub network: NetworkRequest,
    /// `name:address` for its hosts file.
    pub extra_hosts: Vec<String>,
    /// Mounts that are not part of the layer.
    pub mounts: Vec<Mount>,
    /// Size of /dev/shm in bytes; None means 64 MiB.
    pub shm_size_bytes: Option<u64>,
    /// Ends the step when it becomes readable or its other end is closed: `run_step` then fails as `Interrupted`.
    pub cancel: Option<OwnedFd>,
}

/// What a step writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StepOutput<'a> {
    /// Standard output.
    Stdout(&'a [u8]),
    /// Standard error.
    Stderr(&'a [u8]),
}

/// Runs a step and returns how it ended, with its draft, whose root is mounted again. Blocks until then.
///
/// The container dies with its builder: its monitor kills it when the connection ends. If this process is killed,
/// nothing is left but a directory that the next listing sweeps.
///
/// # Errors
/// Why the step could not be run. A step that ran and failed is no error here.
pub fn run_step(
    engine: &Engine,
    step: StepRun,
    output: &mut dyn FnMut(StepOutput<'_>),
) -> Result<(ExitRecord, LayerDraft)> {
    let StepRun { mut draft, .. } = step;
    // Two overlays over one writable layer are undefined: the builder's goes while the container's is there.
    draft.unmount()?;
    let config = config(
        engine,
        &draft,
        step.process,
        step.network,
        step.extra_hosts,
        step.mounts,
        step.shm_size_bytes,
    )?;
    let exit = run(engine, &config, &step.secrets, step.cancel.as_ref(), output);
    draft.remount()?;
    Ok((exit?, draft))
}

fn run(
    engine: &Engine,
    config: &ContainerConfig,
    secrets: &SecretEnv,
    cancel: Option<&OwnedFd>,
    output: &mut dyn FnMut(StepOutput<'_>),
) -> Result<ExitRecord> {
    let lock = make(engine, config)?;
    let attach = AttachStreams {
        stdin: false,
        stdout: true,
        stderr: true,
    };
    let started = start::start_owned(
        engine,
        config,
        lock,
        StartOptions {
            attach: Some(attach),
            size: None,
        },
        secrets,
    );
    let exit = match started {
        Ok(Some(attached)) => follow(attached.stream, cancel, output),
        Ok(None) => Err(Error::new(
            ErrorKind::Internal,
            "the build step has no output connection",
        )),
        Err(error) => Err(error),
    };
    gone(engine, config)?;
    exit
}

/// Puts the container on disk and keeps its lock.
fn make(engine: &Engine, config: &ContainerConfig) -> Result<OwnerLock> {
    let dir = engine.paths().container_dir(&config.id);
    std::fs::create_dir(&dir).map_err(|error| {
        Error::caused(
            ErrorKind::Internal,
            format!("mkdir {}", dir.display()),
            &error,
        )
    })?;
    let Some(lock) = OwnerLock::take(&engine.paths().owner_lock(&config.id))? else {
        return Err(Error::new(
            ErrorKind::Unavailable,
            "the build step's directory was swept; try again",
        ));
    };
    if let Err(error) = create::write(engine, config) {
        let _ = remove::discard(engine, config);
        return Err(error);
    }
    Ok(lock)
}

/// Hands output on until the exit comes. Letting go of the stream before that ends the container.
fn follow(
    mut stream: UnixStream,
    cancel: Option<&OwnedFd>,
    output: &mut dyn FnMut(StepOutput<'_>),
) -> Result<ExitRecord> {
    let failed = |error: &io::Error| {
        Error::caused(ErrorKind::Internal, "lost the build step's monitor", error)
    };
    loop {
        if let Some(cancel) = cancel
            && is_cancelled(&stream, cancel).map_err(|error| failed(&error))?
        {
            return Err(Error::new(ErrorKind::Interrupted, "cancelled"));
        }
        match read_frame(&mut stream).map_err(|error| failed(&error))? {
            Some(Frame::Stdout(bytes)) => output(StepOutput::Stdout(&bytes)),
            Some(Frame::Stderr(bytes)) => output(StepOutput::Stderr(&bytes)),
            Some(Frame::Exit(exit)) => return Ok(exit),
            Some(_) => {}
            None => return Err(failed(&io::ErrorKind::UnexpectedEof.into())),
        }
    }
}

/// Waits for the next frame; whether the cancellation came first.
fn is_cancelled(stream: &UnixStream, cancel: &OwnedFd) -> io::Result<bool> {
    let mut ready = [
        PollFd::new(stream, PollFlags::IN),
        PollFd::new(cancel, PollFlags::IN),
    ];
    loop {
        match rustix::event::poll(&mut ready, None) {
            Ok(_) => return Ok(!ready[1].revents().is_empty()),
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Waits until the container is gone, removing it if its monitor did not: only then is the layer ours again.
fn gone(engine: &Engine, config: &ContainerConfig) -> Result<()> {
    loop {
        let watch = match Watch::container(engine, &config.id) {
            Ok(watch) => watch,
            Err(error) if error.kind == ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        match load::load(engine, &config.id) {
            Ok((_, state)) if is_live(state.status) => watch.wait(channel::LOOK_AGAIN)?,
            Ok(_) => match channel::own(engine, &config.id) {
                Ok(Some((_lock, config))) => return remove::commit(engine, &config, true),
                Ok(None) => {}
                Err(error) if error.kind == ErrorKind::NotFound => return Ok(()),
                Err(error) => return Err(error),
            },
            Err(error) if error.kind == ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

#[allow(clippy::too_many_arguments)]
fn config(
    engine: &Engine,
    draft: &LayerDraft,
    process: ProcessConfig,
    network: NetworkRequest,
    extra_hosts: Vec<String>,
    mounts: Vec<Mount>,
    shm_size_bytes: Option<u64>,
) -> Result<ContainerConfig> {
    let (mode, endpoints) = step_network(engine, network)?;
    let id = names::draw_id()?;
    Ok(ContainerConfig {
        version: config::VERSION,
        name: format!("build-{}", id.short()),
        id,
        created: Timestamp::now(),
        image: ImageSource {
            reference: String::new(),
            id: None,
            layers: draft.parents().to_vec(),
        },
        process,
        hostname: String::new(),
        domainname: String::new(),
        labels: Default::default(),
        mounts,
        network: NetworkConfig {
            mode,
            endpoints,
            extra_hosts,
            ..NetworkConfig::default()
        },
        resources: config::Resources {
            shm_size_bytes,
            ..Default::default()
        },
        security: Default::default(),
        namespaces: Default::default(),
        restart: Default::default(),
        auto_remove: true,
        init: false,
        stop_signal: None,
        stop_timeout_s: None,
        health: None,
        log: LogConfig {
            driver: "none".into(),
            options: Default::default(),
        },
        hidden: true,
        writable_dir: draft.upper().parent().map(ToOwned::to_owned),
        other: Map::new(),
    })
}

fn step_network(
    engine: &Engine,
    wanted: NetworkRequest,
) -> Result<(NetworkMode, Vec<EndpointConfig>)> {
    let endpoint = |name: &str| EndpointConfig {
        network: name.into(),
        ..EndpointConfig::default()
    };
    match wanted {
        NetworkRequest::Default => Ok((NetworkMode::Bridge, vec![endpoint("bridge")])),
        NetworkRequest::Host => Ok((NetworkMode::Host, Vec::new())),
        NetworkRequest::None => Ok((NetworkMode::None, Vec::new())),
        NetworkRequest::Networks(list) => {
            let mut endpoints = Vec::new();
            for asked in list {
                endpoints.push(endpoint(&network::resolve(engine, &asked.network)?.name));
            }
            Ok((NetworkMode::Bridge, endpoints))
        }
        NetworkRequest::Container(name) => Ok((
            NetworkMode::Container(load::resolve(engine, &name)?),
            Vec::new(),
        )),
    }
}
