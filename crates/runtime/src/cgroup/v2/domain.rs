//! What version 2 asks of the groups above a container's: controllers are handed down from the root, and a group that
//! hands some down has no processes of its own.

use std::path::{Path, PathBuf};

use ketch_sys::Error as SysError;
use rustix::io::Errno;

use super::super::{MOUNT, file};
use crate::error::{During, Error, Result};

/// Where processes go that were in the root of our cgroup namespace when controllers are handed down from there: what
/// containers in containers usually call it.
const SET_ASIDE: &str = "init";

/// Hands controllers down from the root to `parent`'s children. Those that the machine does not have are left out:
/// a limit that needs one fails by its file's name.
pub(super) fn hand_down(parent: &Path, wanted: &[&str]) -> Result<(), SysError> {
    let mut directory = PathBuf::from(MOUNT);
    let below = parent
        .strip_prefix(MOUNT)
        .unwrap_or(Path::new(""))
        .to_owned();
    let mut names = below.components();
    loop {
        let available = file::read_optional(&directory, "cgroup.controllers")?.unwrap_or_default();
        let there = file::read_optional(&directory, "cgroup.subtree_control")?.unwrap_or_default();
        let has = |text: &str, name: &str| text.split_whitespace().any(|word| word == name);
        let missing: Vec<String> = wanted
            .iter()
            .filter(|name| has(&available, name) && !has(&there, name))
            .map(|name| format!("+{name}"))
            .collect();
        if !missing.is_empty() {
            match enable(&directory, &missing.join(" ")) {
                // A group above those that were given to us: what comes down to those is all that there is.
                Err(error) if matches!(error.errno, Errno::ACCESS | Errno::PERM | Errno::ROFS) => {}
                other => other?,
            }
        }
        match names.next() {
            Some(name) => directory.push(name),
            None => return Ok(()),
        }
    }
}

fn enable(directory: &Path, controllers: &str) -> Result<(), SysError> {
    match file::write(directory, "cgroup.subtree_control", controllers) {
        // The root of a cgroup namespace of our own (that of the machine takes both): we are in a container ourselves,
        // and so is everything in there.
        Err(error) if error.errno == Errno::BUSY && directory == Path::new(MOUNT) => {
            set_aside(directory)?;
            file::write(directory, "cgroup.subtree_control", controllers)
        }
        other => other,
    }
}

/// Moves the processes of a group into one below it.
fn set_aside(directory: &Path) -> Result<(), SysError> {
    let below = directory.join(SET_ASIDE);
    file::make(&below)?;
    let processes = file::read_optional(directory, "cgroup.procs")?.unwrap_or_default();
    for pid in processes.lines().filter(|&pid| pid != "0") {
        match file::write(&below, "cgroup.procs", pid) {
            // It has ended meanwhile.
            Err(error) if error.errno == Errno::SRCH => {}
            other => other?,
        }
    }
    Ok(())
}

/// Tells why controllers could not be handed down.
pub(super) fn explain(error: SysError) -> Error {
    let file = error.path.as_ref().map(|path| path.display().to_string());
    let is_control = file
        .as_ref()
        .is_some_and(|path| path.ends_with("cgroup.subtree_control"));
    let reason = match error.errno {
        Errno::BUSY if is_control => {
            "it has processes of its own, which version 2 does not allow above a group with limits: \
             move them into a group below it, or choose another linux.cgroupsPath"
        }
        Errno::OPNOTSUPP if is_control => {
            "it is threaded, or below one that is: containers need a group of whole processes; choose another \
             linux.cgroupsPath"
        }
        _ => {
            return Error::System {
                step: "make the cgroup".to_owned(),
                failure: error,
            };
        }
    };
    Error::invalid("the parent of the cgroup", format!("{error}: {reason}"))
}

/// Refuses a group that cannot hold a container's processes.
pub(super) fn check_type(directory: &Path) -> Result<()> {
    let kind = file::read_optional(directory, "cgroup.type").during("make the cgroup")?;
    match kind.as_deref().map(str::trim) {
        // The root has no such file.
        None | Some("domain" | "domain threaded") => Ok(()),
        Some(kind) => {
            let reason = format!(
                "{} is {kind:?}: containers need a group of whole processes (\"domain\")",
                directory.display()
            );
            Err(Error::unsupported("linux.cgroupsPath", reason))
        }
    }
}
