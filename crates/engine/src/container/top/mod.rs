//! `top`: the processes of a container, as the host's `ps -ef` shows them.
//!
//! Without arguments they are read from /proc; with arguments the host's `ps` is asked, and the container's processes
//! are picked from its answer, as Docker does.

mod process;

use std::process::Command;

use ketch_runtime::cgroup::Cgroup;
use ketch_spec::Id;

use super::spec::cgroup_path;
use super::state::Status;
use super::{channel, load};
use crate::{Engine, Error, ErrorKind, Result};

/// Titles and rows of a process listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Top {
    /// Column titles.
    pub titles: Vec<String>,
    /// One row a process, as many columns as titles.
    pub processes: Vec<Vec<String>>,
}

/// Lists the processes of a running container. `ps_args` are arguments of ps(1); empty means `-ef`.
///
/// # Errors
/// `NotFound`; `Conflict` if it does not run; `Invalid` if ps fails or shows no PID column.
pub fn top(engine: &Engine, wanted: &str, ps_args: &[String]) -> Result<Top> {
    let id = load::resolve(engine, wanted)?;
    let (_, state) = load::load(engine, &id)?;
    match state.status {
        Status::Running | Status::Paused => {}
        Status::Restarting => {
            return Err(Error::new(
                ErrorKind::Conflict,
                format!("Container {id} is restarting, wait until the container is running"),
            ));
        }
        _ => return Err(channel::not_running(&id)),
    }
    let path = state.cgroup.unwrap_or_else(|| cgroup_path(&id));
    let pids = processes(&id, &path)?;
    let default = ps_args.is_empty() || ps_args == ["-ef"];
    if default {
        Ok(process::list(&pids))
    } else {
        ask_ps(ps_args, &pids)
    }
}

fn processes(id: &Id, path: &str) -> Result<Vec<u32>> {
    let mut pids = Cgroup::open(path)
        .and_then(|cgroup| cgroup.processes())
        .map_err(|error| {
            Error::caused(
                ErrorKind::Internal,
                format!("cannot list the processes of container {}", id.short()),
                &error,
            )
        })?;
    pids.sort_unstable();
    Ok(pids)
}

fn ask_ps(args: &[String], pids: &[u32]) -> Result<Top> {
    let output = Command::new("ps").args(args).output().map_err(|error| {
        Error::caused(
            ErrorKind::Unavailable,
            "cannot execute ps on the host",
            &error,
        )
    })?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(Error::new(ErrorKind::Invalid, format!("ps: {said}")));
    }
    pick(&String::from_utf8_lossy(&output.stdout), pids)
}

/// The rows of ps's answer that are about `pids`.
fn pick(text: &str, pids: &[u32]) -> Result<Top> {
    let mut lines = text.lines();
    let titles: Vec<String> = lines
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .map(str::to_owned)
        .collect();
    let Some(column) = titles.iter().position(|title| title == "PID") else {
        return Err(Error::new(
            ErrorKind::Invalid,
            "Couldn't find PID field in ps output",
        ));
    };
    let mut processes = Vec::new();
    for line in lines {
        let fields = split(line, titles.len());
        if fields
            .get(column)
            .and_then(|field| field.parse().ok())
            .is_some_and(|pid: u32| pids.contains(&pid))
        {
            processes.push(fields);
        }
    }
    Ok(Top { titles, processes })
}

/// Splits into at most `columns` fields; the last one has the rest of the line.
fn split(line: &str, columns: usize) -> Vec<String> {
    let mut fields = Vec::new();
    let mut rest = line.trim_start();
    while fields.len() + 1 < columns && !rest.is_empty() {
        let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
        fields.push(rest[..end].to_owned());
        rest = rest[end..].trim_start();
    }
    if !rest.is_empty() {
        fields.push(rest.trim_end().to_owned());
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_picked_by_pid_and_commands_kept_whole() {
        let text = "  PID USER     COMMAND\n   12 root     sh -c sleep  1\n  123 root     other\n";
        let top = pick(text, &[12]).unwrap();
        assert_eq!(top.titles, ["PID", "USER", "COMMAND"]);
        assert_eq!(top.processes, [["12", "root", "sh -c sleep  1"]]);
        assert_eq!(
            pick("USER\nroot\n", &[1]).unwrap_err().message,
            "Couldn't find PID field in ps output"
        );
    }

    #[test]
    fn our_own_process_is_listed_as_ps_does() {
        let pid = std::process::id();
        let top = process::list(&[pid, u32::MAX]);
        assert_eq!(
            top.titles,
            ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]
        );
        assert_eq!(top.processes.len(), 1);
        assert_eq!(top.processes[0][1], pid.to_string());
        assert!(
            top.processes[0][7].contains("engine"),
            "{:?}",
            top.processes
        );
    }
}
