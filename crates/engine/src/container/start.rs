//! `start`: execute a monitor, which brings the container up and says so.
//!
//! The caller takes the owner lock and passes the descriptor on to the monitor, so that there is no moment in which a
//! starting container has no owner. Fixed descriptors of the monitor: 3 the status socket, 4 the first client's
//! connection (if any), 5 the owner lock, 6 the program, 7 secret variables (if any).

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;

use ketch_spec::Id;
use ketch_sys::poll;
use ketch_sys::spawn::Program;

use super::attach::Attached;
use super::channel;
use super::config::ContainerConfig;
use super::control::{AttachStreams, Reply};
use super::secret::SecretEnv;
use super::state::Status;
use super::{executable, load};
use crate::lock::OwnerLock;
use crate::{Engine, EngineOptions, Error, ErrorKind, Result};

/// The monitor's descriptor of the socket that it answers on.
pub const STATUS_FD: i32 = 3;
/// The monitor's descriptor of the connection of a client that is attached from the first byte.
pub const ATTACH_FD: i32 = 4;
/// The monitor's descriptor that carries the owner lock.
pub const LOCK_FD: i32 = 5;
/// The monitor's descriptor that keeps the mount it was executed from: who closes that last waits for the kernel (an RCU
/// grace period, 10 ms), and the caller must not.
pub const PROGRAM_FD: i32 = 6;
/// The monitor's descriptor of the memory with secret variables ([`SecretEnv`]).
pub const SECRETS_FD: i32 = 7;

/// How to start.
#[derive(Debug, Clone, Default)]
pub struct StartOptions {
    /// Be attached to these streams from the first byte.
    pub attach: Option<AttachStreams>,
    /// Size of the caller's terminal: rows, columns.
    pub size: Option<(u16, u16)>,
}

/// Starts a container that does not run, and returns when its program runs, with the connection if one was asked for.
///
/// # Errors
/// `NotFound`; `NotModified` if it runs already; `Conflict` if it is paused; otherwise why the start failed, in the
/// words of the monitor.
pub fn start(engine: &Engine, wanted: &str, options: StartOptions) -> Result<Option<Attached>> {
    let id = load::resolve(engine, wanted)?;
    match channel::own(engine, &id)? {
        Some((lock, config)) => start_owned(engine, &config, lock, options, &SecretEnv::default()),
        None if load::load(engine, &id)?.1.status == Status::Paused => Err(Error::new(
            ErrorKind::Conflict,
            "cannot start a paused container, try unpause instead",
        )),
        None => Err(Error::new(
            ErrorKind::NotModified,
            format!("container {wanted} is already running"),
        )),
    }
}

/// Starts a container whose owner lock the caller holds; the monitor has it from then on. `secrets` are variables for
/// its environment that are in no record.
///
/// # Errors
/// As [`start`].
pub(super) fn start_owned(
    engine: &Engine,
    config: &ContainerConfig,
    lock: OwnerLock,
    options: StartOptions,
    secrets: &SecretEnv,
) -> Result<Option<Attached>> {
    let failed = |call: &str, error: &std::io::Error| {
        Error::caused(
            ErrorKind::Internal,
            format!("cannot start the monitor: {call}"),
            error,
        )
    };
    let (mut status, theirs) = UnixStream::pair().map_err(|error| failed("socketpair", &error))?;
    let attach = match options.attach {
        Some(_) => Some(UnixStream::pair().map_err(|error| failed("socketpair", &error))?),
        None => None,
    };
    let (ours, monitors) = attach.unzip();
    let secrets = (!secrets.is_empty()).then(|| secrets.to_memory());
    let inherited = Inherited {
        status: theirs.into(),
        attach: monitors.map(Into::into),
        lock,
        secrets: secrets
            .transpose()
            .map_err(|error| failed("memfd_create", &error))?,
    };
    let child = spawn(engine, &config.id, &options, inherited)?;
    let reply = channel::read_line(&mut status).map_err(|error| failed("read", &error))?;
    match reply.map(|line| serde_json::from_slice::<Reply>(&line)) {
        Some(Ok(Reply::Failed(error))) => {
            // It ends now; without this it would stay as a zombie for as long as its starter lives.
            let _ = poll::reap_blocking(child.as_fd());
            Err(error)
        }
        Some(Ok(_)) => {
            reap_later(child);
            Ok(ours.map(|stream| Attached {
                stream,
                tty: config.process.tty,
                id: config.id.clone(),
            }))
        }
        Some(Err(error)) => Err(Error::caused(
            ErrorKind::Internal,
            "the monitor's answer cannot be understood",
            &error,
        )),
        None => {
            let ending = poll::reap_blocking(child.as_fd()).map_err(|error| {
                Error::caused(ErrorKind::Internal, "cannot wait for the monitor", &error)
            })?;
            Err(Error::new(
                ErrorKind::Internal,
                format!("the monitor ended before the container ran: {ending:?}"),
            ))
        }
    }
}

/// What goes along to the monitor; closed here when it has been executed.
struct Inherited {
    status: OwnedFd,
    attach: Option<OwnedFd>,
    lock: OwnerLock,
    secrets: Option<OwnedFd>,
}

fn spawn(
    engine: &Engine,
    id: &Id,
    options: &StartOptions,
    inherited: Inherited,
) -> Result<OwnedFd> {
    let program = &engine.options().executable;
    let failed = |error: &(dyn std::error::Error + 'static)| {
        Error::caused(
            ErrorKind::Internal,
            format!("cannot execute {} as the monitor", program.display()),
            error,
        )
    };
    let opened = executable::open(program).map_err(|errno| failed(&errno))?;
    // Out of the way of the monitor's fixed descriptors, which are put in their places before the path is looked up.
    let opened =
        rustix::io::fcntl_dupfd_cloexec(&opened, SECRETS_FD + 1).map_err(|errno| failed(&errno))?;
    let path = text(format!("/proc/self/fd/{}", opened.as_raw_fd()).into_bytes())?;
    let mut arguments = arguments(engine, id, options)?;
    let mut descriptors = vec![
        (inherited.status.as_fd(), STATUS_FD),
        (inherited.lock.as_fd(), LOCK_FD),
        (opened.as_fd(), PROGRAM_FD),
    ];
    if let Some(attach) = &inherited.attach {
        descriptors.push((attach.as_fd(), ATTACH_FD));
    }
    if let Some(secrets) = &inherited.secrets {
        descriptors.push((secrets.as_fd(), SECRETS_FD));
        arguments.push(c"--secrets".into());
    }
    ketch_sys::spawn::spawn(&Program {
        path: &path,
        arguments: &arguments,
        descriptors: &descriptors,
    })
    .map_err(|error| failed(&error))
}

fn arguments(engine: &Engine, id: &Id, options: &StartOptions) -> Result<Vec<CString>> {
    let EngineOptions {
        data_root,
        run_root,
        executable,
        ..
    } = engine.options();
    let mut all: Vec<CString> = vec![c"ketch".into(), c"monitor".into(), text(id.as_str())?];
    for (flag, path) in [
        (c"--data-root", data_root),
        (c"--run-root", run_root),
        (c"--executable", executable),
    ] {
        all.extend([flag.into(), text(path.as_os_str().as_bytes())?]);
    }
    if let Some(streams) = options.attach {
        all.extend([c"--attach".into(), text(stream_names(streams))?]);
    }
    if let Some((rows, columns)) = options.size {
        all.extend([c"--size".into(), text(format!("{rows}x{columns}"))?]);
    }
    Ok(all)
}

fn text(bytes: impl Into<Vec<u8>>) -> Result<CString> {
    CString::new(bytes)
        .map_err(|error| Error::caused(ErrorKind::Invalid, "a path with a NUL byte", &error))
}

fn stream_names(streams: AttachStreams) -> String {
    let names = [
        (streams.stdin, "stdin"),
        (streams.stdout, "stdout"),
        (streams.stderr, "stderr"),
    ];
    names
        .iter()
        .filter(|(wanted, _)| *wanted)
        .map(|(_, name)| *name)
        .collect::<Vec<_>>()
        .join(",")
}

/// The monitor outlives most of its starters, and is then init's child; a starter that lives long (the API server, a
/// build) reaps it when it ends.
fn reap_later(child: OwnedFd) {
    // A thread costs nothing that a command would notice; if it cannot be had, the monitor is a zombie at worst.
    let reap = move || poll::reap_blocking(child.as_fd());
    let _ = std::thread::Builder::new()
        .name("reaper".into())
        .stack_size(64 << 10)
        .spawn(reap);
}
