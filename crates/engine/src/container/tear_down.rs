//! The undos of a run, used by the monitor in reverse order at its end and by recovery when the monitor was lost.
//!
//! Each may be called any number of times, on a run in any state: what is not there is done.

use std::time::Duration;

use ketch_runtime::cgroup::Cgroup;
use ketch_spec::Id;

use super::spec::cgroup_path;
use super::state::ContainerState;
use crate::{Engine, Error, ErrorKind, Result, record};

/// How long killed processes may take to end.
const CGROUP_DEADLINE: Duration = Duration::from_secs(10);

/// Everything, collecting errors: the first is returned, with the others as causes.
///
/// # Errors
/// What could not be undone; the rest was.
pub fn all(engine: &Engine, id: &Id, state: &ContainerState) -> Result<()> {
    let mut failed: Option<Error> = None;
    for result in [
        cgroup(id, state),
        ports(engine, id),
        endpoints(engine, id),
        run_dir(engine, id),
    ] {
        if let Err(error) = result {
            match &mut failed {
                None => failed = Some(error),
                Some(first) => first.causes.push(error.to_string()),
            }
        }
    }
    failed.map_or(Ok(()), Err)
}

/// Kills what is left in the container's cgroup and removes it.
///
/// # Errors
/// The kernel's, or processes that do not end in time.
pub fn cgroup(id: &Id, state: &ContainerState) -> Result<()> {
    let path = state.cgroup.clone().unwrap_or_else(|| cgroup_path(id));
    let failed = |error: &ketch_runtime::Error| {
        Error::caused(
            ErrorKind::Internal,
            format!("cannot remove the cgroup of container {}", id.short()),
            error,
        )
    };
    let cgroup = Cgroup::open(&path).map_err(|error| failed(&error))?;
    cgroup.kill().map_err(|error| failed(&error))?;
    cgroup
        .remove(CGROUP_DEADLINE)
        .map_err(|error| failed(&error))
}

/// Takes the container's published ports off the host.
///
/// # Errors
/// The kernel's.
pub fn ports(_engine: &Engine, id: &Id) -> Result<()> {
    ketch_network::unpublish(id).map_err(|error| {
        Error::caused(
            ErrorKind::Internal,
            format!("cannot unpublish the ports of container {}", id.short()),
            &error,
        )
    })
}

/// Gives back the container's place in every network it is in. Looks at the networks' own records: a monitor that was
/// lost may not have come to writing down what it had joined.
///
/// # Errors
/// Input and output, the kernel's.
pub fn endpoints(engine: &Engine, id: &Id) -> Result<()> {
    let failed = |error: &(dyn std::error::Error + 'static)| {
        Error::caused(
            ErrorKind::Internal,
            format!("cannot take container {} out of its networks", id.short()),
            error,
        )
    };
    let entries = match std::fs::read_dir(engine.paths().networks_dir()) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(&error)),
    };
    for entry in entries.flatten() {
        let Some(network) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<Id>().ok())
        else {
            continue;
        };
        let dir = engine.paths().network_dir(&network);
        if ketch_network::endpoint(&dir, id)
            .map_err(|error| failed(&error))?
            .is_none()
        {
            continue;
        }
        let Some(record) = record::read_if_there(&engine.paths().network_record(&network))? else {
            continue;
        };
        if let Some(bridge) =
            ketch_network::leave(&dir, &record, id).map_err(|error| failed(&error))?
        {
            bridge.delete().map_err(|error| failed(&error))?;
        }
    }
    Ok(())
}

/// Removes what is gone at boot anyway: control socket and bundle.
///
/// # Errors
/// Input and output.
pub fn run_dir(engine: &Engine, id: &Id) -> Result<()> {
    ketch_sys::fs::remove_tree(&engine.paths().run_dir(id)).map_err(|error| {
        Error::caused(
            ErrorKind::Internal,
            format!(
                "cannot remove the run directory of container {}",
                id.short()
            ),
            &error,
        )
    })
}
