//! `exec`.

use std::path::PathBuf;

use ketch_runtime::oci::{ExecRequest, ExecutedIn, Id, Streams};
use ketch_spec::runtime::{Capabilities, Process};

use super::create::listen_fds;
use super::failure::Failure;
use super::foreground::{self, Child};
use super::{Context, Outcome, absolute};

/// Exit status of a process that could not be executed.
const FAILED: u8 = 255;

/// Run another process in a running container
#[derive(clap::Args)]
pub struct Exec {
    /// Socket that the terminal's other end is sent to
    #[arg(long, value_name = "PATH")]
    console_socket: Option<PathBuf>,
    /// Socket that the process' pidfd is sent to
    #[arg(long, value_name = "PATH")]
    pidfd_socket: Option<PathBuf>,
    /// Working directory in the container
    #[arg(long, value_name = "DIR")]
    cwd: Option<String>,
    /// Further environment variables
    #[arg(short, long, value_name = "NAME=VALUE")]
    env: Vec<String>,
    /// Give it a terminal
    #[arg(short, long)]
    tty: bool,
    /// User and group, numbers
    #[arg(short, long, value_name = "UID[:GID]", value_parser = user)]
    user: Option<(u32, Option<u32>)>,
    /// Further groups, numbers
    #[arg(short = 'g', long, value_name = "GID")]
    additional_gids: Vec<u32>,
    /// File with the whole process, as in config.json
    #[arg(short, long, value_name = "FILE")]
    process: Option<PathBuf>,
    /// Return when the program runs
    #[arg(short, long)]
    detach: bool,
    /// File that its number is written to
    #[arg(long, value_name = "FILE")]
    pid_file: Option<PathBuf>,
    /// SELinux label
    #[arg(long, value_name = "LABEL")]
    process_label: Option<String>,
    /// AppArmor profile
    #[arg(long, value_name = "PROFILE")]
    apparmor: Option<String>,
    /// Forbid that it gains privileges
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = super::boolean)]
    no_new_privs: Option<bool>,
    /// Further capabilities
    #[arg(short, long, value_name = "NAME")]
    cap: Vec<String>,
    /// Pass so many descriptors to the program besides the standard streams and those of LISTEN_FDS
    #[arg(long, value_name = "N", default_value_t = 0)]
    preserve_fds: u32,
    /// Cgroup below the container's that it enters
    #[arg(long, value_name = "[CONTROLLER[,CONTROLLER...]:]PATH")]
    cgroup: Vec<String>,
    /// Do not refuse a paused container
    #[arg(long)]
    ignore_paused: bool,
    /// Do not become the parent of its orphans
    #[arg(long)]
    no_subreaper: bool,
    /// Id of the container, the program and its arguments
    #[arg(
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "ID [PROGRAM [ARGUMENT...]]"
    )]
    words: Vec<String>,
}

/// `1000` or `1000:1000`.
fn user(text: &str) -> Result<(u32, Option<u32>), String> {
    let number = |text: &str| text.parse().map_err(|_| format!("{text:?} is no number"));
    match text.split_once(':') {
        None => Ok((number(text)?, None)),
        Some((uid, gid)) => Ok((number(uid)?, Some(number(gid)?))),
    }
}

impl Exec {
    /// The program and its arguments.
    pub fn command(&self) -> &[String] {
        self.words.get(1..).unwrap_or_default()
    }

    /// Does it.
    pub fn run(self, context: &Context) -> Outcome {
        let failed = |error| Failure::Verb {
            prefix: "exec failed",
            error,
            status: FAILED,
        };
        let id = Id::new(&self.words[0])?;
        let container = ExecutedIn::open(&context.root, &id).map_err(failed)?;
        let listen_fds = listen_fds();
        let mut process = self.wanted(container.base())?;
        if listen_fds > 0 {
            process.env.push(format!("LISTEN_FDS={listen_fds}"));
            process.env.push("LISTEN_PID=1".to_owned());
        }
        let path = |path: &Option<PathBuf>| path.as_deref().map(absolute).transpose();
        let (console_socket, pid_file) = (path(&self.console_socket)?, path(&self.pid_file)?);
        let pidfd_socket = path(&self.pidfd_socket)?;
        let streams = match self.detach {
            true => Streams::LetGo,
            false => Streams::Kept,
        };
        if !self.detach && !self.no_subreaper {
            foreground::become_subreaper()?;
        }
        let request = ExecRequest {
            process,
            console_socket: console_socket.as_deref(),
            pidfd_socket: pidfd_socket.as_deref(),
            pid_file: pid_file.as_deref(),
            cgroups: &self.cgroup,
            ignore_paused: self.ignore_paused,
            preserve_fds: self.preserve_fds.saturating_add(listen_fds),
        };
        let mut executed = container.exec(request, streams).map_err(failed)?;
        executed
            .warnings()
            .iter()
            .for_each(|warning| context.log.warn(warning));
        if self.detach {
            executed.release();
            return Ok(0);
        }
        let console = executed.take_console();
        foreground::wait(
            Child {
                pid: executed.pid(),
                pidfd: executed.pidfd(),
                kill: &|signal| executed.kill(signal),
            },
            console,
        )?;
        Ok(executed.finish().map_err(failed)?.code() as u8)
    }

    /// The container's own process with what was asked for instead, or a file's.
    fn wanted(&self, base: Process) -> Result<Process, Failure> {
        if let Some(path) = &self.process {
            let bytes = ketch_runtime::oci::read_document(path)?;
            return serde_json::from_slice(&bytes).map_err(|source| Failure::Parse {
                path: path.clone(),
                source,
            });
        }
        if self.command().is_empty() {
            return Err(Failure::Invalid {
                what: "program",
                value: String::new(),
                reason: "neither a program nor --process was given".into(),
            });
        }
        Ok(self.changed(base))
    }

    fn changed(&self, mut process: Process) -> Process {
        process.args = self.command().to_vec();
        process.terminal = self.tty;
        process.env.extend(self.env.iter().cloned());
        if let Some(cwd) = &self.cwd {
            process.cwd.clone_from(cwd);
        }
        if let Some((uid, gid)) = self.user {
            process.user.uid = uid;
            process.user.gid = gid.unwrap_or(process.user.gid);
        }
        process.user.additional_gids.extend(&self.additional_gids);
        if let Some(label) = &self.process_label {
            process.selinux_label.clone_from(label);
        }
        if let Some(profile) = &self.apparmor {
            process.apparmor_profile.clone_from(profile);
        }
        if let Some(forbid) = self.no_new_privs {
            process.no_new_privileges = forbid;
        }
        if !self.cap.is_empty() {
            let sets = process.capabilities.get_or_insert_default();
            add(sets, &self.cap);
        }
        process
    }
}

/// Added to what the process may do now, and to what is inherited where that has any sense.
fn add(sets: &mut Capabilities, names: &[String]) {
    for set in [&mut sets.bounding, &mut sets.effective, &mut sets.permitted] {
        for name in names {
            if !set.contains(name) {
                set.push(name.clone());
            }
        }
    }
    // Ambient ones must be inheritable too; without any the sets stay empty, so that nothing is inherited unasked.
    if !sets.ambient.is_empty() {
        sets.inheritable.extend(names.iter().cloned());
        sets.ambient.extend(names.iter().cloned());
    }
}
