//! The child's part of mounts: new file systems are made, and everything is attached inside the root by descriptor.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use ketch_sys::Error as SysError;
use ketch_sys::mount::{self as attr, Attributes, set_attributes};
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen, move_mount,
};

use crate::cgroup::HierarchyMount;
use crate::error::{Called, During, Error, Result};
use crate::mounts::{MountPlan, Object, clone_tree};
use crate::options::Options;
use crate::resolve::{self, PROC_MAGIC, PointKind};

/// What below /proc may be mounted over: files that say how much of the machine there is.
const PROC_EXCEPTIONS: [&str; 9] = [
    "cpuinfo",
    "diskstats",
    "loadavg",
    "meminfo",
    "slabinfo",
    "stat",
    "swaps",
    "uptime",
    "sys/kernel/ns_last_pid",
];

/// Where the container's cgroups are.
#[derive(Debug, Default)]
pub(crate) struct CgroupView {
    /// The hierarchies to show; None: the single one of version 2.
    pub hierarchies: Option<Vec<HierarchyMount>>,
    /// Whether the container has a cgroup namespace of its own.
    pub private: bool,
}

/// Makes all mounts below `root`.
pub(crate) fn attach_all(
    root: BorrowedFd<'_>,
    plans: &[MountPlan],
    cgroups: &CgroupView,
) -> Result<()> {
    for plan in plans {
        let step = || format!("mount {}", plan.destination.display());
        let point = open_point(root, plan)?;
        match &plan.object {
            Object::Tree(tree) => attach(tree.as_fd(), point.as_fd()).during(step())?,
            Object::New(kind, source) => {
                let mount = new_file_system(kind, source, &plan.options).during(step())?;
                attach(mount.as_fd(), point.as_fd()).during(step())?;
                propagate(mount.as_fd(), &plan.options).during(step())?;
            }
            Object::Cgroup => attach_cgroups(point.as_fd(), plan, cgroups).during(step())?,
        }
    }
    Ok(())
}

fn open_point(root: BorrowedFd<'_>, plan: &MountPlan) -> Result<OwnedFd> {
    let path = plan.destination.as_path();
    let step = || format!("mount point {}", path.display());
    let kind = match &plan.object {
        Object::Tree(tree) if !resolve::is_directory(tree).during(step())? => PointKind::File,
        _ => PointKind::Directory,
    };
    let point = resolve::mount_point(root, path, kind).during(step())?;
    if matches!(&plan.object, Object::New(kind, _) if kind == "proc" || kind == "sysfs") {
        // What is masked below it later is masked by path: no link of the image may lead elsewhere.
        return resolve::open_without_links(root, path, OFlags::PATH | OFlags::DIRECTORY)
            .during(format!("{} must be an ordinary directory", path.display()));
    }
    if resolve::is_on(&point, PROC_MAGIC).during(step())? && !may_cover(plan)? {
        let reason = "what is below /proc may not be covered";
        return Err(Error::invalid(
            format!("mount at {}", path.display()),
            reason,
        ));
    }
    if (kind == PointKind::Directory) != resolve::is_directory(&point).during(step())? {
        return Err(SysError::on("move_mount", path, Errno::NOTDIR))
            .during("a directory can be mounted on a directory only, a file on a file only");
    }
    Ok(point)
}

/// Whether a mount point on procfs is one of those that do no harm.
fn may_cover(plan: &MountPlan) -> Result<bool> {
    let path = plan.destination.as_path();
    match (&plan.object, path.strip_prefix("/proc")) {
        (Object::Tree(tree), Ok(below)) if below == Path::new("") => {
            resolve::is_on(tree, PROC_MAGIC).during("mount /proc")
        }
        (_, Ok(below)) => Ok(PROC_EXCEPTIONS
            .iter()
            .any(|exception| below == Path::new(exception))),
        (_, Err(_)) => Ok(false),
    }
}

/// Attaches a detached mount at the place that `point` is open on.
pub(crate) fn attach(mount: BorrowedFd<'_>, point: BorrowedFd<'_>) -> Result<(), SysError> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(mount, "", point, "", flags).called("move_mount")
}

/// A detached mount of a new file system.
pub(crate) fn new_file_system(
    kind: &str,
    source: &str,
    options: &Options,
) -> Result<OwnedFd, SysError> {
    let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)
        .map_err(|errno| SysError::on("fsopen", kind, errno))?;
    configure(context.as_fd(), source, options)
        .map_err(|error| explain(context.as_fd(), kind, error))?;
    let attributes = MountAttrFlags::from_bits_retain(options.own.set as u32);
    fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)
        .map_err(|errno| SysError::on("fsmount", kind, errno))
}

fn configure(context: BorrowedFd<'_>, source: &str, options: &Options) -> Result<(), SysError> {
    if !source.is_empty() {
        fsconfig_set_string(context, "source", source).called("fsconfig source")?;
    }
    for (name, value) in &options.data {
        match value {
            Some(value) => fsconfig_set_string(context, name.as_str(), value.as_str()),
            None => fsconfig_set_flag(context, name.as_str()),
        }
        .map_err(|errno| SysError::on("fsconfig", name, errno))?;
    }
    fsconfig_create(context).called("fsconfig create")
}

/// Adds what the kernel has to say about a refused option to the error.
fn explain(context: BorrowedFd<'_>, kind: &str, error: SysError) -> SysError {
    let mut line = [0; 512];
    let length = rustix::io::read(context, &mut line).unwrap_or(0);
    let said = String::from_utf8_lossy(&line[..length]);
    let mut text = error
        .path
        .map_or(kind.to_owned(), |path| format!("{kind} {}", path.display()));
    if !said.is_empty() {
        text += &format!(" ({})", said.trim_start_matches("e ").trim_end());
    }
    SysError::on(error.call, text, error.errno)
}

fn propagate(mount: BorrowedFd<'_>, options: &Options) -> Result<(), SysError> {
    for &(propagation, recursive) in &options.propagation {
        set_attributes(
            mount,
            &Attributes {
                propagation,
                recursive,
                ..Attributes::default()
            },
        )?;
    }
    if !options.below.is_empty() {
        let (set, clear) = (options.below.set, options.below.clear_mask());
        set_attributes(
            mount,
            &Attributes {
                set,
                clear,
                ..Attributes::default()
            },
        )?;
    }
    Ok(())
}

/// Shows the container its own cgroups: on version 2 one mount; on version 1 a tmpfs with one mount a hierarchy, of
/// those only in which the container has a cgroup of its own (the others would show the host's).
fn attach_cgroups(
    point: BorrowedFd<'_>,
    plan: &MountPlan,
    cgroups: &CgroupView,
) -> Result<(), SysError> {
    let bare = Options {
        data: Vec::new(),
        ..plan.options.clone()
    };
    let Some(hierarchies) = &cgroups.hierarchies else {
        let mount = new_file_system("cgroup2", "cgroup", &bare)?;
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

/// A second detached mount of what `mount` is open on; it must be attached already.
pub(crate) fn duplicate(mount: BorrowedFd<'_>, recursive: bool) -> Result<OwnedFd, SysError> {
    clone_tree(mount, OsStr::new(""), recursive)
}
