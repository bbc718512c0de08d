//! The root: attached in the container's mount namespace only, and entered by pivot_root(2).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use ketch_sys::Error as SysError;
use ketch_sys::mount::{self as attr, Attributes, set_attributes};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    MountPropagationFlags, MoveMountFlags, UnmountFlags, mount_change, move_mount, unmount,
};
use rustix::process::{chdir, chroot, fchdir, pivot_root};

use crate::error::{Called, During, Result};
use crate::mounts::clone_tree;
use crate::placed::PlacedRoot;

/// What becomes the root of a container.
#[derive(Debug, Clone, Copy)]
pub enum Rootfs<'a> {
    /// A directory, with everything that is mounted below it.
    Path(&'a Path),
    /// A detached mount, from fsmount(2) or open_tree(2), that was never attached. The container takes it.
    Detached(BorrowedFd<'a>),
}

/// How a process comes into its root.
#[derive(Debug)]
pub(crate) enum Entrance {
    /// By pivot_root(2) in a mount namespace of its own, which then has nothing else.
    Pivot,
    /// By chroot(2) in a mount namespace of its own, where the old root is still below the new one.
    Change,
    /// By chroot(2) in a mount namespace that others are in too.
    Shared(PlacedRoot),
}

/// In the parent: the root as a detached mount that shares no mount events with its source; as a slave it hears of
/// those there.
pub(crate) fn open(rootfs: Rootfs<'_>, root_propagation: u64) -> Result<OwnedFd> {
    match rootfs {
        Rootfs::Detached(mount) => mount
            .try_clone_to_owned()
            .map_err(|error| SysError::from_io("dup", "", &error)),
        Rootfs::Path(path) => clone_tree(CWD, path.as_os_str(), true)
            .map_err(|error| SysError::on(error.call, path, error.errno))
            .and_then(|tree| {
                let slave = root_propagation == attr::SLAVE;
                let propagation = if slave { attr::SLAVE } else { attr::PRIVATE };
                let recursive = true;
                set_attributes(
                    &tree,
                    &Attributes {
                        propagation,
                        recursive,
                        ..Attributes::default()
                    },
                )?;
                Ok(tree)
            }),
    }
    .during("open the root file system")
}

/// In the child: attaches the root at `point`; the old one goes on being `/` until [`enter`].
pub(crate) fn attach(
    root: BorrowedFd<'_>,
    point: &Path,
    propagation: u64,
    entrance: &Entrance,
) -> Result<()> {
    let step = "attach the root file system";
    if let Entrance::Shared(place) = entrance {
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        move_mount(root, "", CWD, place.path(), flags)
            .called_on("move_mount", place.path())
            .during(step)?;
        // Below a shared mount it has become shared itself: what is mounted in it from here on stays in it.
        let private = Attributes {
            propagation: attr::PRIVATE,
            recursive: true,
            ..Attributes::default()
        };
        return set_attributes(root, &private).during(step);
    }
    // Mounts made from here on must not reach the host; a slave still hears of the host's.
    let shared = [attr::SHARED, attr::SLAVE].contains(&propagation);
    let kind = if shared {
        MountPropagationFlags::DOWNSTREAM
    } else {
        MountPropagationFlags::PRIVATE
    };
    mount_change("/", MountPropagationFlags::REC | kind)
        .called_on("mount", "/")
        .during(step)?;
    move_mount(
        root,
        "",
        CWD,
        point,
        MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
    )
    .called_on("move_mount", point)
    .during(step)
}

/// In the child: makes the root `/` and lets go of the old one, with all that was mounted in it.
pub(crate) fn enter(
    root: BorrowedFd<'_>,
    point: &Path,
    propagation: u64,
    entrance: &Entrance,
) -> Result<()> {
    let step = "enter the root file system";
    match entrance {
        Entrance::Pivot => {
            fchdir(root).called("fchdir").during(step)?;
            // The old root ends up on top of the new one, where `.` then finds it.
            pivot_root(".", ".").called("pivot_root").during(step)?;
            unmount(".", UnmountFlags::DETACH)
                .called("umount2")
                .during(step)?;
        }
        Entrance::Change => {
            hide_old_mounts()?;
            if point != Path::new("/") {
                move_mount(root, "", CWD, "/", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
                    .called_on("move_mount", "/")
                    .during(step)?;
            }
            change_to(root).during(step)?;
        }
        Entrance::Shared(_) => change_to(root).during(step)?,
    }
    chdir("/").called_on("chdir", "/").during(step)?;
    if propagation != 0 {
        let change = Attributes {
            propagation,
            ..Attributes::default()
        };
        set_attributes(root, &change).during("set linux.rootfsPropagation")?;
    }
    Ok(())
}

fn change_to(root: BorrowedFd<'_>) -> Result<(), SysError> {
    fchdir(root).called("fchdir")?;
    chroot(".").called("chroot")
}

/// Takes /proc and /sys of the host out of the mount namespace. They are out of sight, but as long as a whole one is
/// there the kernel allows a user namespace made in the container to mount one without what is masked in ours.
fn hide_old_mounts() -> Result<()> {
    let step = "take the host's /proc and /sys away";
    let path = "/proc/self/mountinfo";
    let text = std::fs::read_to_string(path)
        .map_err(|error| SysError::from_io("read", path, &error))
        .during(step)?;
    // From the last on: what is mounted in another goes first.
    for point in text.lines().rev().filter_map(kernel_mount) {
        match unmount(point, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
            // The container's own are listed by the same paths, which do not lead to them.
            Ok(()) | Err(Errno::INVAL | Errno::NOENT) => {}
            Err(errno) => return Err(SysError::on("umount2", point, errno)).during(step),
        }
    }
    Ok(())
}

/// The mount point of a line of mountinfo (proc_pid_mountinfo(5)) if it is one of a procfs or sysfs.
fn kernel_mount(line: &str) -> Option<&str> {
    let (before, after) = line.split_once(" - ")?;
    let kind = after.split(' ').next()?;
    // A point with spaces is written with octal numbers; the kernel's own file systems are not mounted at such.
    let point = before.split(' ').nth(4)?;
    matches!(kind, "proc" | "sysfs").then_some(point)
}

/// In the child: nothing can be written to the root itself; what is mounted below is not touched.
pub(crate) fn make_read_only(root: BorrowedFd<'_>) -> Result<()> {
    let change = Attributes {
        set: attr::READ_ONLY,
        ..Attributes::default()
    };
    set_attributes(root, &change).during("make the root file system read-only")
}

/// The present `/`.
pub(crate) fn current() -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open("/", flags, Mode::empty())
        .called_on("open", "/")
        .during("open the root")
}

/// Whether `root` is a directory at all.
pub(crate) fn check(root: &OwnedFd) -> Result<()> {
    if crate::resolve::is_directory(root.as_fd()).during("open the root file system")? {
        Ok(())
    } else {
        Err(crate::Error::invalid("root", "it is not a directory"))
    }
}
