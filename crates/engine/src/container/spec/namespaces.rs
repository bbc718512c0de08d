//! Namespaces: new ones, the host's (not listed), or another container's.
//!
//! Another container's is opened and held, and its state asked again afterwards: while the container still runs with
//! the same process id, what was opened is its namespace and not that of a stranger who got the number.

use std::os::fd::{AsRawFd, OwnedFd};

use ketch_spec::Id;
use ketch_spec::runtime::{LinuxNamespace, NamespaceKind};
use rustix::fs::{Mode, OFlags};

use crate::container::config::{ContainerConfig, NamespaceMode, NetworkMode};
use crate::container::load;
use crate::container::state::Status;
use crate::{Engine, Error, ErrorKind, Result};

/// The namespaces of a container; descriptors of joined ones go to `held`.
pub(super) fn of(
    engine: &Engine,
    config: &ContainerConfig,
    held: &mut Vec<OwnedFd>,
) -> Result<Vec<LinuxNamespace>> {
    let modes = &config.namespaces;
    let network = match &config.network.mode {
        NetworkMode::Host => NamespaceMode::Host,
        NetworkMode::Container(id) => NamespaceMode::Container(id.clone()),
        NetworkMode::Bridge | NetworkMode::None => NamespaceMode::Private,
    };
    // With another container's network a container has that one's host name too, as Docker's have.
    let uts = match (&config.network.mode, &modes.uts) {
        (NetworkMode::Container(id), NamespaceMode::Private) => {
            NamespaceMode::Container(id.clone())
        }
        (_, mode) => mode.clone(),
    };
    let wanted = [
        (NamespaceKind::Mount, &NamespaceMode::Private),
        (NamespaceKind::Network, &network),
        (NamespaceKind::Uts, &uts),
        (NamespaceKind::Pid, &modes.pid),
        (NamespaceKind::Ipc, &modes.ipc),
        (NamespaceKind::Cgroup, &modes.cgroup),
    ];
    let mut all = Vec::new();
    for (kind, mode) in wanted {
        match mode {
            NamespaceMode::Private => all.push(LinuxNamespace { kind, path: None }),
            NamespaceMode::Host => {}
            NamespaceMode::Container(id) => {
                let fd = open(engine, id, kind)?;
                all.push(LinuxNamespace {
                    kind,
                    path: Some(format!("/proc/self/fd/{}", fd.as_raw_fd())),
                });
                held.push(fd);
            }
        }
    }
    Ok(all)
}

fn open(engine: &Engine, id: &Id, kind: NamespaceKind) -> Result<OwnedFd> {
    let file = match kind {
        NamespaceKind::Network => "net",
        NamespaceKind::Uts => "uts",
        NamespaceKind::Pid => "pid",
        NamespaceKind::Ipc => "ipc",
        NamespaceKind::Cgroup => "cgroup",
        NamespaceKind::Mount => "mnt",
        NamespaceKind::User => "user",
        NamespaceKind::Time => "time",
    };
    let pid = running(engine, id, kind)?;
    let path = format!("/proc/{pid}/ns/{file}");
    let fd = rustix::fs::open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| Error::caused(ErrorKind::Conflict, format!("open {path}"), &errno))?;
    if running(engine, id, kind)? != pid {
        return Err(not_running(id, kind));
    }
    Ok(fd)
}

fn running(engine: &Engine, id: &Id, kind: NamespaceKind) -> Result<u32> {
    let (_, state) = load::load(engine, id)?;
    match state.status {
        Status::Running | Status::Paused if state.pid != 0 => Ok(state.pid),
        _ => Err(not_running(id, kind)),
    }
}

fn not_running(id: &Id, kind: NamespaceKind) -> Error {
    let what = match kind {
        NamespaceKind::Network => "network",
        NamespaceKind::Pid => "PID namespace",
        NamespaceKind::Ipc => "IPC namespace",
        _ => "namespace",
    };
    // Docker: "cannot join network of a non running container: ID".
    Error::new(
        ErrorKind::Conflict,
        format!("cannot join {what} of a non running container: {id}"),
    )
}
