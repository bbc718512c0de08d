//! The last steps of a process before execve, the same for a container's first and for one that joins it.

use std::ffi::CString;

use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::process::{Gid, Uid};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};

use crate::channel::{Channel, Message};
use crate::error::{Called, During, Error, Result};
use crate::init::{die_with_the_caller, live_on};
use crate::notify;
use crate::plan::{Lifetime, ProcessPlan, preserved};
use crate::stdio;

/// Mask of new files where the specification gives none.
const DEFAULT_UMASK: u32 = 0o022;

/// Becomes the user, gives up privileges, executes; comes back with the reason why not.
pub(crate) fn finish(plan: &ProcessPlan<'_>, channel: &Channel) -> Error {
    match prepare(plan, channel) {
        Ok((path, home)) => plan.program.execute(&path, home),
        Err(error) => error,
    }
}

fn prepare(plan: &ProcessPlan<'_>, channel: &Channel) -> Result<(CString, Option<CString>)> {
    let user = &plan.process.user;
    stdio::give_to(user.uid)?;
    plan.limits.apply()?;
    // As root first: directories above may be closed to the user. Where root may not (a network file system), the
    // user may.
    let entered = plan.program.enter_directory();
    let home = plan.program.home(user.uid);
    plan.capabilities.before_user_change()?;
    become_user(user.uid, user.gid, &user.additional_gids)?;
    match entered {
        Err(error) if error.errno() == Some(Errno::ACCESS) => plan.program.enter_directory()?,
        other => other?,
    }
    rustix::process::umask(Mode::from_raw_mode(user.umask.unwrap_or(DEFAULT_UMASK)));
    settle_lifetime(plan, channel)?;
    let path = plan.program.find()?;
    for fd in preserved(plan.preserve_fds) {
        ketch_sys::process::keep_over_exec(fd).during("keep a descriptor")?;
    }
    lose_privileges(plan)?;
    report_executing(plan, channel)?;
    if let Some(filter) = &plan.seccomp
        && let Some(listener) = filter.program().load()?
    {
        notify::hand_over(&listener, channel)?;
    }
    plan.capabilities.finish()?;
    Ok((path, home))
}

/// For a hook in the container, in a process of its own: all that confines the container's program. The listener of
/// its system calls, if there is one, goes over `channel`.
pub(crate) fn confine(plan: &ProcessPlan<'_>, channel: Option<&Channel>) -> Result<()> {
    let user = &plan.process.user;
    plan.limits.apply()?;
    plan.capabilities.before_user_change()?;
    become_user(user.uid, user.gid, &user.additional_gids)?;
    // The change of user has cleared it.
    die_with_the_caller()?;
    rustix::process::umask(Mode::from_raw_mode(user.umask.unwrap_or(DEFAULT_UMASK)));
    lose_privileges(plan)?;
    if let Some(filter) = &plan.seccomp
        && let Some(listener) = filter.program().load()?
        && let Some(channel) = channel
    {
        notify::hand_over(&listener, channel)?;
    }
    plan.capabilities.finish()
}

fn lose_privileges(plan: &ProcessPlan<'_>) -> Result<()> {
    plan.capabilities.after_user_change()?;
    if !plan.process.no_new_privileges {
        return Ok(());
    }
    rustix::thread::set_no_new_privs(true)
        .called("prctl PR_SET_NO_NEW_PRIVS")
        .during("set process.noNewPrivileges")
}

/// Whoever starts a container that lives by itself may have ended: the start goes on without it.
fn report_executing(plan: &ProcessPlan<'_>, channel: &Channel) -> Result<()> {
    match channel.send(&Message::Executing) {
        Err(error) if error.errno == Errno::PIPE && plan.lifetime == Lifetime::Own => Ok(()),
        other => other.during("report to the parent"),
    }
}

fn settle_lifetime(plan: &ProcessPlan<'_>, channel: &Channel) -> Result<()> {
    match plan.lifetime {
        // The change of user has cleared it; if the parent ended meanwhile nobody is left to be told.
        Lifetime::Parents => {
            die_with_the_caller()?;
            if channel.is_closed() {
                ketch_sys::process::exit_now(1);
            }
            Ok(())
        }
        Lifetime::Own => live_on(),
    }
}

fn become_user(uid: u32, gid: u32, groups: &[u32]) -> Result<()> {
    let step = "become the user";
    let groups: Vec<Gid> = groups.iter().map(|&group| Gid::from_raw(group)).collect();
    match set_thread_groups(&groups) {
        // A user namespace that may not change groups has none to give up.
        Err(Errno::PERM) if groups.is_empty() => {}
        other => other.called("setgroups").during(step)?,
    }
    let (gid, uid) = (Gid::from_raw(gid), Uid::from_raw(uid));
    set_thread_res_gid(gid, gid, gid)
        .called("setresgid")
        .during(step)?;
    set_thread_res_uid(uid, uid, uid)
        .called("setresuid")
        .during(step)
}
