//! Talking to a container's monitor, and becoming the owner of a container that has none.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use ketch_spec::Id;

use super::config::ContainerConfig;
use super::control::{MAX_REQUEST_BYTES, Reply, Request};
use super::load::{self, is_live};
use super::state::ContainerState;
use super::watch::Watch;
use crate::lock::OwnerLock;
use crate::{Engine, Error, ErrorKind, Result};

/// When to look again though nothing was heard: the kernel says that a lock's file is closed just before it lets go of
/// the lock, so one look can come too early.
pub(super) const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// The longest reply line, in bytes.
const MAX_REPLY_BYTES: usize = 1 << 20;

/// Sends one request and waits for its reply. None: there is no monitor, or it went before it answered.
///
/// # Errors
/// Input and output; what is no reply.
pub(super) fn request(engine: &Engine, id: &Id, request: &Request) -> Result<Option<Reply>> {
    Ok(open(engine, id, request)?.map(|(reply, _)| reply))
}

/// Asks the monitor of a container that runs.
///
/// # Errors
/// The monitor's refusal; `Conflict` ("container x is not running") if there is no monitor.
pub(super) fn command(engine: &Engine, id: &Id, what: &Request) -> Result<Reply> {
    let mut watch = None;
    loop {
        let (_, state) = load::load(engine, id)?;
        if !is_live(state.status) {
            return Err(not_running(id));
        }
        match request(engine, id, what)? {
            Some(Reply::Failed(error)) => return Err(error),
            Some(reply) => return Ok(reply),
            // It is ending: its last state comes, or its lock falls and recovery follows.
            None => look_again(engine, id, &mut watch)?,
        }
    }
}

/// Sends one request and keeps the connection, which carries frames after an `Ok` to `Attach` and `Exec`.
///
/// # Errors
/// As [`request`].
pub(super) fn open(
    engine: &Engine,
    id: &Id,
    request: &Request,
) -> Result<Option<(Reply, UnixStream)>> {
    let path = engine.paths().control_socket(id);
    let mut stream = match connect(&path) {
        Ok(stream) => stream,
        Err(error) if is_gone(&error) => return Ok(None),
        Err(error) => return Err(failed("connect to", id, &error)),
    };
    let mut line = serde_json::to_vec(request).map_err(|error| failed("speak to", id, &error))?;
    line.push(b'\n');
    if line.len() > MAX_REQUEST_BYTES {
        return Err(Error::new(ErrorKind::Invalid, "the request is too long"));
    }
    match stream
        .write_all(&line)
        .and_then(|()| read_line(&mut stream))
    {
        Ok(None) => Ok(None),
        Ok(Some(line)) => {
            let reply =
                serde_json::from_slice(&line).map_err(|error| failed("understand", id, &error))?;
            Ok(Some((reply, stream)))
        }
        Err(error) if is_gone(&error) => Ok(None),
        Err(error) => Err(failed("speak to", id, &error)),
    }
}

/// How a verb got at a container.
#[derive(Debug)]
pub enum Reached {
    /// It has a monitor, which answered the request.
    Answered(Reply),
    /// It has none, and is ours as long as the lock is held.
    Owned {
        /// The right to write it.
        lock: OwnerLock,
        /// Its config, read under the lock.
        config: Box<ContainerConfig>,
        /// Its state, read under the lock.
        state: Box<ContainerState>,
    },
}

/// Gets at a container in whatever state it is: asks its monitor, or becomes its owner. Waits while another command is
/// at it or it is just starting or ending.
///
/// # Errors
/// `NotFound` if it is not there, or goes meanwhile; input and output. A refusal of the monitor is an answer.
pub fn reach(engine: &Engine, id: &Id, what: &Request) -> Result<Reached> {
    let mut watch = None;
    let lock_path = engine.paths().owner_lock(id);
    loop {
        let (_, state) = load::load(engine, id)?;
        if is_live(state.status) {
            if let Some(reply) = request(engine, id, what)? {
                return Ok(Reached::Answered(reply));
            }
        } else if !is_held(&lock_path, id)?
            && let Some(lock) = OwnerLock::take(&lock_path).map_err(|error| gone(error, id))?
        {
            let (config, state) = load::load_record(engine, id)?;
            if !is_live(state.status) {
                load::settle(engine, id, &state)?;
                return Ok(Reached::Owned {
                    lock,
                    config: Box::new(config),
                    state: Box::new(state),
                });
            }
        }
        look_again(engine, id, &mut watch)?;
    }
}

/// Waits until there may be something new. The first time it only begins to watch, and what happened before that is
/// seen by looking once more: a watch that is not needed is not made, because its end waits for the kernel (10 ms).
fn look_again(engine: &Engine, id: &Id, watch: &mut Option<Watch>) -> Result<()> {
    match watch {
        Some(watch) => watch.wait(LOOK_AGAIN),
        None => {
            *watch = Some(Watch::container(engine, id)?);
            Ok(())
        }
    }
}

/// Becomes the owner of a container that does not run. None: it runs. Waits while another command is at it, or while
/// it is just starting or ending.
///
/// # Errors
/// As [`reach`].
pub fn own(engine: &Engine, id: &Id) -> Result<Option<(OwnerLock, ContainerConfig)>> {
    let mut watch = None;
    let lock_path = engine.paths().owner_lock(id);
    loop {
        let (_, state) = load::load(engine, id)?;
        if is_live(state.status) {
            return Ok(None);
        }
        if !is_held(&lock_path, id)?
            && let Some(lock) = OwnerLock::take(&lock_path).map_err(|error| gone(error, id))?
        {
            let (config, state) = load::load_record(engine, id)?;
            if !is_live(state.status) {
                load::settle(engine, id, &state)?;
                return Ok(Some((lock, config)));
            }
        }
        look_again(engine, id, &mut watch)?;
    }
}

/// Asking first matters: taking and failing would close a writable file, which is what waiters wait for.
fn is_held(lock_path: &Path, id: &Id) -> Result<bool> {
    OwnerLock::is_held(lock_path).map_err(|error| gone(error, id))
}

fn gone(error: crate::lock::Error, id: &Id) -> Error {
    match Error::from(error) {
        error if error.kind == ErrorKind::NotFound => load::not_found(id.as_str()),
        error => error,
    }
}

/// "container x is not running".
pub(super) fn not_running(id: &Id) -> Error {
    Error::new(
        ErrorKind::Conflict,
        format!("container {id} is not running"),
    )
}

/// Reads up to a newline, and not a byte further: what follows belongs to the connection's frames.
///
/// # Errors
/// The reader's; `InvalidData` for a line that is too long. None: the end came first.
pub(super) fn read_line(stream: &mut UnixStream) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    let mut chunk = [0u8; 4096];
    loop {
        let seen = match rustix::net::recv(&*stream, &mut chunk, rustix::net::RecvFlags::PEEK) {
            Ok((_, 0)) => return Ok(None),
            Ok((_, seen)) => seen,
            Err(rustix::io::Errno::INTR) => continue,
            Err(errno) => return Err(errno.into()),
        };
        let end = chunk[..seen].iter().position(|&byte| byte == b'\n');
        let take = end.map_or(seen, |end| end + 1);
        stream.read_exact(&mut chunk[..take])?;
        line.extend_from_slice(&chunk[..take - usize::from(end.is_some())]);
        if line.len() > MAX_REPLY_BYTES {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the line is too long",
            ));
        }
        if end.is_some() {
            return Ok(Some(line));
        }
    }
}

/// Connects by a short path: socket names hold 108 bytes, and the run root may be deep.
fn connect(path: &Path) -> io::Result<UnixStream> {
    use std::os::fd::AsRawFd;
    use std::os::unix::ffi::OsStrExt;
    const MAX_SOCKET_NAME: usize = 107;
    if path.as_os_str().as_bytes().len() <= MAX_SOCKET_NAME {
        return UnixStream::connect(path);
    }
    let dir = std::fs::File::open(path.parent().unwrap_or(Path::new("/")))?;
    let name = path.file_name().unwrap_or_default();
    UnixStream::connect(Path::new(&format!("/proc/self/fd/{}", dir.as_raw_fd())).join(name))
}

fn is_gone(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::UnexpectedEof
    )
}

fn failed(what: &str, id: &Id, error: &(dyn std::error::Error + 'static)) -> Error {
    Error::caused(
        ErrorKind::Internal,
        format!("cannot {what} the monitor of container {}", id.short()),
        error,
    )
}
