//! Everything the child needs, made ready by the parent: checked, translated, opened. The child then only acts.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::Path;

use ketch_spec::runtime::{Linux, NamespaceKind, Process, Spec};
use ketch_sys::namespace::Namespaces;

use crate::capabilities::{self, CapabilityPlan};
use crate::cgroup::{Cgroup, Entry};
use crate::cgroup_mounts::CgroupView;
use crate::devices::{self, Node};
use crate::error::{Error, Result};
use crate::hooks::HookPlan;
use crate::id_map::{self, Mapper};
use crate::limits::{self, LimitPlan};
use crate::mounts::{self, MountContext, MountPlan};
use crate::namespaces::NamespacePlan;
use crate::parent::CreateOptions;
use crate::placed::PlacedRoot;
use crate::program::{self, ProgramPlan};
use crate::rootfs::{Entrance, Rootfs};
use crate::seccomp::{self, Program};
use crate::stdio::Stdio;
use crate::{check, kernel_files, labels, notify, options, rootfs};

/// What a process becomes, whether a container's first or one that joins it.
#[derive(Debug)]
pub(crate) struct ProcessPlan<'a> {
    pub process: &'a Process,
    pub program: ProgramPlan,
    pub capabilities: CapabilityPlan,
    pub limits: LimitPlan,
    pub seccomp: Option<Filter<'a>>,
    pub stdio: Stdio,
    pub preserve_fds: u32,
    pub entry: Entry,
    /// Whether it gets a session keyring of its own.
    pub new_keyring: bool,
    /// Whether it ends with its parent.
    pub lifetime: Lifetime,
    /// What was asked for and is not to be had.
    pub warnings: Vec<String>,
}

/// How long a process lives if nothing else ends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Lifetime {
    /// At most as long as its parent.
    #[default]
    Parents,
    /// As long as it likes, once it was let go.
    Own,
}

/// A filter, the caller's or our own.
#[derive(Debug)]
pub(crate) enum Filter<'a> {
    Given(&'a Program),
    Compiled(Program),
}

impl Filter<'_> {
    pub fn program(&self) -> &Program {
        match self {
            Self::Given(program) => program,
            Self::Compiled(program) => program,
        }
    }
}

/// What a container's first process does besides.
#[derive(Debug)]
pub(crate) struct ContainerPlan<'a> {
    pub spec: &'a Spec,
    pub linux: &'a Linux,
    pub namespaces: NamespacePlan,
    pub root: OwnedFd,
    pub root_propagation: u64,
    pub entrance: Entrance,
    pub mounts: Vec<MountPlan>,
    pub nodes: Vec<Node>,
    pub cgroups: CgroupView,
    pub hooks: Option<HookPlan<'a>>,
    /// Where whoever starts it connects after the parent has gone.
    pub start_socket: Option<OwnedFd>,
}

impl<'a> ProcessPlan<'a> {
    /// Checks what is the same for every process.
    pub fn new(
        process: &'a Process,
        cgroup: Option<&Cgroup>,
        stdio: Stdio,
        preserve_fds: u32,
    ) -> Result<Self> {
        if process.terminal != stdio.is_terminal() {
            let reason = "it says otherwise than the standard streams that were given";
            return Err(Error::invalid("process.terminal", reason));
        }
        for fd in preserved(preserve_fds) {
            if !ketch_sys::process::is_open(fd) {
                return Err(Error::invalid(
                    "preserved descriptors",
                    format!("{fd} is not open"),
                ));
            }
        }
        check::process(process)?;
        labels::check(process)?;
        let (capabilities, warnings) = capabilities::plan(process.capabilities.as_ref())?;
        Ok(Self {
            process,
            program: program::plan(process)?,
            capabilities,
            new_keyring: true,
            lifetime: Lifetime::default(),
            warnings,
            limits: limits::plan(process, None)?,
            seccomp: None,
            stdio,
            preserve_fds,
            entry: cgroup.map(Cgroup::entry).transpose()?.unwrap_or_default(),
        })
    }

    /// Whether its filter has calls that an agent answers.
    pub fn notifies(&self) -> bool {
        let filter = self.seccomp.as_ref();
        filter.is_some_and(|filter| filter.program().notifies())
    }

    /// Descriptors that the child needs.
    pub fn descriptors(&self) -> Vec<RawFd> {
        let mut descriptors = self.stdio.descriptors();
        descriptors.extend(preserved(self.preserve_fds));
        descriptors.extend(self.entry.descriptors());
        descriptors
    }
}

/// Numbers of the descriptors that the program keeps besides the standard streams.
pub(crate) fn preserved(count: u32) -> std::ops::Range<RawFd> {
    // More than there can be: the first that is not open is what is told.
    3..3_i32.saturating_add_unsigned(count)
}

/// Checks a specification and opens what it names.
pub(crate) fn plan<'a>(options: CreateOptions<'a>) -> Result<(ContainerPlan<'a>, ProcessPlan<'a>)> {
    let spec = options.spec;
    let process = spec
        .process
        .as_ref()
        .ok_or_else(|| Error::invalid("process", "it is missing"))?;
    let linux = spec
        .linux
        .as_ref()
        .ok_or_else(|| Error::invalid("linux", "it is missing"))?;
    let hooks = HookPlan::new(spec, options.hooks)?;
    let namespaces = NamespacePlan::new(linux)?;
    check::specification(spec, linux, &namespaces)?;
    for name in linux.sysctl.keys() {
        kernel_files::check_sysctl(name, &namespaces)?;
    }
    let joined_user = namespaces.joined(NamespaceKind::User);
    if let Some(user) = joined_user {
        id_map::check_joined(user, &linux.uid_mappings, &linux.gid_mappings)?;
    }
    if namespaces.new.contains(Namespaces::USER) {
        id_map::check_user(&process.user, &linux.uid_mappings, &linux.gid_mappings)?;
    }
    let context = MountContext {
        bundle: options.bundle,
        mapper: Mapper::new(&linux.uid_mappings, &linux.gid_mappings, joined_user),
        label: &linux.mount_label,
    };
    let root_propagation = options::root_propagation(&linux.rootfs_propagation)?;
    let root = rootfs::open(options.rootfs, root_propagation)?;
    rootfs::check(&root)?;
    let entrance = entrance(&options, linux, &namespaces, root.as_fd())?;
    let cgroups = CgroupView {
        hierarchies: match options.cgroup {
            Some(cgroup) => cgroup.view(),
            None if crate::cgroup::is_unified() => None,
            None => Some(Vec::new()),
        },
        private: namespaces.has_own(NamespaceKind::Cgroup),
    };
    let mounts = mounts::plan(&spec.mounts, context)?;
    let container = ContainerPlan {
        spec,
        linux,
        namespaces,
        root,
        root_propagation,
        entrance,
        mounts,
        nodes: devices::plan(&linux.devices)?,
        cgroups,
        hooks,
        start_socket: options.start_socket,
    };
    let mut process =
        ProcessPlan::new(process, options.cgroup, options.stdio, options.preserve_fds)?;
    process.limits = limits::plan(process.process, linux.personality.as_ref())?;
    process.seccomp = match (options.seccomp, &linux.seccomp) {
        (Some(program), _) => Some(Filter::Given(program)),
        (None, Some(filter)) => Some(Filter::Compiled(seccomp::compile(filter)?)),
        (None, None) => None,
    };
    process.new_keyring = !options.no_new_keyring;
    process.lifetime = options.lifetime;
    let listens = linux.seccomp.as_ref().map(|filter| &filter.listener_path);
    if process.notifies() && listens.is_none_or(String::is_empty) {
        return Err(notify::without_agent());
    }
    Ok((container, process))
}

/// How the root is entered, and where it is attached for that.
fn entrance(
    options: &CreateOptions<'_>,
    linux: &Linux,
    namespaces: &NamespacePlan,
    root: BorrowedFd<'_>,
) -> Result<Entrance> {
    if namespaces.new.contains(Namespaces::MOUNT) {
        return Ok(if options.no_pivot {
            Entrance::Change
        } else {
            Entrance::Pivot
        });
    }
    let reason = "there is no new mount namespace";
    if !linux.rootfs_propagation.is_empty() {
        return Err(Error::invalid("linux.rootfsPropagation", reason));
    }
    let Rootfs::Path(path) = options.rootfs else {
        let what = "a root file system without a place";
        return Err(Error::unsupported(what, reason));
    };
    let joined = namespaces.joined(NamespaceKind::Mount).and_then(|_| {
        let mut listed = linux.namespaces.iter();
        listed.find(|listed| listed.kind == NamespaceKind::Mount)
    });
    let namespace = joined.and_then(|joined| joined.path.clone());
    PlacedRoot::new(path, root, namespace).map(Entrance::Shared)
}

impl ContainerPlan<'_> {
    /// Where the root is attached until it is entered: over the old one, unless hooks are to find it.
    pub fn root_point(&self) -> &Path {
        let hooks = self.hooks.as_ref();
        hooks.map_or(Path::new("/"), HookPlan::root)
    }

    /// Descriptors that the child needs.
    pub fn descriptors(&self) -> Vec<RawFd> {
        let mut descriptors = vec![self.root.as_raw_fd()];
        descriptors.extend(self.start_socket.iter().map(AsRawFd::as_raw_fd));
        descriptors.extend(self.namespaces.descriptors());
        descriptors.extend(mounts::descriptors(&self.mounts));
        descriptors
    }
}
