//! The parent's side of a container: it prepares, clones, and lets the child go.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use ketch_spec::runtime::{NamespaceKind, Spec};
use ketch_sys::clone::{Child, CloneOptions, clone_process};
use ketch_sys::namespace::Namespaces;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::cgroup::Cgroup;
use crate::channel::{Channel, Message};
use crate::error::{Called, During, Result};
use crate::hooks::HookContext;
use crate::namespaces::{self, with_pid_namespace};
use crate::notify::NotifyAgent;
use crate::placed::{Holding, PlacedRoot};
use crate::plan::{self, ContainerPlan, Lifetime, ProcessPlan};
use crate::process::{Exit, Process};
use crate::resctrl::{self, Group as ResctrlGroup};
use crate::rootfs::{Entrance, Rootfs};
use crate::seccomp::Program;
use crate::stdio::Stdio;
use crate::{id_map, init, join_user};

/// What [`create`] makes a container of.
#[derive(Debug)]
pub struct CreateOptions<'a> {
    /// What runs, and how. `root.path` and `linux.cgroupsPath` are not read: see `rootfs` and `cgroup`.
    pub spec: &'a Spec,
    /// The root file system.
    pub rootfs: Rootfs<'a>,
    /// Where relative sources of bind mounts begin.
    pub bundle: &'a Path,
    /// The cgroups that the container enters; None: the caller's own.
    pub cgroup: Option<&'a Cgroup>,
    /// Standard streams.
    pub stdio: Stdio,
    /// So many descriptors from 3 on stay open in the program. All others are closed as the child's first act.
    pub preserve_fds: u32,
    /// A filter compiled beforehand; None: `linux.seccomp` is compiled.
    pub seccomp: Option<&'a Program>,
    /// The container's name, for those who are told of it: seccomp agents.
    pub id: &'a str,
    /// Enter the root by chroot(2) instead of pivot_root(2), which the kernel refuses when `/` is an initramfs. The
    /// old root stays in the mount namespace, below the new one.
    pub no_pivot: bool,
    /// Keep the caller's session keyring instead of making a new one.
    pub no_new_keyring: bool,
    /// Whether the container ends with the caller.
    pub lifetime: Lifetime,
    /// What hooks are told, and where they find the root; None: hooks are refused.
    pub hooks: Option<HookContext<'a>>,
    /// A listening socket over which somebody else may start the container after [`Container::detach`].
    pub start_socket: Option<OwnedFd>,
    /// The class of `linux.intelRdt` that the container enters; None: such a field is refused.
    pub resctrl: Option<&'a ResctrlGroup>,
    /// Told where the root will be attached, before it is, if that is not in a mount namespace of the container's own.
    pub before_placing: Option<BeforePlacing<'a>>,
}

/// Takes note of a place, so that the root can be taken away if the caller is killed meanwhile. Its error ends the
/// creation.
#[derive(Clone, Copy)]
pub struct BeforePlacing<'a>(pub &'a dyn Fn(&PlacedRoot) -> Result<()>);

impl std::fmt::Debug for BeforePlacing<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("BeforePlacing")
    }
}

impl<'a> CreateOptions<'a> {
    /// Those that are needed; the others are the usual ones: no cgroup, no further descriptors, no name.
    pub fn new(spec: &'a Spec, rootfs: Rootfs<'a>, bundle: &'a Path, stdio: Stdio) -> Self {
        Self {
            spec,
            rootfs,
            bundle,
            cgroup: None,
            stdio,
            preserve_fds: 0,
            seccomp: None,
            id: "",
            no_pivot: false,
            no_new_keyring: false,
            lifetime: Lifetime::default(),
            hooks: None,
            start_socket: None,
            resctrl: None,
            before_placing: None,
        }
    }
}

/// A container that has been cloned and is prepared by its own first process meanwhile. When it is dropped before its
/// end was waited for, it is killed.
#[derive(Debug)]
pub struct Container {
    process: Process,
    /// A root that is not in a mount namespace of the container's own; taken away after the process has ended.
    placed: Option<Holding>,
    /// Held until after the end was waited for: the teardown of the mounts is then not in the way of it. The last
    /// field, so that it is let go last.
    mount_namespace: Option<OwnedFd>,
}

/// Clones the first process of a container into its namespaces. Returns at once: the child prepares itself in parallel
/// with what the caller does next, and then waits for [`Container::start`].
///
/// # Errors
/// What is wrong or unsupported in the specification; sources of mounts that cannot be opened; what clone3(2) says,
/// `EBUSY` if the caller has more than one thread. No process and no mount is left behind.
pub fn create(options: CreateOptions<'_>) -> Result<Container> {
    let agent = NotifyAgent::new(options.spec, options.id, options.bundle);
    let (cgroup, resctrl, before_placing) =
        (options.cgroup, options.resctrl, options.before_placing);
    let linux = options.spec.linux.as_ref();
    if resctrl.is_none() && linux.is_some_and(|linux| linux.intel_rdt.is_some()) {
        return Err(resctrl::without());
    }
    let (container, process) = plan::plan(options)?;
    if let (Some(BeforePlacing(tell)), Entrance::Shared(place)) =
        (before_placing, &container.entrance)
    {
        tell(place)?;
    }
    let (ours, theirs) = Channel::pair().during("make a channel to the child")?;
    let child = clone(&container, &process, &theirs)?;
    let mut created = Container {
        process: Process::new(child, ours),
        placed: match &container.entrance {
            Entrance::Shared(place) => Some(Holding::new(place.clone())),
            _ => None,
        },
        mount_namespace: None,
    };
    drop(theirs);
    if let Some(cgroup) = cgroup {
        if process.entry.waits {
            cgroup.take_in(created.pid())?;
            created.process.send(&Message::Placed)?;
        }
        cgroup.entered();
    }
    created.process.set_agent(agent, "creating");
    process.limits.raise(created.pid())?;
    if let Some(group) = resctrl {
        group.enter(created.pid())?;
    }
    created.process.set_warnings(process.warnings);
    if container.namespaces.new.contains(Namespaces::USER) {
        let linux = container.linux;
        id_map::write(created.pid(), &linux.uid_mappings, &linux.gid_mappings)?;
        created.process.send(&Message::Mapped)?;
    }
    match created.namespace(NamespaceKind::Mount) {
        Ok(namespace) => created.mount_namespace = Some(namespace),
        // It has ended already: why is what the caller must know.
        Err(error) if has_ended(&error) => created.process.hear_end()?,
        Err(error) => return Err(error),
    }
    Ok(created)
}

/// Whether a file of a process was not there.
fn has_ended(error: &crate::Error) -> bool {
    matches!(error.errno(), Some(Errno::NOENT | Errno::SRCH))
}

fn clone(
    container: &ContainerPlan<'_>,
    process: &ProcessPlan<'_>,
    channel: &Channel,
) -> Result<Child> {
    let mut keep = container.descriptors();
    keep.extend(process.descriptors());
    keep.push(channel.as_fd().as_raw_fd());
    // A cgroup namespace shows what its maker was in: the child makes it after it has entered its cgroup. A time
    // namespace is made and given its offsets by the child too.
    let later = Namespaces::CGROUP | Namespaces::TIME;
    let options = CloneOptions {
        namespaces: container.namespaces.new.without(later),
        cgroup: process.entry.directory(),
        keep: &keep,
        ..CloneOptions::default()
    };
    let child = || init::run(container, process, channel);
    let step = "clone the container's first process";
    match container.namespaces.joined(NamespaceKind::User) {
        Some(user) => join_user::clone_inside(user, &container.namespaces, &options, child),
        None => with_pid_namespace(container.namespaces.joined(NamespaceKind::Pid), || {
            clone_process(&options, child).during(step)
        }),
    }
}

impl Container {
    /// Number of the first process in the caller's pid namespace.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Its pidfd: readable when it has ended.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.process.pidfd()
    }

    /// What was asked for and is not to be had, one line each: capabilities. The specification wants it logged.
    pub fn warnings(&self) -> &[String] {
        self.process.warnings()
    }

    /// Where its root is attached, if it has no mount namespace of its own. It is taken away when the container is
    /// dropped; whoever leaves the process to others must keep this, for [`PlacedRoot::release`].
    pub fn placed_root(&self) -> Option<&PlacedRoot> {
        self.placed.as_ref().and_then(Holding::root)
    }

    /// Its network namespace; valid right after [`create`] if it is a new one.
    ///
    /// # Errors
    /// What open(2) says; `ENOENT` or `ESRCH` after the end was waited for.
    pub fn network_namespace(&self) -> Result<OwnedFd> {
        self.namespace(NamespaceKind::Network)
    }

    /// The same while the child still prepares itself.
    ///
    /// # Errors
    /// What open(2) says; if the child has ended meanwhile, why.
    pub fn new_network_namespace(&mut self) -> Result<OwnedFd> {
        let opened = self.network_namespace();
        if opened.as_ref().is_err_and(has_ended) {
            self.process.hear_end()?;
        }
        opened
    }

    /// One of its namespaces. Those that the child joins or makes itself (joined ones, cgroup, time) are there after
    /// [`Container::wait_prepared`].
    ///
    /// # Errors
    /// What open(2) says.
    pub fn namespace(&self, kind: NamespaceKind) -> Result<OwnedFd> {
        let path = format!("/proc/{}/ns/{}", self.pid(), namespaces::file_name(kind));
        rustix::fs::open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .called_on("open", path)
            .during("open a namespace of the container")
    }

    /// Waits until the child has prepared everything and waits for [`Container::start`]. Not needed before it.
    ///
    /// # Errors
    /// Why the child could not; it has been reaped then.
    pub fn wait_prepared(&mut self) -> Result<()> {
        self.process.wait_prepared()
    }

    /// The same, running `hooks` when the namespaces and mounts are there and the root is not entered yet.
    ///
    /// # Errors
    /// Why the child could not be prepared; those of `hooks`, which end it.
    pub fn wait_prepared_with<E: From<crate::Error>>(
        &mut self,
        hooks: impl FnOnce(u32) -> Result<(), E>,
    ) -> Result<(), E> {
        if self.process.wait_for_hooks()? {
            hooks(self.pid())?;
            self.process.send(&Message::HooksDone)?;
            self.process.wait_prepared()?;
        }
        Ok(())
    }

    /// Lets a prepared container live on without the caller: it waits for whoever connects to the start socket.
    ///
    /// # Errors
    /// Why it has ended.
    pub fn detach(mut self) -> Result<()> {
        self.process.send(&Message::Detach)?;
        self.leave();
        Ok(())
    }

    fn leave(self) {
        if let Some(placed) = self.placed {
            placed.keep();
        }
        self.process.release();
    }

    /// Lets a running container live on without the caller; it must have a lifetime of its own.
    pub fn release(self) {
        self.leave();
    }

    /// Lets the child execute the program, and returns when it has.
    ///
    /// # Errors
    /// Why it could not, [`crate::Error::exit_code`] 126 or 127 if it was for the program; it has been reaped then.
    pub fn start(&mut self) -> Result<()> {
        self.process.start()
    }

    /// The master of the terminal; there after [`Container::wait_prepared`] or [`Container::start`], once.
    pub fn take_console(&mut self) -> Option<OwnedFd> {
        self.process.take_console()
    }

    /// Sends a signal to the first process. One that has ended is no error.
    ///
    /// # Errors
    /// A number that is no signal; what pidfd_send_signal(2) says.
    pub fn kill(&self, signal: i32) -> Result<()> {
        self.process.kill(signal)
    }

    /// Reaps the first process if it has ended. Never blocks.
    ///
    /// # Errors
    /// `ECHILD` if someone else has reaped it.
    pub fn try_wait(&mut self) -> Result<Option<Exit>> {
        self.process.try_wait()
    }

    /// Waits for the end of the first process and reaps it.
    ///
    /// # Errors
    /// `ECHILD` if someone else has reaped it.
    pub fn wait(&mut self) -> Result<Exit> {
        self.process.wait()
    }

    /// Lets go of the mount namespace after the end: the kernel then takes the mounts down, which the caller waits
    /// for. Does nothing before the end was waited for, or the second time.
    pub fn release_mounts(&mut self) {
        if self.process.has_ended() {
            self.placed = None;
            self.mount_namespace = None;
        }
    }
}
