//! The root: attached in the container's mount namespace only, and entered by pivot_root(2).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use ketch_sys::Error as SysError;
use ketch_sys::mount::{self as attr, Attributes, set_attributes};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::{
    MountPropagationFlags, MoveMountFlags, UnmountFlags, mount_change, move_mount, unmount,
};
use rustix::process::{chdir, fchdir, pivot_root};

use crate::error::{Called, During, Result};
use crate::mounts::clone_tree;

/// What becomes the root of a container.
#[derive(Debug, Clone, Copy)]
pub enum Rootfs<'a> {
    /// A directory, with everything that is mounted below it.
    Path(&'a Path),
    /// A detached mount, from fsmount(2) or open_tree(2), that was never attached. The container takes it.
    Detached(BorrowedFd<'a>),
}

/// In the parent: the root as a detached mount that shares no mount events with its source.
pub(crate) fn open(rootfs: Rootfs<'_>) -> Result<OwnedFd> {
    match rootfs {
        Rootfs::Detached(mount) => mount
            .try_clone_to_owned()
            .map_err(|error| SysError::from_io("dup", "", &error)),
        Rootfs::Path(path) => clone_tree(CWD, path.as_os_str(), true)
            .map_err(|error| SysError::on(error.call, path, error.errno))
            .and_then(|tree| {
                let (propagation, recursive) = (attr::PRIVATE, true);
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

/// In the child: attaches the root over the old one, which goes on being `/` until [`enter`].
pub(crate) fn attach(root: BorrowedFd<'_>, propagation: u64) -> Result<()> {
    let step = "attach the root file system";
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
    move_mount(root, "", CWD, "/", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .called_on("move_mount", "/")
        .during(step)
}

/// In the child: makes the root `/` and lets go of the old one, with all that was mounted in it.
pub(crate) fn enter(root: BorrowedFd<'_>, propagation: u64) -> Result<()> {
    let step = "enter the root file system";
    fchdir(root).called("fchdir").during(step)?;
    // The old root ends up on top of the new one, where `.` then finds it.
    pivot_root(".", ".").called("pivot_root").during(step)?;
    unmount(".", UnmountFlags::DETACH)
        .called("umount2")
        .during(step)?;
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
