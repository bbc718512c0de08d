//! Containers of users who may not mount: the runtime enters the container's user namespace before it does anything
//! there, and has the rights in it that it needs (user_namespaces(7)).

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::process::Command;

use ketch_spec::runtime::{IdMapping, Linux, NamespaceKind, Spec};
use ketch_sys::Error as SysError;
use ketch_sys::capability;
use ketch_sys::clone::{CloneOptions, clone_process};
use ketch_sys::namespace::{self, Namespaces};
use rustix::io::Errno;

use crate::error::{During, Result};
use crate::id_map;

/// Bit of `CAP_SYS_ADMIN`.
const SYS_ADMIN: u64 = 1 << 21;
/// Exit status of the process that writes the mappings, if a program has told why it could not.
const TOLD: i32 = 255;

/// Before a container is made. If the caller may not mount, and the container is to have a user and a mount namespace of
/// its own, the caller goes there first, with the ids that the specification maps; nothing is left of the user namespace
/// in `spec` then. Else nothing happens.
///
/// # Errors
/// A process whose ids are not mapped; what the kernel says to the namespaces and to the mappings; newuidmap(1) or newgidmap(1), which write mappings of
/// more than the caller's own id, is not there or fails.
pub(super) fn enter_new(spec: &mut Spec) -> Result<()> {
    let step = "enter the user namespace of the container";
    let Some(linux) = spec.linux.as_mut().filter(|linux| has_both(linux)) else {
        return Ok(());
    };
    if may_mount(step)? {
        return Ok(());
    }
    if let Some(process) = &spec.process {
        id_map::check_user(&process.user, &linux.uid_mappings, &linux.gid_mappings)?;
    }
    let runtime = std::process::id();
    let (hold, release) = std::io::pipe()
        .map_err(|error| SysError::from_io("pipe", "", &error))
        .during(step)?;
    let keep = [hold.as_raw_fd()];
    let options = CloneOptions {
        keep: &keep,
        ..CloneOptions::default()
    };
    // Who is in a user namespace may not map others' ids there: somebody outside of it does.
    let writer = clone_process(&options, || match rustix::io::read(&hold, &mut [0]) {
        Ok(1) => map(runtime, linux),
        // The runtime has ended.
        _ => 0,
    })
    .during(step)?;
    let entered = namespace::unshare(Namespaces::USER | Namespaces::MOUNT).during(step);
    if entered.is_ok() {
        rustix::io::write(&release, b"x")
            .map_err(|errno| SysError::new("write", errno))
            .during(step)?;
    }
    drop(release);
    let status = ketch_sys::process::wait_child(writer.pid, true).during(step)?;
    entered?;
    let code = match status {
        Some(status) if status & 0x7f == 0 => (status >> 8) & 0xff,
        // Somebody has killed it.
        _ => Errno::CHILD.raw_os_error(),
    };
    match code {
        0 => {}
        TOLD => {
            let what = "newuidmap or newgidmap: see /etc/subuid and /etc/subgid";
            return Err(SysError::on("execute", what, Errno::PERM)).during(step);
        }
        errno => {
            let errno = Errno::from_raw_os_error(errno);
            let path = format!("/proc/{runtime}/uid_map");
            return Err(SysError::on("write", path, errno)).during(step);
        }
    }
    linux
        .namespaces
        .retain(|listed| listed.kind != NamespaceKind::User);
    linux.uid_mappings.clear();
    linux.gid_mappings.clear();
    Ok(())
}

/// Before something is executed in a container: the same with the user namespace that its first process is in.
///
/// # Errors
/// What setns(2) says.
pub(super) fn enter_of(first: BorrowedFd<'_>, config: &Spec) -> Result<()> {
    let step = "enter the user namespace of the container";
    if config.linux.as_ref().is_some_and(has_both) && !may_mount(step)? {
        namespace::join(first.as_fd(), Namespaces::USER).during(step)?;
    }
    Ok(())
}

fn may_mount(step: &'static str) -> Result<bool> {
    let mine = capability::get().during(step)?;
    Ok(mine.effective & SYS_ADMIN != 0)
}

fn has_both(linux: &Linux) -> bool {
    let own = |kind| {
        let mut listed = linux.namespaces.iter();
        listed.any(|listed| listed.kind == kind && listed.path.is_none())
    };
    own(NamespaceKind::User) && own(NamespaceKind::Mount)
}

/// Writes the mappings of process `pid`; the result is an exit status: an errno, or [`TOLD`].
fn map(pid: u32, linux: &Linux) -> i32 {
    let (uids, gids) = (&linux.uid_mappings, &linux.gid_mappings);
    let is_single = |mappings: &[IdMapping]| matches!(mappings, [one] if one.size == 1);
    if is_single(uids) && is_single(gids) {
        let written = id_map::write(pid, uids, gids);
        return written.err().map_or(0, |error| {
            error.errno().unwrap_or(Errno::INVAL).raw_os_error()
        });
    }
    for (program, mappings) in [("newuidmap", uids), ("newgidmap", gids)] {
        let status = Command::new(program).args(words(pid, mappings)).status();
        if !status.is_ok_and(|status| status.success()) {
            return TOLD;
        }
    }
    0
}

fn words(pid: u32, mappings: &[IdMapping]) -> Vec<String> {
    let ids = |one: &IdMapping| [one.container_id, one.host_id, one.size];
    std::iter::once(pid)
        .chain(mappings.iter().flat_map(ids))
        .map(|number| number.to_string())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mappings_are_told_as_newuidmap_wants_them() {
        let one = |container_id, host_id, size| IdMapping {
            container_id,
            host_id,
            size,
        };
        let mappings = [one(0, 1000, 1), one(1, 100_000, 65_536)];
        let told = ["7", "0", "1000", "1", "1", "100000", "65536"];
        assert_eq!(words(7, &mappings), told);
    }
}
