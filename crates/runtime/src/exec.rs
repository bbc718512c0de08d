//! Another process in a running container.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use ketch_spec::runtime::{NamespaceKind, Process as ProcessSpec};
use ketch_sys::clone::{CloneOptions, clone_process};
use ketch_sys::namespace::{self, Namespaces};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::thread::CpuSet;

use crate::cgroup::Cgroup;
use crate::channel::{Channel, Message};
use crate::error::{Called, During, Error, Result};
use crate::init::{
    become_root, die_with_the_caller, enter, give_up, hide_program, lead_session, wait_for_the_word,
};
use crate::namespaces::{self, JOIN_ORDER};
use crate::notify::{self, NotifyAgent};
use crate::plan::{Filter, Lifetime, ProcessPlan};
use crate::process::Process;
use crate::resctrl::Group as ResctrlGroup;
use crate::seccomp::Program;
use crate::stdio::{self, Stdio};
use crate::{finish, labels, limits, rootfs};

/// What [`exec`] runs, and where.
#[derive(Debug)]
pub struct ExecOptions<'a> {
    /// pidfd of the container's first process.
    pub target: BorrowedFd<'a>,
    /// What runs.
    pub process: &'a ProcessSpec,
    /// The container's cgroups; None: the caller's own.
    pub cgroup: Option<&'a Cgroup>,
    /// Standard streams.
    pub stdio: Stdio,
    /// So many descriptors from 3 on stay open in the program.
    pub preserve_fds: u32,
    /// The system call filter; None: none.
    pub seccomp: Option<&'a Program>,
    /// Who answers the calls that the filter leaves to an agent.
    pub agent: Option<NotifyAgent>,
    /// Whether it ends with the caller.
    pub lifetime: Lifetime,
    /// The container's class of `linux.intelRdt`.
    pub resctrl: Option<&'a ResctrlGroup>,
}

/// Processors of the process before and after it enters the cgroups.
#[derive(Default)]
struct Affinity {
    initial: Option<CpuSet>,
    last: Option<CpuSet>,
}

/// Runs a program in a running container: in its namespaces and cgroups, as a child of the caller. Returns when the
/// program executes.
///
/// # Errors
/// Why it could not, [`Error::exit_code`] 126 or 127 if it was for the program; `ESRCH` if the container has ended.
pub fn exec(options: ExecOptions<'_>) -> Result<Process> {
    let ExecOptions {
        target,
        process,
        cgroup,
        stdio,
        preserve_fds,
        seccomp,
        agent,
        lifetime,
        resctrl,
    } = options;
    let mut plan = ProcessPlan::new(process, cgroup, stdio, preserve_fds)?;
    plan.seccomp = seccomp.map(Filter::Given);
    plan.lifetime = lifetime;
    if plan.notifies() && agent.is_none() {
        return Err(notify::without_agent());
    }
    let affinity = affinity(process)?;
    let kinds = kinds_to_join(target)?;
    let root = root_of(target)?;
    let (ours, theirs) = Channel::pair().during("make a channel to the child")?;
    let mut keep = plan.descriptors();
    keep.extend([
        theirs.as_fd().as_raw_fd(),
        target.as_raw_fd(),
        root.as_raw_fd(),
    ]);
    let clone_options = CloneOptions {
        cgroup: plan.entry.directory(),
        keep: &keep,
        ..CloneOptions::default()
    };
    // A child is in the pid namespace that its parent chose for it; all others it joins itself.
    let step = "clone a process into the container";
    let back = namespaces::own(NamespaceKind::Pid)?;
    namespace::join(target, Namespaces::PID).during("join the container's pid namespace")?;
    let child = clone_process(&clone_options, || {
        let joining = Joining {
            target,
            root: root.as_fd(),
            kinds,
            affinity: &affinity,
            plan: &plan,
        };
        give_up(&theirs, joining.run(&theirs))
    })
    .during(step);
    namespaces::return_to(back)?;
    drop(theirs);
    let mut process = Process::new(child?, ours);
    if let Some(cgroup) = cgroup.filter(|_| plan.entry.waits) {
        cgroup.take_in(process.pid())?;
        process.send(&Message::Placed)?;
    }
    plan.limits.raise(process.pid())?;
    if let Some(group) = resctrl {
        group.enter(process.pid())?;
    }
    process.set_agent(agent, "running");
    process.set_warnings(plan.warnings);
    process.start()?;
    Ok(process)
}

fn affinity(process: &ProcessSpec) -> Result<Affinity> {
    let Some(wanted) = &process.exec_cpu_affinity else {
        return Ok(Affinity::default());
    };
    let set = |list: &str| match list {
        "" => Ok(None),
        list => limits::cpu_set("process.execCPUAffinity", list).map(Some),
    };
    Ok(Affinity {
        initial: set(&wanted.initial)?,
        last: set(&wanted.last)?,
    })
}

/// All kinds; the user namespace only if it is another one, because the own one cannot be joined again.
fn kinds_to_join(target: BorrowedFd<'_>) -> Result<Namespaces> {
    let mut kinds = Namespaces::empty();
    for kind in JOIN_ORDER {
        kinds |= namespaces::flag(kind);
    }
    let kinds = kinds.without(Namespaces::PID);
    let pid = pid_of(target)?;
    let same = link("self", NamespaceKind::User)? == link(&pid, NamespaceKind::User)?;
    Ok(if same {
        kinds.without(Namespaces::USER)
    } else {
        kinds
    })
}

/// Which namespace of the kind a process is in.
fn link(process: &str, kind: NamespaceKind) -> Result<PathBuf> {
    let path = PathBuf::from(format!(
        "/proc/{process}/ns/{}",
        namespaces::file_name(kind)
    ));
    std::fs::read_link(&path)
        .map_err(|error| ketch_sys::Error::from_io("readlink", path, &error))
        .during("look at the container's namespaces")
}

/// The process number that a pidfd is for; it is valid as long as the caller has not reaped the process.
fn pid_of(pidfd: BorrowedFd<'_>) -> Result<String> {
    let path = format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd());
    let step = "find the container's first process";
    let text = std::fs::read_to_string(&path)
        .map_err(|error| ketch_sys::Error::from_io("read", &path, &error))
        .during(step)?;
    let pid = text
        .lines()
        .find_map(|line| line.strip_prefix("Pid:"))
        .map(str::trim);
    match pid {
        Some(pid) if !pid.starts_with('-') && pid != "0" => Ok(pid.to_owned()),
        Some(_) => Err(ketch_sys::Error::new("pidfd", Errno::SRCH)).during(step),
        None => Err(Error::invalid("target", "it is no pidfd")),
    }
}

/// The root of the container's first process.
fn root_of(target: BorrowedFd<'_>) -> Result<OwnedFd> {
    let step = "look at the container's root";
    let path = format!("/proc/{}/root", pid_of(target)?);
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = match rustix::fs::open(&path, flags, Mode::empty()) {
        Err(Errno::NOENT) => Err(Errno::SRCH),
        other => other,
    };
    let root = root.called_on("open", path).during(step)?;
    // If it is still there, the number was its own all the time.
    ketch_sys::process::send_signal(target, 0).during(step)?;
    Ok(root)
}

/// The child's side.
struct Joining<'a> {
    target: BorrowedFd<'a>,
    root: BorrowedFd<'a>,
    kinds: Namespaces,
    affinity: &'a Affinity,
    plan: &'a ProcessPlan<'a>,
}

impl Joining<'_> {
    fn run(&self, channel: &Channel) -> Result<()> {
        hide_program()?;
        die_with_the_caller()?;
        lead_session(self.plan)?;
        if let Some(set) = &self.affinity.initial {
            limits::bind_to(set)?;
        }
        enter(&self.plan.entry, channel)?;
        match &self.affinity.last {
            Some(set) => limits::bind_to(set)?,
            // Those of the cgroup, which the kernel makes of all.
            None if self.affinity.initial.is_some() => limits::bind_to(&limits::all_cpus())?,
            None => {}
        }
        labels::set(self.plan.process)?;
        self.plan.limits.apply_score()?;
        self.join()?;
        self.enter_root()?;
        if self.kinds.contains(Namespaces::USER) {
            become_root()?;
        }
        rustix::process::umask(Mode::empty());
        if let Stdio::Terminal { size } = self.plan.stdio {
            let root = rootfs::current()?;
            let owner = self.plan.process.user.uid;
            stdio::open_terminal(root.as_fd(), size, owner, channel)?;
        }
        wait_for_the_word(channel)?;
        Err(finish::finish(self.plan, channel))
    }

    /// Those that it shares with the container already cannot be joined again by the root of a user namespace, unless
    /// they belong to that.
    fn join(&self) -> Result<()> {
        let step = "join the container's namespaces";
        match namespace::join(self.target, self.kinds) {
            Err(error) if error.errno == Errno::PERM => {
                let pid = pid_of(self.target)?;
                let mut others = Namespaces::empty();
                for kind in JOIN_ORDER {
                    let flag = namespaces::flag(kind);
                    if self.kinds.contains(flag) && link("self", kind)? != link(&pid, kind)? {
                        others |= flag;
                    }
                }
                namespace::join(self.target, others).during(step)
            }
            other => other.during(step),
        }
    }

    /// Joining a mount namespace leads to the root of that, which is not the container's if others are in it too.
    fn enter_root(&self) -> Result<()> {
        let step = "enter the container's root";
        rustix::process::fchdir(self.root)
            .called("fchdir")
            .during(step)?;
        rustix::process::chroot(".").called("chroot").during(step)
    }
}
