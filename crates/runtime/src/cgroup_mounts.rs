//! Mounts that show a container its cgroups.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use ketch_sys::Error as SysError;
use ketch_sys::mount::{self as attr, Attributes, set_attributes};
use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::attach::{attach, new_file_system, propagate};
use crate::cgroup::HierarchyMount;
use crate::error::Called;
use crate::mounts::{self, MountPlan, clone_tree};
use crate::options::Options;

/// Where the container's cgroups are.
#[derive(Debug, Default)]
pub(crate) struct CgroupView {
    /// The hierarchies to show; None: the single one of version 2.
    pub hierarchies: Option<Vec<HierarchyMount>>,
    /// Whether the container has a cgroup namespace of its own.
    pub private: bool,
}

/// Shows the container its own cgroups: on version 2 one mount; on version 1 a tmpfs with one mount a hierarchy, of
/// those only in which the container has a cgroup of its own (the others would show the host's).
pub(crate) fn attach_cgroups(
    point: BorrowedFd<'_>,
    plan: &MountPlan,
    cgroups: &CgroupView,
) -> Result<(), SysError> {
    let bare = Options {
        data: Vec::new(),
        ..plan.options.clone()
    };
    let Some(hierarchies) = &cgroups.hierarchies else {
        let mount = unified_mount(&bare, cgroups.private)?;
        attach(mount.as_fd(), point)?;
        return propagate(mount.as_fd(), &bare);
    };
    let mut options = bare.clone();
    options.own.set &= !attr::READ_ONLY;
    options.data = vec![("mode".into(), Some("755".into()))];
    let tmpfs = new_file_system("tmpfs", "tmpfs", &options)?;
    attach(tmpfs.as_fd(), point)?;
    for hierarchy in hierarchies {
        let name = hierarchy.name.as_str();
        rustix::fs::mkdirat(&tmpfs, name, rustix::fs::Mode::from_raw_mode(0o755))
            .called_on("mkdir", name)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let place = rustix::fs::openat(&tmpfs, name, flags, rustix::fs::Mode::empty())
            .called_on("open", name)?;
        let mount = hierarchy_mount(hierarchy, &bare, cgroups.private)?;
        attach(mount.as_fd(), place.as_fd())?;
        link_controllers(tmpfs.as_fd(), name)?;
    }
    let set = plan.options.own.set & attr::READ_ONLY;
    set_attributes(
        &tmpfs,
        &Attributes {
            set,
            ..Attributes::default()
        },
    )?;
    propagate(tmpfs.as_fd(), &bare)
}

/// The hierarchy of version 2. Where the container may not mount it (in a user namespace, without a cgroup namespace),
/// the host's mount is bound.
fn unified_mount(options: &Options, private: bool) -> Result<OwnedFd, SysError> {
    match new_file_system("cgroup2", "cgroup", options) {
        Err(error) if matches!(error.errno, Errno::PERM | Errno::BUSY) && !private => {
            let tree = clone_tree(rustix::fs::CWD, OsStr::new("/sys/fs/cgroup"), true)?;
            mounts::set_propagation(tree.as_fd(), &[(attr::PRIVATE, true)])?;
            mounts::change(tree.as_fd(), options)?;
            Ok(tree)
        }
        other => other,
    }
}

/// Controllers that share a hierarchy, `cpu,cpuacct`, are found by their own names too.
fn link_controllers(tmpfs: BorrowedFd<'_>, hierarchy: &str) -> Result<(), SysError> {
    if !hierarchy.contains(',') {
        return Ok(());
    }
    for controller in hierarchy.split(',') {
        match rustix::fs::symlinkat(hierarchy, tmpfs, controller) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(SysError::on("symlink", controller, errno)),
        }
    }
    Ok(())
}

fn hierarchy_mount(
    hierarchy: &HierarchyMount,
    options: &Options,
    private: bool,
) -> Result<OwnedFd, SysError> {
    if private {
        let mut options = options.clone();
        options.data.clone_from(&hierarchy.options);
        return new_file_system(hierarchy.kind, "cgroup", &options);
    }
    // Without a namespace of its own a new mount would show the whole hierarchy: bind the container's part of it.
    let path = hierarchy.directory.as_os_str();
    let tree = clone_tree(rustix::fs::CWD, path, false)?;
    let (set, propagation) = (options.own.set, attr::PRIVATE);
    set_attributes(
        &tree,
        &Attributes {
            set,
            propagation,
            ..Attributes::default()
        },
    )?;
    Ok(tree)
}
