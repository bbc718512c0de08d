//! Leaving the command that started us: its session, signals, descriptors, directory, and (later, when nobody waits)
//! its cgroup. Otherwise a logout, a Ctrl-C or an unmount there would reach the container.

use std::fs;
use std::io;
use std::path::Path;

use rustix::fs::{Mode, OFlags};

/// What failed while leaving.
#[derive(Debug, thiserror::Error)]
pub enum LeaveError {
    /// A typed call of ours.
    #[error(transparent)]
    Call(#[from] ketch_sys::Error),
    /// A call without a path.
    #[error("{call}: {source}")]
    Plain {
        /// Which.
        call: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
}

/// Leaves the session, the directory, the standard streams and the signal dispositions of the caller.
///
/// # Errors
/// What failed.
pub fn leave_caller() -> Result<(), LeaveError> {
    let plain = |call| {
        move |errno: rustix::io::Errno| LeaveError::Plain {
            call,
            source: errno.into(),
        }
    };
    match rustix::process::setsid() {
        // We lead a group already, when a user runs us by hand from an interactive shell: it is a session of its own
        // that counts, and there is none to be had without a fork.
        Ok(_) | Err(rustix::io::Errno::PERM) => {}
        Err(errno) => return Err(plain("setsid")(errno)),
    }
    ketch_sys::process::reset_signals();
    ketch_sys::poll::ignore_signal(rustix::process::Signal::PIPE.as_raw())?;
    rustix::process::chdir("/").map_err(plain("chdir /"))?;
    rustix::process::umask(Mode::from_raw_mode(0o022));
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
        .map_err(plain("open /dev/null"))?;
    rustix::stdio::dup2_stdin(&null).map_err(plain("dup2"))?;
    rustix::stdio::dup2_stdout(&null).map_err(plain("dup2"))?;
    rustix::stdio::dup2_stderr(&null).map_err(plain("dup2"))?;
    rustix::thread::set_name(c"ketch-monitor").map_err(plain("prctl PR_SET_NAME"))?;
    // With the monitor its container dies: let the kernel take other victims first. Not ours to insist on: it needs
    // CAP_SYS_RESOURCE.
    let _ = fs::write("/proc/self/oom_score_adj", "-999");
    Ok(())
}

/// Leaves the caller's cgroup where that ends with the caller's session: systemd's hierarchy, and the unified one.
///
/// Moving a process on a pure v2 machine may wait for an RCU grace period (10 ms), so this comes after the start, when
/// nobody waits for us. Where it is not allowed, we stay: then whoever made that cgroup decides about us.
pub fn leave_cgroup() {
    let Ok(memberships) = fs::read_to_string("/proc/self/cgroup") else {
        return;
    };
    for line in memberships.lines() {
        for path in roots_to_join(line) {
            // The root takes any process on v1, and on v2 too. `0` means the writing process; `tasks` moves one
            // thread (we have one) without the lock that `cgroup.procs` takes.
            if fs::write(path, "0").is_ok() {
                break;
            }
        }
    }
}

/// Files of the root cgroup to write to, for one line `number:controllers:path` of /proc/self/cgroup.
fn roots_to_join(line: &str) -> Vec<&'static Path> {
    let mut fields = line.splitn(3, ':');
    let (Some(number), Some(controllers), Some(path)) =
        (fields.next(), fields.next(), fields.next())
    else {
        return Vec::new();
    };
    let files: &[&str] = match (number, controllers, path) {
        (_, _, "/") => &[],
        ("0", "", _) => &[
            "/sys/fs/cgroup/unified/cgroup.procs",
            "/sys/fs/cgroup/cgroup.procs",
        ],
        (_, "name=systemd", _) => &["/sys/fs/cgroup/systemd/tasks"],
        _ => &[],
    };
    files.iter().map(Path::new).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_ends_with_a_session_is_left() {
        assert!(roots_to_join("0::/").is_empty());
        assert!(roots_to_join("4:memory:/some/where").is_empty());
        assert!(roots_to_join("nonsense").is_empty());
        let user = "/user.slice/user-0.slice/session-1.scope";
        assert_eq!(
            roots_to_join(&format!("1:name=systemd:{user}")),
            [Path::new("/sys/fs/cgroup/systemd/tasks")]
        );
        assert_eq!(roots_to_join(&format!("0::{user}")).len(), 2);
    }
}
