//! The child's part of mounts: new file systems are made, and everything is attached inside the root by descriptor.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use ketch_sys::Error as SysError;
use ketch_sys::mount as attr;
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, FsPickFlags, MountAttrFlags, MoveMountFlags, fsconfig_create,
    fsconfig_reconfigure, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, fspick,
    move_mount,
};

use crate::cgroup_mounts::{CgroupView, attach_cgroups};
use crate::error::{Called, During, Error, Result};
use crate::mounts::{self, MountPlan, Object, clone_tree};
use crate::options::Options;
use crate::resolve::{self, PROC_MAGIC, PointKind};
use crate::{copy_up, id_map};

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

/// Makes all mounts below `root`, in their order. Those that come back are to be made read-only when everything is in
/// its place: more is made and mounted in them until then.
pub(crate) fn attach_all(
    root: BorrowedFd<'_>,
    plans: &[MountPlan],
    cgroups: &CgroupView,
) -> Result<Vec<OwnedFd>> {
    let mut late = Vec::new();
    for plan in plans {
        let step = || format!("mount {}", plan.destination.display());
        if matches!(plan.object, Object::Remount) {
            remount(root, plan)?;
            continue;
        }
        let point = open_point(root, plan)?;
        match &plan.object {
            Object::Tree(tree) => attach(tree.as_fd(), point.fd.as_fd()).during(step())?,
            Object::New(kind, source) => {
                late.extend(attach_new(kind, source, plan, &point)?);
            }
            Object::Cgroup => attach_cgroups(point.fd.as_fd(), plan, cgroups).during(step())?,
            Object::Remount => {}
        }
    }
    Ok(late)
}

/// A place to mount at.
struct Point {
    fd: OwnedFd,
    /// Whether it was not there before.
    made: bool,
}

fn attach_new(
    kind: &str,
    source: &str,
    plan: &MountPlan,
    point: &Point,
) -> Result<Option<OwnedFd>> {
    let step = || format!("mount {}", plan.destination.display());
    let mut options = plan.options.clone();
    let tmpfs = kind == "tmpfs";
    if tmpfs && !point.made && !options.has_data("mode") {
        // Who replaces a directory wants what it was for: /tmp stays open to all.
        let stat = rustix::fs::fstat(&point.fd)
            .called("fstat")
            .during(step())?;
        let mode = format!("{:o}", stat.st_mode & 0o7777);
        options.data.insert(0, ("mode".into(), Some(mode)));
    }
    let late =
        (tmpfs || plan.destination == Path::new("/dev")) && options.own.set & attr::READ_ONLY != 0;
    if late {
        options.own.set &= !attr::READ_ONLY;
    }
    let mount = new_file_system(kind, source, &options).during(step())?;
    if options.copy_up && !point.made {
        let source = reopen(point.fd.as_fd()).during(step())?;
        copy_up::copy(source.as_fd(), mount.as_fd()).during(format!(
            "copy {} into its tmpfs",
            plan.destination.display()
        ))?;
    }
    if let Some(namespace) = &plan.id_map {
        let destination = plan.destination.to_string_lossy();
        id_map::apply(mount.as_fd(), &destination, false, namespace.as_fd())?;
    }
    attach(mount.as_fd(), point.fd.as_fd()).during(step())?;
    propagate(mount.as_fd(), &options).during(step())?;
    Ok(late.then_some(mount))
}

/// The same directory, for reading.
fn reopen(directory: BorrowedFd<'_>) -> Result<OwnedFd, SysError> {
    resolve::open_without_links(
        directory,
        Path::new("."),
        OFlags::RDONLY | OFlags::DIRECTORY,
    )
}

/// Changes what is mounted at the destination: the attributes that are named, no others, and of the file system what
/// its own options say. `ro` is the mount's: the file system may have other mounts, outside of the container.
fn remount(root: BorrowedFd<'_>, plan: &MountPlan) -> Result<()> {
    let step = || format!("remount {}", plan.destination.display());
    let point = resolve::open(root, &plan.destination, OFlags::PATH).during(step())?;
    match mounts::change(point.as_fd(), &plan.options) {
        Err(error) if error.errno == Errno::INVAL => {
            let field = format!("mount at {}", plan.destination.display());
            return Err(Error::invalid(field, "remount: nothing is mounted there"));
        }
        other => other.during(step())?,
    }
    mounts::set_propagation(point.as_fd(), &plan.options.propagation).during(step())?;
    let bind = plan.options.bind.is_some();
    if bind || (plan.options.data.is_empty() && plan.options.flags.is_empty()) {
        return Ok(());
    }
    let flags = FsPickFlags::FSPICK_EMPTY_PATH | FsPickFlags::FSPICK_CLOEXEC;
    let context = fspick(&point, "", flags).called("fspick").during(step())?;
    configure(context.as_fd(), "", &plan.options)
        .and_then(|()| fsconfig_reconfigure(context.as_fd()).called("fsconfig reconfigure"))
        .map_err(|error| explain(context.as_fd(), "remount", error))
        .during(step())
}

fn open_point(root: BorrowedFd<'_>, plan: &MountPlan) -> Result<Point> {
    let path = plan.destination.as_path();
    let step = || format!("mount point {}", path.display());
    let kind = match &plan.object {
        Object::Tree(tree) if !resolve::is_directory(tree).during(step())? => PointKind::File,
        _ => PointKind::Directory,
    };
    let (fd, made) = resolve::open_or_make(root, path, kind).during(step())?;
    // A link of the image may lead there.
    if resolve::is_same(fd.as_fd(), root).during(step())? {
        return Err(mounts::covers_the_root(path));
    }
    if matches!(&plan.object, Object::New(kind, _) if kind == "proc" || kind == "sysfs") {
        // What is masked below it later is masked by path: no link of the image may lead elsewhere.
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let fd = resolve::open_without_links(root, path, flags).during(format!(
            "{} must be mounted on ordinary directory",
            path.display()
        ))?;
        return Ok(Point { fd, made });
    }
    if resolve::is_on(&fd, PROC_MAGIC).during(step())? && !may_cover(plan)? {
        let reason = "what is below /proc may not be covered";
        return Err(Error::invalid(
            format!("mount at {}", path.display()),
            reason,
        ));
    }
    if (kind == PointKind::Directory) != resolve::is_directory(&fd).during(step())? {
        return Err(SysError::on("move_mount", path, Errno::NOTDIR))
            .during("a directory can be mounted on a directory only, a file on a file only");
    }
    Ok(Point { fd, made })
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
    match create(kind, source, options, false) {
        // A device that cannot be written, or a file system that never can.
        Err(error)
            if matches!(error.errno, Errno::ACCESS | Errno::ROFS) && is_read_only(options) =>
        {
            create(kind, source, options, true)
        }
        other => other,
    }
}

fn is_read_only(options: &Options) -> bool {
    options.own.set & attr::READ_ONLY != 0
}

fn create(
    kind: &str,
    source: &str,
    options: &Options,
    read_only: bool,
) -> Result<OwnedFd, SysError> {
    let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)
        .map_err(|errno| SysError::on("fsopen", kind, errno))?;
    let flag = if read_only {
        fsconfig_set_flag(context.as_fd(), "ro").called("fsconfig ro")
    } else {
        Ok(())
    };
    flag.and_then(|()| configure(context.as_fd(), source, options))
        .and_then(|()| fsconfig_create(context.as_fd()).called("fsconfig create"))
        .map_err(|error| explain(context.as_fd(), kind, error))?;
    let attributes = MountAttrFlags::from_bits_retain(options.own.set as u32);
    fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)
        .map_err(|errno| SysError::on("fsmount", kind, errno))
}

fn configure(context: BorrowedFd<'_>, source: &str, options: &Options) -> Result<(), SysError> {
    if !source.is_empty() {
        fsconfig_set_string(context, "source", source).called("fsconfig source")?;
    }
    for flag in &options.flags {
        fsconfig_set_flag(context, *flag).map_err(|errno| SysError::on("fsconfig", flag, errno))?;
    }
    for (name, value) in &options.data {
        match value {
            Some(value) => fsconfig_set_string(context, name.as_str(), value.as_str()),
            None => fsconfig_set_flag(context, name.as_str()),
        }
        .map_err(|errno| SysError::on("fsconfig", name, errno))?;
    }
    Ok(())
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

/// After a new file system was attached: its propagation, and attributes that were asked for everything below.
pub(crate) fn propagate(mount: BorrowedFd<'_>, options: &Options) -> Result<(), SysError> {
    mounts::set_propagation(mount, &options.propagation)?;
    let below = Options {
        below: options.below,
        ..Options::default()
    };
    mounts::change(mount, &below)
}

/// A second detached mount of what `mount` is open on; it must be attached already.
pub(crate) fn duplicate(mount: BorrowedFd<'_>, recursive: bool) -> Result<OwnedFd, SysError> {
    clone_tree(mount, OsStr::new(""), recursive)
}
