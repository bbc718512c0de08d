//! `create`: everything but the program.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use ketch_spec::runtime::{Hooks, NamespaceKind, Spec};

use super::cgroups::{self, Place};
use super::console;
use super::document;
use super::error::{Error, Refusal, Result};
use super::identity::Identity;
use super::own_user;
use super::record::{Record, asked_bytes};
use super::store::{Entry, Id, Root};
use crate::hooks::{HookContext, State, Status, run_all, run_one};
use crate::parent::{BeforePlacing, Container, CreateOptions};
use crate::plan::{self, Lifetime};
use crate::resctrl;
use crate::rootfs::Rootfs;
use crate::stdio::{Stdio, WindowSize};

/// What `create` and `run` make a container of.
#[derive(Debug, Clone, Copy)]
pub struct CreateRequest<'a> {
    /// Where the state is kept.
    pub root: &'a Root,
    /// The new container's id.
    pub id: &'a Id,
    /// Directory with `config.json`; absolute.
    pub bundle: &'a Path,
    /// A listening socket that the other end of the terminal is sent to.
    pub console_socket: Option<&'a Path>,
    /// A listening socket that the first process' pidfd is sent to.
    pub pidfd_socket: Option<&'a Path>,
    /// Written with the first process' number.
    pub pid_file: Option<&'a Path>,
    /// `cgroupsPath` is `slice:prefix:name`.
    pub systemd: bool,
    /// Without the right to make cgroups the container has none.
    pub rootless: bool,
    /// Enter the root without pivot_root(2).
    pub no_pivot: bool,
    /// Keep the caller's session keyring.
    pub no_new_keyring: bool,
    /// Descriptors from 3 on that the program keeps, those of `listen_fds` among them.
    pub preserve_fds: u32,
    /// Of those so many are sockets that the program is told of as systemd does.
    pub listen_fds: u32,
    /// Where the classes of `linux.intelRdt` are; None: where a resctrl file system is mounted.
    pub resctrl: Option<&'a Path>,
}

/// Who holds the other end of the terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Streams {
    /// The console socket, or nobody if there is no terminal.
    LetGo,
    /// The caller.
    Kept,
}

/// Where the first process hears that it is to start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Starter {
    /// At the start socket: another command says so.
    Socket,
    /// From whoever made it.
    Maker,
}

/// Makes a container and leaves it waiting for [`super::start`]. Returns what was asked for and is not to be had.
///
/// # Errors
/// An id that is taken; what is wrong in the bundle; what the kernel says; a failed hook. Nothing is left then, and
/// poststop hooks have run.
pub fn create(request: CreateRequest<'_>) -> Result<Vec<String>> {
    let mut made = make(request, Streams::LetGo, Starter::Socket)?;
    let mut warnings = std::mem::take(&mut made.rest.warnings);
    warnings.extend_from_slice(made.container.warnings());
    match made.container.detach() {
        Ok(()) => Ok(warnings),
        Err(error) => {
            made.rest.undo();
            Err(error.into())
        }
    }
}

/// A container that was made and committed.
#[derive(Debug)]
pub(super) struct Made {
    pub container: Container,
    /// The other end of its terminal, if the caller keeps it.
    pub console: Option<OwnedFd>,
    pub rest: Rest,
}

/// What there is of a container besides its processes.
#[derive(Debug)]
pub(super) struct Rest {
    pub entry: Entry,
    pub record: Record,
    pub warnings: Vec<String>,
    /// Whether it is known whose the cgroup is.
    surveyed: bool,
}

impl Rest {
    /// Removes everything; its processes are gone or in its cgroup. Called on the way to another error, which is the
    /// one to tell; what cannot be removed now is found by the next verb.
    pub fn undo(&mut self) {
        if self.surveyed {
            let _ = self.record.cgroup.remove();
        }
        if let Some(claim) = &self.record.resctrl {
            let _ = claim.remove();
        }
        let _ = self.entry.remove();
        let state = self.record.state(Status::Stopped);
        poststop(&self.record, &state, &mut self.warnings);
    }
}

/// Runs the poststop hooks; a failure is a warning only.
pub(super) fn poststop(record: &Record, state: &State, warnings: &mut Vec<String>) {
    for index in 0..record.poststop.len() {
        if let Err(error) = run_one("poststop", &record.poststop, index, state) {
            warnings.push(error.to_string());
        }
    }
}

/// Makes a container up to the commit point; its first process waits.
pub(super) fn make(request: CreateRequest<'_>, streams: Streams, starter: Starter) -> Result<Made> {
    for fd in plan::preserved(request.preserve_fds) {
        if !ketch_sys::process::is_open(fd) {
            return Err(Refusal::NotOpen(fd).into());
        }
    }
    let (mut spec, bytes) = read_config(request)?;
    let process = spec.process.as_ref().ok_or(Refusal::Missing("process"))?;
    console::check(process.terminal, request.console_socket.is_some(), streams)?;
    let root = spec.root.as_ref().ok_or(Refusal::Missing("root"))?;
    if root.path.is_empty() {
        return Err(Refusal::Missing("root.path").into());
    }
    let linux = spec.linux.as_ref();
    if linux.is_some_and(|linux| linux.cgroups_path.contains('\0')) {
        return Err(Refusal::ZeroByte("linux.cgroupsPath").into());
    }
    let rootfs = request.bundle.join(&root.path);
    let record = new_record(request, &spec, &rootfs)?;
    own_user::enter_new(&mut spec)?;
    let entry = request.root.claim(request.id)?;
    let mut rest = Rest {
        record,
        entry,
        warnings: Vec::new(),
        surveyed: false,
    };
    match fill(request, &spec, &bytes, streams, starter, &mut rest) {
        Ok((container, console)) => Ok(Made {
            container,
            console,
            rest,
        }),
        Err(error) => {
            rest.undo();
            Err(error)
        }
    }
}

fn read_config(request: CreateRequest<'_>) -> Result<(Spec, Vec<u8>)> {
    let path = request.bundle.join("config.json");
    let bytes = document::config(&path)?;
    let mut spec: Spec =
        serde_json::from_slice(&bytes).map_err(|source| Error::Parse { path, source })?;
    if !spec.oci_version.starts_with("1.") {
        return Err(Refusal::Version(spec.oci_version).into());
    }
    if let Some(process) = spec.process.as_mut().filter(|_| request.listen_fds > 0) {
        let listen = [
            format!("LISTEN_FDS={}", request.listen_fds),
            // Of the first process in a pid namespace of its own, as runc has it.
            "LISTEN_PID=1".to_owned(),
        ];
        process.env.extend(listen);
    }
    Ok((spec, bytes))
}

fn new_record(request: CreateRequest<'_>, spec: &Spec, rootfs: &Path) -> Result<Record> {
    let hooks = spec.hooks.clone().unwrap_or_default();
    let linux = spec.linux.as_ref();
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    Ok(Record {
        oci_version: spec.oci_version.clone(),
        id: request.id.to_string(),
        init: Identity {
            pid: 0,
            start_time: 0,
        },
        bundle: request.bundle.to_owned(),
        rootfs: rootfs.to_owned(),
        created_ns: now.map_or(0, |now| now.as_nanos() as u64),
        annotations: spec.annotations.clone(),
        cgroup: Place::new(spec, request.id, request.systemd)?,
        placed: None,
        resctrl: None,
        owner: rustix::process::getuid().as_raw(),
        own_pids: linux.is_some_and(|linux| {
            let kinds = &linux.namespaces;
            kinds
                .iter()
                .any(|listed| listed.kind == NamespaceKind::Pid && listed.path.is_none())
        }),
        notifies: linux
            .and_then(|linux| linux.seccomp.as_ref())
            .is_some_and(|filter| !filter.listener_path.is_empty()),
        poststart: hooks.poststart,
        poststop: hooks.poststop,
    })
}

fn fill(
    request: CreateRequest<'_>,
    spec: &Spec,
    bytes: &[u8],
    streams: Streams,
    starter: Starter,
    rest: &mut Rest,
) -> Result<(Container, Option<OwnedFd>)> {
    let Rest {
        entry,
        record,
        warnings,
        surveyed,
    } = rest;
    record.cgroup.survey()?;
    *surveyed = true;
    let class = plan_class(request, spec)?;
    let claim = class.as_ref().map(resctrl::Plan::claim);
    write_asked(request, entry, record, claim, bytes)?;
    let class = class.map(resctrl::Plan::make).transpose()?;
    record.resctrl = class.as_ref().map(|class| class.claim().clone());
    let cgroup = record.cgroup.make(spec, request.rootless, warnings);
    // Somebody has made it since it was looked at: it is not ours to remove.
    *surveyed = !cgroup.as_ref().is_err_and(cgroups::is_taken);
    let cgroup = cgroup?;
    let state = record.state(Status::Creating);
    let rootfs: PathBuf = record.rootfs.clone();
    let start_socket = match starter {
        Starter::Socket => Some(entry.listen()?),
        Starter::Maker => None,
    };
    let mut container = crate::create(CreateOptions {
        resctrl: class.as_ref(),
        before_placing: Some(BeforePlacing(&|place| entry.write_place(place))),
        cgroup: cgroup.as_ref(),
        preserve_fds: request.preserve_fds,
        id: request.id.as_str(),
        no_pivot: request.no_pivot,
        no_new_keyring: request.no_new_keyring,
        lifetime: Lifetime::Own,
        hooks: Some(HookContext {
            state: &state,
            root: &rootfs,
        }),
        start_socket,
        ..CreateOptions::new(spec, Rootfs::Path(&rootfs), request.bundle, stdio(spec))
    })?;
    // While the first process prepares itself.
    record.init = Identity::of(container.pid())?;
    record.placed = container.placed_root().cloned();
    entry.prepare_commit(record)?;
    let hooks = spec.hooks.as_ref();
    container.wait_prepared_with(|pid| runtime_hooks(hooks, &state, pid))?;
    let console = hand_out(request, streams, &mut container)?;
    // Commit point: from here on it is a container.
    entry.commit()?;
    Ok((container, console))
}

/// Gives callers what they asked for of a prepared container. The result is the terminal's other end, if it stays here.
fn hand_out(
    request: CreateRequest<'_>,
    streams: Streams,
    container: &mut Container,
) -> Result<Option<OwnedFd>> {
    let console = container.take_console();
    let console = match (streams, console, request.console_socket) {
        (Streams::LetGo, Some(master), Some(socket)) => {
            console::send_terminal(socket, &master)?;
            None
        }
        (_, console, _) => console,
    };
    if let Some(socket) = request.pidfd_socket {
        console::send_pidfd(socket, container.pidfd())?;
    }
    if let Some(path) = request.pid_file {
        console::write_pid_file(path, container.pid())?;
    }
    Ok(console)
}

/// Writes down what there will be to remove, should this be killed.
fn write_asked(
    request: CreateRequest<'_>,
    entry: &Entry,
    record: &Record,
    claim: Option<&resctrl::Claim>,
    bytes: &[u8],
) -> Result<()> {
    let maker = Identity::of(std::process::id())?;
    let asked =
        asked_bytes(maker, &record.cgroup, claim, bytes).map_err(|source| Error::Parse {
            path: request.bundle.join("config.json"),
            source,
        })?;
    entry.write_asked(&asked)
}

/// The class of `linux.intelRdt`, not made yet.
fn plan_class(request: CreateRequest<'_>, spec: &Spec) -> Result<Option<resctrl::Plan>> {
    let linux = spec.linux.as_ref();
    let Some(wanted) = linux.and_then(|linux| linux.intel_rdt.as_ref()) else {
        return Ok(None);
    };
    let root = match request.resctrl {
        Some(root) => root.to_owned(),
        None => resctrl::find()?.ok_or_else(resctrl::without)?,
    };
    Ok(Some(resctrl::Plan::new(
        &root,
        wanted,
        request.id.as_str(),
    )?))
}

fn runtime_hooks(hooks: Option<&Hooks>, state: &State, pid: u32) -> Result<()> {
    let Some(hooks) = hooks else { return Ok(()) };
    let state = State {
        pid,
        ..state.clone()
    };
    run_all("prestart", &hooks.prestart, &state)?;
    run_all("createRuntime", &hooks.create_runtime, &state)?;
    Ok(())
}

fn stdio(spec: &Spec) -> Stdio {
    match spec.process.as_ref().filter(|process| process.terminal) {
        None => Stdio::Inherit,
        Some(process) => Stdio::Terminal {
            size: process.console_size.map(|size| WindowSize {
                rows: size.height.min(u16::MAX.into()) as u16,
                columns: size.width.min(u16::MAX.into()) as u16,
            }),
        },
    }
}
