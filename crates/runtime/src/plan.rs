//! Everything the child needs, made ready by the parent: checked, translated, opened. The child then only acts.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use ketch_spec::runtime::{Linux, Process, Spec};

use crate::attach::CgroupView;
use crate::capabilities::{self, CapabilityPlan};
use crate::cgroup::{Cgroup, Entry};
use crate::devices::{self, Node};
use crate::error::{Error, Result};
use crate::limits::{self, LimitPlan};
use crate::mounts::{self, MountContext, MountPlan};
use crate::namespaces::NamespacePlan;
use crate::parent::CreateOptions;
use crate::program::{self, ProgramPlan};
use crate::seccomp::{self, Program};
use crate::stdio::Stdio;
use crate::{check, kernel_files, notify, options, rootfs};

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
    /// What was asked for and is not to be had.
    pub warnings: Vec<String>,
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
    pub mounts: Vec<MountPlan>,
    pub nodes: Vec<Node>,
    pub cgroups: CgroupView,
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
        kernel_files::check_labels(process)?;
        let (capabilities, warnings) = capabilities::plan(process.capabilities.as_ref())?;
        Ok(Self {
            process,
            program: program::plan(process)?,
            capabilities,
            new_keyring: true,
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
    3..3 + count as RawFd
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
    refuse_unsupported(spec)?;
    let namespaces = NamespacePlan::new(linux)?;
    check::specification(spec, linux, &namespaces)?;
    for name in linux.sysctl.keys() {
        kernel_files::check_sysctl(name, &namespaces)?;
    }
    let context = MountContext {
        bundle: options.bundle,
        uid_mappings: &linux.uid_mappings,
        gid_mappings: &linux.gid_mappings,
    };
    let root = rootfs::open(options.rootfs)?;
    rootfs::check(&root)?;
    let cgroups = CgroupView {
        hierarchies: match options.cgroup {
            Some(cgroup) => cgroup.view(),
            None if crate::cgroup::is_unified() => None,
            None => Some(Vec::new()),
        },
        private: namespaces.has_own(ketch_spec::runtime::NamespaceKind::Cgroup),
    };
    let container = ContainerPlan {
        spec,
        linux,
        namespaces,
        root,
        root_propagation: options::root_propagation(&linux.rootfs_propagation)?,
        mounts: mounts::plan(&spec.mounts, context)?,
        nodes: devices::plan(&linux.devices)?,
        cgroups,
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
    let listens = linux.seccomp.as_ref().map(|filter| &filter.listener_path);
    if process.notifies() && listens.is_none_or(String::is_empty) {
        return Err(notify::without_agent());
    }
    Ok((container, process))
}

fn refuse_unsupported(spec: &Spec) -> Result<()> {
    if spec.hooks.as_ref().is_some_and(|hooks| !hooks.is_empty()) {
        return Err(Error::unsupported("hooks", ""));
    }
    Ok(())
}

impl ContainerPlan<'_> {
    /// Descriptors that the child needs.
    pub fn descriptors(&self) -> Vec<RawFd> {
        let mut descriptors = vec![self.root.as_raw_fd()];
        descriptors.extend(self.namespaces.descriptors());
        descriptors.extend(mounts::descriptors(&self.mounts));
        descriptors
    }
}
