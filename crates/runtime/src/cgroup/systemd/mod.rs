//! systemd as the maker of cgroups: a container is a transient scope, which systemd is asked for over D-Bus.
//!
//! ```text
//! unit.rs         slice:prefix:name, and where its group is
//! properties.rs   limits in systemd's words
//! annotations.rs  others in the caller's
//! text.rs         values as text
//! connection.rs   calls, answers, signals
//! wire.rs         messages as bytes
//! ```
//!
//! A scope is made of processes that there are already. The container's first one is not there yet, so one that only
//! waits ([`Placeholder`]) is its first member; it ends when the container's is born, which happens right in the group.
//! With systemd from 205 on; version 2 of cgroups only: systemd's own support of version 1 has ended.

mod annotations;
mod connection;
mod properties;
mod text;
mod unit;
mod wire;

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ketch_spec::runtime::LinuxResources;
use ketch_sys::clone::{Child, CloneOptions, clone_process};
use rustix::pipe::PipeFlags;
use rustix::process::{WaitId, WaitIdOptions};

use self::connection::{Connection, Object};
use self::wire::Value;
use crate::error::{Called, During, Result};

pub use self::annotations::ScopeProperties;
use self::properties::{Idle, Property};
pub(super) use self::unit::Unit;

/// How long systemd may take for a call and its job.
const LIMIT: Duration = Duration::from_secs(30);
/// The machine's bus, and systemd's own socket, which is there without a bus too, for root.
const SYSTEM_BUS: &str = "/run/dbus/system_bus_socket";
const SYSTEMD: &str = "/run/systemd/private";

const NAME: &str = "org.freedesktop.systemd1";
const MANAGER: Object<'_> = (
    NAME,
    "/org/freedesktop/systemd1",
    "org.freedesktop.systemd1.Manager",
);
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";
/// Since when it has the idle class of processors.
const WITH_IDLE: u32 = 252;
const NO_SUCH_UNIT: &str = "org.freedesktop.systemd1.NoSuchUnit";
const UNIT_EXISTS: &str = "org.freedesktop.systemd1.UnitExists";
const JOB_SIGNALS: &str = "type='signal',sender='org.freedesktop.systemd1',path='/org/freedesktop/systemd1',\
                           interface='org.freedesktop.systemd1.Manager',member='JobRemoved'";

/// What went wrong between us and systemd.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SystemdError {
    /// Nobody is there to talk to.
    #[error(
        "connect to {}: {source}: cgroupsPath slice:prefix:name needs a machine that systemd runs; without it, leave out \
         --systemd-cgroup",
        path.display()
    )]
    Connect {
        /// The bus.
        path: PathBuf,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// The bus does not take us.
    #[error("the message bus refuses us: {said}")]
    Refused {
        /// Its line.
        said: String,
    },
    /// The connection broke.
    #[error("{call} on the message bus: {source}")]
    Io {
        /// The system call.
        call: &'static str,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// What came is no D-Bus.
    #[error("the message bus sent {0}")]
    Protocol(&'static str),
    /// Its groups are somewhere else than those of other machines.
    #[error(
        "systemd is in the cgroup {found:?} where {expected:?} was expected: one without a cgroup namespace of its own in a \
         container, or a user's that is no user@.service? Leave out --systemd-cgroup there"
    )]
    Place {
        /// Where it is.
        found: String,
        /// Where we look.
        expected: String,
    },
    /// systemd refuses.
    #[error("systemd: {method}: {message} ({name})")]
    Call {
        /// The method.
        method: String,
        /// The error's name.
        name: String,
        /// Its text.
        message: String,
    },
    /// systemd tried in vain.
    #[error("systemd: the job for {unit} ended with {result:?}")]
    Job {
        /// The unit.
        unit: String,
        /// `failed`, `timeout`, `canceled`, `dependency`, `skipped`.
        result: String,
    },
    /// systemd does not answer.
    #[error("systemd did not answer within {} s", LIMIT.as_secs())]
    Timeout,
}

impl PartialEq for SystemdError {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Protocol(one), Self::Protocol(two)) => one == two,
            _ => self.to_string() == other.to_string(),
        }
    }
}

impl SystemdError {
    /// Whether there is a unit of that name already.
    pub(crate) fn is_taken(&self) -> bool {
        self.is_named(UNIT_EXISTS)
    }

    fn is_named(&self, expected: &str) -> bool {
        matches!(self, Self::Call { name, .. } if name == expected)
    }
}

/// Connects to the manager of the machine, or of a user.
fn connect(uid: u32) -> Result<Connection, SystemdError> {
    if uid != 0 {
        let path = PathBuf::from(format!("/run/user/{uid}/bus"));
        return listening(Connection::open(&path, true, LIMIT)?);
    }
    match Connection::open(Path::new(SYSTEM_BUS), true, LIMIT) {
        Ok(connection) => listening(connection),
        // No bus, as on small machines: systemd has a socket for root. It tells of jobs without being asked.
        Err(error @ SystemdError::Connect { .. }) => {
            Connection::open(Path::new(SYSTEMD), false, LIMIT).map_err(|_| error)
        }
        Err(error) => Err(error),
    }
}

/// Has signals of jobs sent.
fn listening(mut connection: Connection) -> Result<Connection, SystemdError> {
    connection.listen(JOB_SIGNALS)?;
    connection.call(MANAGER, "Subscribe", Vec::new())?;
    Ok(connection)
}

/// Makes the scope of `unit` with the process `pid` in it, and waits until it is there.
pub(super) fn start(
    unit: &Unit,
    resources: &LinuxResources,
    wanted: &ScopeProperties,
    pid: u32,
) -> Result<()> {
    let mut connection = connect(unit.uid)?;
    check_place(&mut connection, unit)?;
    let mut list = properties::of_new(&format!("ketch container {}", unit.name), &unit.slice, pid);
    list.extend_from_slice(wanted.list());
    // Of two values of a property systemd takes the second.
    let idle = idle(&mut connection, resources, false)?;
    list.extend(properties::of_resources(resources, idle)?);
    Ok(start_with(&mut connection, &unit.name, &list)?)
}

/// One of the manager's properties that is a text.
fn manager_property(connection: &mut Connection, name: &str) -> Result<String, SystemdError> {
    let (manager, path, interface) = MANAGER;
    let body = vec![Value::text(interface), Value::text(name)];
    let answer = connection.call((manager, path, PROPERTIES), "Get", body)?;
    match answer.into_iter().next() {
        Some(Value::Variant(value)) => value.as_text().map(str::to_owned),
        _ => None,
    }
    .ok_or(SystemdError::Protocol("a property of another type"))
}

/// Makes sure that the manager's units are where we look for them.
fn check_place(connection: &mut Connection, unit: &Unit) -> Result<(), SystemdError> {
    let found = manager_property(connection, "ControlGroup")?;
    let expected = unit.manager();
    if found.trim_end_matches('/') == expected {
        return Ok(());
    }
    Err(SystemdError::Place { found, expected })
}

/// What there is to know of the idle class, if it is spoken of.
fn idle(
    connection: &mut Connection,
    resources: &LinuxResources,
    now: bool,
) -> Result<Idle, SystemdError> {
    if !properties::speak_of_idle(resources) {
        return Ok(Idle::default());
    }
    let version = manager_property(connection, "Version")?;
    let digits = version.split(|c: char| !c.is_ascii_digit()).next();
    let number = digits.and_then(|digits| digits.parse::<u32>().ok());
    let known = number.is_some_and(|number| number >= WITH_IDLE);
    Ok(Idle { known, now })
}

fn start_with(
    connection: &mut Connection,
    name: &str,
    list: &[Property],
) -> Result<(), SystemdError> {
    let body = vec![
        Value::text(name),
        Value::text("fail"),
        dictionary(list),
        Value::Array("(sa(sv))".into(), Vec::new()),
    ];
    let started = match connection.call(MANAGER, "StartTransientUnit", body.clone()) {
        // One that failed keeps its name until it is forgotten.
        Err(error) if error.is_named(UNIT_EXISTS) => {
            forget(connection, name)?;
            connection.call(MANAGER, "StartTransientUnit", body)
        }
        other => other,
    };
    wait(connection, name, &started?)
}

/// Changes the limits that systemd knows, until the unit ends. `is_idle`: the group is in the idle class of processors.
pub(super) fn update(unit: &Unit, resources: &LinuxResources, is_idle: bool) -> Result<()> {
    let mut connection = connect(unit.uid)?;
    let idle = idle(&mut connection, resources, is_idle)?;
    let list = properties::of_resources(resources, idle)?;
    if list.is_empty() {
        return Ok(());
    }
    let body = vec![
        Value::text(&unit.name),
        Value::Bool(true),
        dictionary(&list),
    ];
    connection.call(MANAGER, "SetUnitProperties", body)?;
    Ok(())
}

/// Has systemd move a process into the unit: it may where we may not.
pub(super) fn attach(unit: &Unit, pid: u32) -> Result<()> {
    let body = vec![
        Value::text(&unit.name),
        Value::text(""),
        Value::Array("u".into(), vec![Value::U32(pid)]),
    ];
    connect(unit.uid)?.call(MANAGER, "AttachProcessesToUnit", body)?;
    Ok(())
}

/// Stops the unit, which has no processes any more, and makes systemd forget it. One that is gone is no error.
pub(super) fn stop(unit: &Unit) -> Result<()> {
    Ok(stop_with(&mut connect(unit.uid)?, &unit.name)?)
}

fn stop_with(connection: &mut Connection, name: &str) -> Result<(), SystemdError> {
    let body = vec![Value::text(name), Value::text("replace")];
    match connection.call(MANAGER, "StopUnit", body) {
        Err(error) if error.is_named(NO_SUCH_UNIT) => return Ok(()),
        stopping => wait(connection, name, &stopping?)?,
    }
    forget(connection, name)
}

fn forget(connection: &mut Connection, name: &str) -> Result<(), SystemdError> {
    match connection.call(MANAGER, "ResetFailedUnit", vec![Value::text(name)]) {
        Err(error) if error.is_named(NO_SUCH_UNIT) => Ok(()),
        other => other.map(drop),
    }
}

fn dictionary(list: &[Property]) -> Value {
    let entry = |(name, value): &Property| {
        Value::Struct(vec![
            Value::text(name.as_ref()),
            Value::Variant(Box::new(value.clone())),
        ])
    };
    Value::Array("(sv)".into(), list.iter().map(entry).collect())
}

/// Waits for the end of a job: JobRemoved(id, job, unit, result).
fn wait(connection: &mut Connection, unit: &str, answer: &[Value]) -> Result<(), SystemdError> {
    let job = answer.first().and_then(Value::as_text);
    let job = job
        .ok_or(SystemdError::Protocol("an answer without a job"))?
        .to_owned();
    loop {
        let signal = connection.signal("JobRemoved")?;
        let text = |at: usize| signal.body.get(at).and_then(Value::as_text);
        if text(1) != Some(&job) {
            continue;
        }
        return match text(3) {
            Some("done") => Ok(()),
            result => Err(SystemdError::Job {
                unit: unit.to_owned(),
                result: result.unwrap_or_default().to_owned(),
            }),
        };
    }
}

/// A process that does nothing, until this is dropped.
#[derive(Debug)]
pub(super) struct Placeholder {
    child: Child,
    /// The child ends when it is closed.
    life: Option<OwnedFd>,
}

impl Placeholder {
    /// Clones it.
    pub fn new() -> Result<Self> {
        let step = "clone the first process of a systemd scope";
        let (theirs, ours) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)
            .called("pipe2")
            .during(step)?;
        let keep = [theirs.as_raw_fd()];
        let options = CloneOptions {
            keep: &keep,
            ..CloneOptions::default()
        };
        let child = clone_process(&options, || {
            // Nobody ever writes: it returns when all other ends are closed, ours with our own end at the latest.
            let _ = rustix::io::read(&theirs, &mut [0; 1]);
            0
        });
        Ok(Self {
            child: child.during(step)?,
            life: Some(ours),
        })
    }

    /// Its number.
    pub fn pid(&self) -> u32 {
        self.child.pid
    }
}

impl Drop for Placeholder {
    fn drop(&mut self) {
        drop(self.life.take());
        use std::os::fd::AsFd;
        let id = WaitId::PidFd(self.child.pidfd.as_fd());
        // It ends by itself; that it cannot be waited for would not keep it.
        let _ = rustix::io::retry_on_intr(|| {
            rustix::process::waitid(id.clone(), WaitIdOptions::EXITED)
        });
    }
}

#[cfg(test)]
mod tests;
