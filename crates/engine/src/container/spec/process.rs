//! The process part of the specification: arguments, environment, user, limits.

use ketch_spec::runtime::{ConsoleSize, Process, Rlimit, User};

use super::{INIT_PATH, Prepared, capabilities};
use crate::container::config::{ContainerConfig, NamespaceMode, NetworkMode, Ulimit};
use crate::container::control::ExecConfig;
use crate::container::user::ResolvedUser;
use crate::{Error, ErrorKind, Result};

/// The search path of a container whose image sets none.
const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The container's init.
pub(super) fn init_process(
    config: &ContainerConfig,
    prepared: &Prepared,
    names: &[&str],
    console: Option<(u16, u16)>,
) -> Result<Process> {
    let process = &config.process;
    let mut args = Vec::new();
    if config.init {
        args.extend([INIT_PATH.to_owned(), "--".to_owned()]);
    }
    args.extend(process.entrypoint.iter().chain(&process.command).cloned());
    Ok(Process {
        terminal: process.tty,
        console_size: console.filter(|_| process.tty).map(console_size),
        user: user(&prepared.user),
        args,
        env: environment(config, &[], process.tty, &prepared.user.home),
        cwd: working_dir(&process.working_dir),
        capabilities: Some(capabilities::sets(names, prepared.user.uid)),
        rlimits: config
            .resources
            .ulimits
            .iter()
            .map(rlimit)
            .collect::<Result<_>>()?,
        no_new_privileges: config.security.no_new_privileges,
        apparmor_profile: prepared.apparmor.clone(),
        oom_score_adj: config.resources.oom_score_adj,
        ..Process::default()
    })
}

/// A process beside init: for exec sessions and health checks. `user` is the resolved user of the session, `apparmor` the
/// profile that the container runs under.
///
/// # Errors
/// As [`super::runtime_spec`].
pub fn exec_process(
    config: &ContainerConfig,
    exec: &ExecConfig,
    user: &ResolvedUser,
    apparmor: String,
) -> Result<Process> {
    let names = if exec.privileged {
        capabilities::ALL.to_vec()
    } else {
        capabilities::of(&config.security)?
    };
    let cwd = exec
        .working_dir
        .as_deref()
        .unwrap_or(&config.process.working_dir);
    Ok(Process {
        terminal: exec.tty,
        console_size: exec.size.filter(|_| exec.tty).map(console_size),
        user: self::user(user),
        args: exec.command.clone(),
        env: environment(config, &exec.env, exec.tty, &user.home),
        cwd: working_dir(cwd),
        capabilities: Some(capabilities::sets(&names, user.uid)),
        rlimits: config
            .resources
            .ulimits
            .iter()
            .map(rlimit)
            .collect::<Result<_>>()?,
        no_new_privileges: config.security.no_new_privileges,
        apparmor_profile: apparmor,
        oom_score_adj: config.resources.oom_score_adj,
        ..Process::default()
    })
}

/// The container's host name: the one given, the host's with the host's network, else the short id.
pub fn hostname(config: &ContainerConfig) -> String {
    if !config.hostname.is_empty() {
        return config.hostname.clone();
    }
    if config.network.mode == NetworkMode::Host || config.namespaces.uts == NamespaceMode::Host {
        return rustix::system::uname()
            .nodename()
            .to_string_lossy()
            .into_owned();
    }
    config.id.short().to_owned()
}

/// Docker's order: PATH, HOSTNAME, TERM, then the config's own, each in the place of a default of that name; HOME last.
fn environment(config: &ContainerConfig, more: &[String], tty: bool, home: &str) -> Vec<String> {
    let mut all = vec![
        DEFAULT_PATH.to_owned(),
        format!("HOSTNAME={}", hostname(config)),
    ];
    if tty {
        all.push("TERM=xterm".to_owned());
    }
    for variable in config.process.env.iter().chain(more) {
        set(&mut all, variable);
    }
    if !all.iter().any(|variable| variable.starts_with("HOME=")) {
        all.push(format!("HOME={home}"));
    }
    all
}

/// Sets `NAME=value`; a bare `NAME` removes it.
fn set(all: &mut Vec<String>, variable: &str) {
    let name = variable.split('=').next().unwrap_or_default();
    let place = all
        .iter()
        .position(|old| old.split('=').next() == Some(name));
    match (place, variable.contains('=')) {
        (Some(place), true) => all[place] = variable.to_owned(),
        (Some(place), false) => drop(all.remove(place)),
        (None, true) => all.push(variable.to_owned()),
        (None, false) => {}
    }
}

fn working_dir(wanted: &str) -> String {
    if wanted.is_empty() {
        "/".to_owned()
    } else {
        wanted.to_owned()
    }
}

fn console_size((rows, columns): (u16, u16)) -> ConsoleSize {
    ConsoleSize {
        height: rows.into(),
        width: columns.into(),
    }
}

fn user(resolved: &ResolvedUser) -> User {
    User {
        uid: resolved.uid,
        gid: resolved.gid,
        additional_gids: resolved.groups.clone(),
        ..User::default()
    }
}

const LIMITS: [&str; 16] = [
    "as",
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

/// One `--ulimit` in the specification's words.
///
/// # Errors
/// `Invalid` for a name that is no limit's, or a soft limit above the hard one.
pub(crate) fn rlimit(limit: &Ulimit) -> Result<Rlimit> {
    if !LIMITS.contains(&limit.name.as_str()) {
        return Err(Error::new(
            ErrorKind::Invalid,
            format!("invalid ulimit type: {}", limit.name),
        ));
    }
    // -1, and any other negative number, is unlimited, as in C.
    let number = |value: i64| u64::try_from(value).unwrap_or(u64::MAX);
    let (soft, hard) = (number(limit.soft), number(limit.hard));
    if soft > hard {
        return Err(Error::new(
            ErrorKind::Invalid,
            format!(
                "ulimit soft limit must be less than or equal to hard limit: {} > {}",
                limit.soft, limit.hard
            ),
        ));
    }
    Ok(Rlimit {
        kind: format!("RLIMIT_{}", limit.name.to_ascii_uppercase()),
        soft,
        hard,
    })
}
