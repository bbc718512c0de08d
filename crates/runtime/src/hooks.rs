//! Hooks: programs that are run at points of a container's life, with its state on their standard input.
//!
//! Those of the runtime's namespaces are run by the caller of [`crate::create`], `createContainer` and
//! `startContainer` by the container's first process. A hook ends with whoever runs it, so that a killed command
//! leaves none behind.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs::File;
use std::io::{Seek, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ketch_spec::runtime::{Hook, Hooks, Spec};
use ketch_sys::Error as SysError;
use ketch_sys::clone::{Child, CloneOptions, clone_process};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::MemfdFlags;
use rustix::io::Errno;
use rustix::process::{PidfdGetfdFlags, Signal, pidfd_getfd};
use serde::{Deserialize, Serialize};

use crate::channel::{Channel, Message};
use crate::error::{Called, During, Error, Result};
use crate::init::die_with_the_caller;
use crate::plan::ProcessPlan;
use crate::process::Exit;
use crate::{finish, notify};

/// How much of a failing hook's output is told.
const TOLD_BYTES: usize = 4096;

/// The status of a container, as the specification names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It is being created.
    Creating,
    /// Its program was not executed yet.
    Created,
    /// Its program runs.
    Running,
    /// Its processes are frozen; not one of the specification's.
    Paused,
    /// Its first process has ended.
    Stopped,
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Creating => "creating",
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
        })
    }
}

/// State of a container, as of the specification.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    /// Version of the specification that its configuration follows.
    pub oci_version: String,
    /// Its id.
    pub id: String,
    /// Its status.
    pub status: Status,
    /// Number of its first process as the runtime sees it; 0: none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub pid: u32,
    /// Absolute path of its bundle.
    pub bundle: PathBuf,
    /// Annotations of its configuration.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// What the hooks of a container need.
#[derive(Debug, Clone, Copy)]
pub struct HookContext<'a> {
    /// State of the container; status and process are filled in for each hook.
    pub state: &'a State,
    /// Where hooks find the root file system before it is entered; absolute.
    pub root: &'a Path,
}

/// A hook that failed.
#[derive(Debug, thiserror::Error)]
#[error(
    "error running {kind} hook #{index} {path:?}: {reason}{}",
    told(output)
)]
pub struct HookError {
    /// `prestart`, `createRuntime`, …
    pub kind: &'static str,
    /// Its place in the list, from 0.
    pub index: usize,
    /// Its program.
    pub path: String,
    /// What is wrong.
    pub reason: String,
    /// The beginning of what it wrote.
    pub output: String,
}

fn told(output: &str) -> String {
    match output.trim_end() {
        "" => String::new(),
        output => format!(", output: {output}"),
    }
}

/// The hooks of a container that is being made.
#[derive(Debug)]
pub(crate) struct HookPlan<'a> {
    hooks: &'a Hooks,
    context: HookContext<'a>,
}

impl<'a> HookPlan<'a> {
    /// Checks the hooks of a specification; None if there are none that matter before the program runs.
    pub fn new(spec: &'a Spec, context: Option<HookContext<'a>>) -> Result<Option<Self>> {
        let Some(hooks) = spec.hooks.as_ref().filter(|hooks| !hooks.is_empty()) else {
            return Ok(None);
        };
        let Some(context) = context else {
            return Err(Error::unsupported("hooks", "nobody runs them here"));
        };
        for (kind, list) in kinds(hooks) {
            if let Some(hook) = list.iter().find(|hook| !hook.path.starts_with('/')) {
                let reason = format!("{:?} is not absolute", hook.path);
                return Err(Error::invalid(format!("hooks.{kind} path"), reason));
            }
            if list.iter().any(|hook| hook.timeout == Some(0)) {
                let reason = "it must be greater than zero";
                return Err(Error::invalid(format!("hooks.{kind} timeout"), reason));
            }
            // Before anything is made, and not when the hook's time has come.
            if list.iter().any(has_zero_byte) {
                let reason = "a zero byte in a path, an argument or a variable";
                return Err(Error::invalid(format!("hooks.{kind}"), reason));
            }
        }
        Ok(Some(Self { hooks, context }))
    }

    /// Where hooks find the root, if there are any that look for it.
    pub fn root(&self) -> &Path {
        if self.of_runtime() || !self.hooks.create_container.is_empty() {
            self.context.root
        } else {
            Path::new("/")
        }
    }

    /// Whether there are hooks that the runtime runs before the root is entered.
    pub fn of_runtime(&self) -> bool {
        !self.hooks.prestart.is_empty() || !self.hooks.create_runtime.is_empty()
    }

    /// Whether there are hooks to be run in the container itself, which may still change it.
    pub fn of_container(&self) -> bool {
        !self.hooks.start_container.is_empty()
    }

    /// In the child, before it enters its root.
    pub fn create_container(&self) -> Result<()> {
        let state = self.state(Status::Creating);
        if self.hooks.create_container.is_empty() {
            return Ok(());
        }
        // as with runc, whose users' hooks name files of the root relative to it
        rustix::process::chdir(self.context.root)
            .called_on("chdir", self.context.root)
            .during("run the createContainer hooks")?;
        run_all("createContainer", &self.hooks.create_container, &state).map_err(Error::Hook)
    }

    /// In the child, in its root, when it was told to start. The programs are the image's: they are confined like the
    /// container's own.
    pub fn start_container(&self, confined: Confined<'_>) -> Result<()> {
        let state = self.state(Status::Created);
        let hooks = &self.hooks.start_container;
        (0..hooks.len())
            .try_for_each(|index| {
                run_one_as("startContainer", hooks, index, &state, Some(confined))
            })
            .map_err(Error::Hook)
    }

    /// A process in the container's namespaces is told its own number there.
    fn state(&self, status: Status) -> State {
        State {
            status,
            pid: std::process::id(),
            ..self.context.state.clone()
        }
    }
}

fn has_zero_byte(hook: &Hook) -> bool {
    let others = hook.args.iter().chain(&hook.env);
    std::iter::once(&hook.path)
        .chain(others)
        .any(|text| text.contains('\0'))
}

/// All lists with their names, in the order of their times.
fn kinds(hooks: &Hooks) -> [(&'static str, &[Hook]); 6] {
    [
        ("prestart", &hooks.prestart),
        ("createRuntime", &hooks.create_runtime),
        ("createContainer", &hooks.create_container),
        ("startContainer", &hooks.start_container),
        ("poststart", &hooks.poststart),
        ("poststop", &hooks.poststop),
    ]
}

/// Runs hooks one after the other; the first failure ends it.
pub(crate) fn run_all(
    kind: &'static str,
    hooks: &[Hook],
    state: &State,
) -> std::result::Result<(), Box<HookError>> {
    for index in 0..hooks.len() {
        run_one(kind, hooks, index, state)?;
    }
    Ok(())
}

/// Runs one hook of a list.
pub(crate) fn run_one(
    kind: &'static str,
    hooks: &[Hook],
    index: usize,
    state: &State,
) -> std::result::Result<(), Box<HookError>> {
    run_one_as(kind, hooks, index, state, None)
}

/// How a hook in the container is confined.
#[derive(Clone, Copy)]
pub(crate) struct Confined<'a> {
    /// Like this process.
    pub plan: &'a ProcessPlan<'a>,
    /// Who hands the listeners of its system calls to the agent.
    pub speaker: &'a Channel,
}

impl Confined<'_> {
    /// With calls that an agent answers, the hook's process hands its listener to this one, and this one to whoever
    /// started it.
    fn channel(&self) -> Result<Option<(Channel, Channel)>> {
        let notifies = self.plan.notifies();
        let pair = notifies.then(Channel::pair).transpose();
        pair.during("make a channel to the hook")
    }

    /// Waits for the listener of a hook's process. One that ends without says why by its end.
    fn serve(&self, hook: &Running, channel: &Channel) -> Result<()> {
        let step = "take the hook's system call listener";
        let Some(Message::Listener(number)) = channel.receive().during(step)? else {
            return Ok(());
        };
        let listener = pidfd_getfd(&hook.child.pidfd, number, PidfdGetfdFlags::empty())
            .called("pidfd_getfd")
            .during(step)?;
        notify::hand_over(&listener, self.speaker)?;
        channel.send(&Message::Told).during(step)
    }
}

/// Runs one hook of a list.
fn run_one_as(
    kind: &'static str,
    hooks: &[Hook],
    index: usize,
    state: &State,
    confined: Option<Confined<'_>>,
) -> std::result::Result<(), Box<HookError>> {
    let hook = &hooks[index];
    let mut output = Vec::new();
    let failed = |reason: String, output: &[u8]| {
        Box::new(HookError {
            kind,
            index,
            path: hook.path.clone(),
            reason,
            output: String::from_utf8_lossy(output).into_owned(),
        })
    };
    match run(hook, state, confined, &mut output) {
        Ok(Ending::Exited(Exit::Code(0))) => Ok(()),
        Ok(Ending::Exited(Exit::Code(code))) => Err(failed(format!("exit status {code}"), &output)),
        Ok(Ending::Exited(Exit::Signal(signal))) => {
            Err(failed(format!("killed by signal {signal}"), &output))
        }
        Ok(Ending::TimedOut(seconds)) => {
            let reason = format!("it ran past its timeout of {seconds} s and was killed");
            Err(failed(reason, &output))
        }
        Err(error) => Err(failed(error.to_string(), &output)),
    }
}

enum Ending {
    Exited(Exit),
    TimedOut(u64),
}

fn run(
    hook: &Hook,
    state: &State,
    confined: Option<Confined<'_>>,
    output: &mut Vec<u8>,
) -> Result<Ending> {
    let step = "run the hook";
    let strings = |list: &[String]| -> Result<Vec<CString>> {
        list.iter()
            .map(|text| CString::new(text.as_str()))
            .collect::<std::result::Result<_, _>>()
            .map_err(|_| Error::invalid("hooks", "a zero byte in an argument or variable"))
    };
    let path = CString::new(hook.path.as_str())
        .map_err(|_| Error::invalid("hooks", "a zero byte in a path"))?;
    let args = match hook.args.as_slice() {
        [] => vec![path.clone()],
        args => strings(args)?,
    };
    let env = strings(&hook.env)?;
    let stdin = state_file(state).during(step)?;
    let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
        .called("pipe2")
        .during(step)?;
    let channel = confined.map(|confined| confined.channel()).transpose()?;
    let (ours, theirs) = channel.flatten().unzip();
    let mut keep = vec![stdin.as_raw_fd(), writer.as_raw_fd()];
    keep.extend(theirs.iter().map(|theirs| theirs.as_fd().as_raw_fd()));
    let options = CloneOptions {
        keep: &keep,
        ..CloneOptions::default()
    };
    let child = clone_process(&options, || {
        let error = become_hook(stdin.as_fd(), writer.as_fd())
            .and_then(|()| match confined {
                Some(confined) => finish::confine(confined.plan, theirs.as_ref()),
                None => Ok(()),
            })
            .map(|()| ketch_sys::process::execute(&path, &args, &env));
        let reason = match error {
            Ok(Ok(never)) => match never {},
            Ok(Err(error)) => format!("{}: {error}", hook.path),
            Err(error) => error.to_string(),
        };
        // The pipe is the hook's standard error by now, or as good as it.
        let _ = rustix::io::write(&writer, reason.as_bytes());
        127
    })
    .during(step)?;
    drop((stdin, writer, theirs));
    let mut running = Running {
        child,
        ended: false,
    };
    if let (Some(confined), Some(channel)) = (confined, &ours) {
        confined.serve(&running, channel)?;
    }
    wait(&mut running, &reader, hook.timeout, output)
}

/// The state as a file to read from: a pipe would have to be written while the hook reads it.
fn state_file(state: &State) -> std::result::Result<OwnedFd, SysError> {
    let file =
        rustix::fs::memfd_create("state.json", MemfdFlags::CLOEXEC).called("memfd_create")?;
    let mut file = File::from(file);
    let text = serde_json::to_vec(state)
        .map_err(|_| SysError::on("write as JSON", &state.bundle, Errno::ILSEQ))?;
    file.write_all(&text)
        .and_then(|()| file.rewind())
        .map_err(|error| SysError::from_io("write", "state.json", &error))?;
    Ok(file.into())
}

fn become_hook(stdin: BorrowedFd<'_>, output: BorrowedFd<'_>) -> Result<()> {
    die_with_the_caller()?;
    ketch_sys::process::reset_signals();
    let step = "set up the hook's streams";
    rustix::stdio::dup2_stdin(stdin)
        .called("dup2")
        .during(step)?;
    rustix::stdio::dup2_stdout(output)
        .called("dup2")
        .during(step)?;
    rustix::stdio::dup2_stderr(output)
        .called("dup2")
        .during(step)
}

/// Waits for the hook, reading what it says. A process that it leaves behind may keep the pipe: it is not waited for.
fn wait(
    running: &mut Running,
    reader: &OwnedFd,
    timeout: Option<u64>,
    output: &mut Vec<u8>,
) -> Result<Ending> {
    let step = "wait for the hook";
    let until = timeout.map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let mut open = true;
    loop {
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        let left = left.and_then(|left| Timespec::try_from(left).ok());
        let (ended, readable) = {
            let mut fds = [
                PollFd::new(&running.child.pidfd, PollFlags::IN),
                PollFd::new(reader, PollFlags::IN),
            ];
            let count = if open { 2 } else { 1 };
            match poll(&mut fds[..count], left.as_ref()) {
                Ok(0) => {
                    return Ok(Ending::TimedOut(timeout.unwrap_or_default()));
                }
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(SysError::new("poll", errno)).during(step),
            }
            (!fds[0].revents().is_empty(), !fds[1].revents().is_empty())
        };
        if readable {
            open = take_output(reader, output).during(step)?;
        } else if ended {
            return running.reap().map(Ending::Exited);
        }
    }
}

/// A hook that runs; killed and reaped if nobody else does it.
struct Running {
    child: Child,
    ended: bool,
}

impl Running {
    fn reap(&mut self) -> Result<Exit> {
        self.ended = true;
        let status = ketch_sys::process::wait_child(self.child.pid, true)
            .during("wait for the hook")?
            .unwrap_or_default();
        Ok(Exit::from_wait_status(status))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.ended {
            // One that has ended meanwhile only needs to be reaped.
            let _ = ketch_sys::process::send_signal(&self.child.pidfd, Signal::KILL.as_raw());
            let _ = self.reap();
        }
    }
}

/// Reads what is there; false: nobody can write any more.
fn take_output(reader: &OwnedFd, output: &mut Vec<u8>) -> std::result::Result<bool, SysError> {
    let mut bytes = [0; TOLD_BYTES];
    match rustix::io::read(reader, &mut bytes) {
        Ok(0) => Ok(false),
        Ok(count) => {
            let room = TOLD_BYTES.saturating_sub(output.len()).min(count);
            output.extend_from_slice(&bytes[..room]);
            Ok(true)
        }
        Err(Errno::INTR) => Ok(true),
        Err(errno) => Err(SysError::new("read", errno)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hooks(path: &str) -> Spec {
        let hook = Hook {
            path: path.into(),
            ..Hook::default()
        };
        Spec {
            hooks: Some(Hooks {
                start_container: vec![hook],
                ..Hooks::default()
            }),
            ..Spec::default()
        }
    }

    fn state() -> State {
        State {
            oci_version: "1.2.0".into(),
            id: "a".into(),
            status: Status::Creating,
            pid: 0,
            bundle: "/b".into(),
            annotations: BTreeMap::new(),
        }
    }

    #[test]
    fn a_state_without_a_process_has_no_number() {
        let text = serde_json::to_string(&state()).unwrap();
        let wanted = r#"{"ociVersion":"1.2.0","id":"a","status":"creating","bundle":"/b"}"#;
        assert_eq!(text, wanted);
    }

    #[test]
    fn hooks_that_nobody_runs_are_refused() {
        let spec = hooks("/bin/true");
        assert!(HookPlan::new(&spec, None).is_err());
        assert!(HookPlan::new(&Spec::default(), None).unwrap().is_none());
    }

    #[test]
    fn the_root_is_where_hooks_look_for_it_only_if_there_are_any_that_do() {
        let state = state();
        let context = HookContext {
            state: &state,
            root: Path::new("/b/root"),
        };
        let mut spec = hooks("/bin/true");
        let root = |spec: &Spec| {
            HookPlan::new(spec, Some(context))
                .unwrap()
                .unwrap()
                .root()
                .to_owned()
        };
        assert_eq!(root(&spec), Path::new("/"));
        let hooks = spec.hooks.as_mut().unwrap();
        hooks.create_container = hooks.start_container.clone();
        assert_eq!(root(&spec), Path::new("/b/root"));
        assert!(HookPlan::new(&self::hooks("true"), Some(context)).is_err());
    }
}
