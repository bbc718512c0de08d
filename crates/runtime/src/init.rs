//! The first process of a container, from clone to execve: a list of steps, each with its name.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use ketch_spec::runtime::NamespaceKind;
use ketch_sys::namespace::{self, Namespaces};
use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::process::{DumpableBehavior, Signal};

use crate::cgroup::Entry;
use crate::channel::{Channel, Message};
use crate::error::{Called, During, Error, Result};
use crate::hooks::{Confined, HookPlan};
use crate::plan::{ContainerPlan, Lifetime, ProcessPlan};
use crate::{attach, devices, finish, kernel_files, labels, masked, namespaces, rootfs, stdio};

/// The child's state.
pub(crate) struct Init<'a> {
    pub container: &'a ContainerPlan<'a>,
    pub process: &'a ProcessPlan<'a>,
    pub channel: &'a Channel,
    /// The terminal, once it is open.
    pub terminal: Option<OwnedFd>,
    /// Mounts that become read-only when everything is in its place.
    pub late: Vec<OwnedFd>,
    /// Whoever came to start a container whose creator has gone.
    pub starter: Option<Channel>,
}

/// What init does, in this order. By then every descriptor it does not need is closed.
const STEPS: [fn(&mut Init<'_>) -> Result<()>; 18] = [
    die_with_parent,
    become_leader,
    enter_cgroup,
    take_labels_and_score,
    enter_namespaces,
    set_names,
    attach_root,
    attach_mounts,
    make_devices,
    run_hooks,
    open_terminal,
    set_sysctls,
    hide_paths,
    enter_root,
    report_prepared,
    wait_for_go,
    run_start_hooks,
    execute,
];

/// Runs the steps; comes back only with an error, which the parent was told of. The result is the exit status.
pub(crate) fn run(
    container: &ContainerPlan<'_>,
    process: &ProcessPlan<'_>,
    channel: &Channel,
) -> i32 {
    let mut init = Init {
        container,
        process,
        channel,
        terminal: None,
        late: Vec::new(),
        starter: None,
    };
    let result = STEPS.iter().try_for_each(|step| step(&mut init));
    give_up(init.speaker(), result)
}

/// Tells the parent why; the result is the exit status.
pub(crate) fn give_up(channel: &Channel, result: Result<()>) -> i32 {
    match result {
        Ok(()) => 0,
        Err(error) => {
            // If the parent is gone there is nobody to tell.
            let _ = channel.send(&Message::Failed(error.report()));
            error.exit_code()
        }
    }
}

impl Init<'_> {
    /// Who hears of what goes wrong.
    fn speaker(&self) -> &Channel {
        self.starter.as_ref().unwrap_or(self.channel)
    }

    fn root(&self) -> BorrowedFd<'_> {
        self.container.root.as_fd()
    }

    fn has_new(&self, kind: NamespaceKind) -> bool {
        self.container
            .namespaces
            .new
            .contains(namespaces::flag(kind))
    }
}

/// Also, the mask is empty while files are made: their modes are those that were asked for.
fn die_with_parent(init: &mut Init<'_>) -> Result<()> {
    die_with_the_caller()?;
    if !init.has_new(NamespaceKind::Pid) {
        hide_program()?;
    }
    rustix::process::umask(Mode::empty());
    Ok(())
}

/// Until execve, what this process is must not be seen by processes it will be among: /proc/PID/exe is our own
/// program.
pub(crate) fn hide_program() -> Result<()> {
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .called("prctl PR_SET_DUMPABLE")
        .during("hide from the container")
}

/// The kernel kills the caller when its parent ends. A parent that has ended already is found by [`wait_for_go`]: the
/// channel is closed then.
pub(crate) fn die_with_the_caller() -> Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .called("prctl PR_SET_PDEATHSIG")
        .during("end with the parent")
}

/// The opposite, for a process that outlives whoever made it.
pub(crate) fn live_on() -> Result<()> {
    rustix::process::set_parent_process_death_signal(None)
        .called("prctl PR_SET_PDEATHSIG")
        .during("outlive the parent")
}

fn become_leader(init: &mut Init<'_>) -> Result<()> {
    lead_session(init.process)
}

/// Standard streams, an own session and an own session keyring.
pub(crate) fn lead_session(process: &ProcessPlan<'_>) -> Result<()> {
    ketch_sys::process::reset_signals();
    process.stdio.install()?;
    rustix::process::setsid()
        .called("setsid")
        .during("make a session")?;
    if !process.new_keyring {
        return Ok(());
    }
    match ketch_sys::process::join_new_session_keyring() {
        // A kernel without keys has none to protect; EDQUOT is another user's mistake, and the old ring stays.
        Err(error) if error.errno == Errno::NOSYS => Ok(()),
        other => other.map(drop).during("make a session keyring"),
    }
}

fn enter_cgroup(init: &mut Init<'_>) -> Result<()> {
    enter(&init.process.entry, init.channel)
}

/// In the child: enters its cgroups, or waits until it has been moved there.
pub(crate) fn enter(entry: &Entry, channel: &Channel) -> Result<()> {
    if entry.waits {
        let step = "wait to be moved into the cgroup";
        match channel.receive().during(step)? {
            Some(Message::Placed) => {}
            _ => ketch_sys::process::exit_now(1),
        }
    }
    entry.enter()
}

fn take_labels_and_score(init: &mut Init<'_>) -> Result<()> {
    labels::set(init.process.process)?;
    init.process.limits.apply_score()
}

fn enter_namespaces(init: &mut Init<'_>) -> Result<()> {
    if init.has_new(NamespaceKind::User) {
        match init.channel.receive().during("wait for the id mappings")? {
            Some(Message::Mapped) => become_root()?,
            _ => ketch_sys::process::exit_now(1),
        }
    }
    init.container.namespaces.join_all()?;
    if init.has_new(NamespaceKind::Cgroup) {
        // After the cgroup was entered: what the process is in now becomes the root of its view.
        namespace::unshare(Namespaces::CGROUP).during("make the cgroup namespace")?;
    }
    if init.has_new(NamespaceKind::Time) {
        namespaces::enter_time_namespace(&init.container.linux.time_offsets)?;
    }
    // Last: the steps above write to the runtime's own /proc.
    init.container.namespaces.join_mount()
}

/// User 0 of the user namespace that was entered.
pub(crate) fn become_root() -> Result<()> {
    let step = "become root of the user namespace";
    let (uid, gid) = (rustix::process::Uid::ROOT, rustix::process::Gid::ROOT);
    rustix::thread::set_thread_res_gid(gid, gid, gid)
        .called("setresgid")
        .during(step)?;
    rustix::thread::set_thread_res_uid(uid, uid, uid)
        .called("setresuid")
        .during(step)
}

fn set_names(init: &mut Init<'_>) -> Result<()> {
    let spec = init.container.spec;
    if !spec.hostname.is_empty() {
        rustix::system::sethostname(spec.hostname.as_bytes())
            .called("sethostname")
            .during("set the host name")?;
    }
    if !spec.domainname.is_empty() {
        rustix::system::setdomainname(spec.domainname.as_bytes())
            .called("setdomainname")
            .during("set the domain name")?;
    }
    Ok(())
}

fn attach_root(init: &mut Init<'_>) -> Result<()> {
    rootfs::attach(
        init.root(),
        init.container.root_point(),
        init.container.root_propagation,
        &init.container.entrance,
    )
}

fn attach_mounts(init: &mut Init<'_>) -> Result<()> {
    let container = init.container;
    init.late = attach::attach_all(init.root(), &container.mounts, &container.cgroups)?;
    Ok(())
}

/// A /dev that is bound from elsewhere is someone's and stays as it is.
fn make_devices(init: &mut Init<'_>) -> Result<()> {
    let bound = init.container.mounts.iter().any(|mount| {
        mount.destination == std::path::Path::new("/dev")
            && matches!(mount.object, crate::mounts::Object::Tree(_))
    });
    if bound {
        return Ok(());
    }
    devices::make_all(init.root(), &init.container.nodes)?;
    devices::make_links(init.root())
}

fn open_terminal(init: &mut Init<'_>) -> Result<()> {
    if let stdio::Stdio::Terminal { size } = init.process.stdio {
        let owner = init.process.process.user.uid;
        let terminal = stdio::open_terminal(init.root(), size, owner, init.channel)?;
        stdio::bind_console(init.root(), &terminal)?;
        init.terminal = Some(terminal);
    }
    Ok(())
}

fn set_sysctls(init: &mut Init<'_>) -> Result<()> {
    kernel_files::set_sysctls(init.container.linux.sysctl.iter())
}

fn hide_paths(init: &mut Init<'_>) -> Result<()> {
    masked::check_proc(init.root(), &init.container.mounts)?;
    masked::make_read_only(init.root(), &init.container.linux.readonly_paths)?;
    masked::mask(init.root(), &init.container.linux.masked_paths)?;
    init.process.program.make_directory(init.root())?;
    for mount in std::mem::take(&mut init.late) {
        rootfs::make_read_only(mount.as_fd())?;
    }
    if init
        .container
        .spec
        .root
        .as_ref()
        .is_some_and(|root| root.readonly)
    {
        rootfs::make_read_only(init.root())?;
    }
    Ok(())
}

fn enter_root(init: &mut Init<'_>) -> Result<()> {
    let container = init.container;
    rootfs::enter(
        init.root(),
        container.root_point(),
        container.root_propagation,
        &container.entrance,
    )
}

/// The old root is still there for the hooks, and the new one is where `root.path` says.
fn run_hooks(init: &mut Init<'_>) -> Result<()> {
    let Some(hooks) = &init.container.hooks else {
        return Ok(());
    };
    if hooks.of_runtime() {
        let step = "have the hooks run";
        init.channel.send(&Message::WantsHooks).during(step)?;
        match init.channel.receive().during(step)? {
            Some(Message::HooksDone) => {}
            _ => ketch_sys::process::exit_now(1),
        }
    }
    hooks.create_container()
}

fn run_start_hooks(init: &mut Init<'_>) -> Result<()> {
    match &init.container.hooks {
        Some(hooks) => hooks.start_container(Confined {
            plan: init.process,
            speaker: init.speaker(),
        }),
        None => Ok(()),
    }
}

/// One that outlives its parent lets go of it here: from now on it waits for the parent's word, and an end of the
/// parent is the end of the channel.
fn report_prepared(init: &mut Init<'_>) -> Result<()> {
    if init.process.lifetime == Lifetime::Own {
        live_on()?;
        // engines expect this of the creation; a hook at the start may still bring the program
        let hooks = init.container.hooks.as_ref();
        if !hooks.is_some_and(HookPlan::of_container) {
            init.process.limits.schedule()?;
            init.process.program.look()?;
        }
    }
    init.channel
        .send(&Message::Prepared)
        .during("report to the parent")
}

fn wait_for_go(init: &mut Init<'_>) -> Result<()> {
    match (init.channel.receive(), &init.container.start_socket) {
        (Ok(Some(Message::Go)), _) => Ok(()),
        (Ok(Some(Message::Detach)), Some(socket)) => {
            init.starter = Some(wait_for_starter(socket)?);
            Ok(())
        }
        (Err(error), _) => Err(error).during("wait for the start"),
        _ => ketch_sys::process::exit_now(1),
    }
}

/// Those who only ask whether somebody listens say nothing.
fn wait_for_starter(socket: &OwnedFd) -> Result<Channel> {
    loop {
        let starter = Channel::accept(socket).during("wait for the start")?;
        if let Ok(Some(Message::Go)) = starter.receive() {
            return Ok(starter);
        }
    }
}

/// Waits for the parent's word; without a parent there is nothing to wait for.
pub(crate) fn wait_for_the_word(channel: &Channel) -> Result<()> {
    match channel.receive().during("wait for the start")? {
        Some(Message::Go) => Ok(()),
        _ => ketch_sys::process::exit_now(1),
    }
}

fn execute(init: &mut Init<'_>) -> Result<()> {
    let error: Error = finish::finish(init.process, init.speaker());
    Err(error)
}
