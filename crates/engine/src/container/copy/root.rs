//! The root of a container, as `cp` sees it.
//!
//! Of a running container it is what its init sees. Of one that does not run it is mounted for the length of the copy:
//! layers, writable layer and volumes, in a mount namespace of a thread of ours, under the owner lock.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use ketch_spec::Id;
use ketch_spec::mount::MountSource;
use ketch_sys::namespace::{Namespaces, unshare};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::{MountPropagationFlags, MoveMountFlags, OpenTreeFlags};

use super::rules;
use crate::container::config::ContainerConfig;
use crate::container::{channel, root};
use crate::layer::LayerUse;
use crate::{Engine, Error, ErrorKind, Result, volume};

/// A container's root, and what may not be written in it.
pub(super) struct Place<'a> {
    /// The root directory.
    pub(super) root: BorrowedFd<'a>,
    config: &'a ContainerConfig,
}

impl Place<'_> {
    /// Refuses a target in a read-only root or mount, in Docker's words.
    pub(super) fn check_writable(&self, path: &str) -> Result<()> {
        let path = rules::clean(path);
        let over = self
            .config
            .mounts
            .iter()
            .filter(|mount| path.starts_with(&mount.target))
            .max_by_key(|mount| mount.target.len());
        match over {
            Some(mount) if mount.read_only => Err(Error::new(
                ErrorKind::Invalid,
                "mounted volume is marked read-only",
            )),
            Some(_) => Ok(()),
            None if self.config.security.read_only => Err(Error::new(
                ErrorKind::Invalid,
                "container rootfs is marked read-only",
            )),
            None => Ok(()),
        }
    }
}

/// Does something with a container's root.
///
/// # Errors
/// What `work` says; the root cannot be opened or mounted.
pub(super) fn with<T: Send>(
    engine: &Engine,
    id: &Id,
    work: impl FnOnce(&Place<'_>) -> Result<T> + Send,
) -> Result<T> {
    loop {
        if let Some((lock, config)) = channel::own(engine, id)? {
            // Here and not only in the thread's namespace, from which nobody else could use the mounts.
            let used = LayerUse::new(engine, &config.image.layers)?;
            let result = in_own_namespace(|| {
                let root = mount(engine, &config)?;
                work(&Place {
                    root: root.as_fd(),
                    config: &config,
                })
            });
            drop(used);
            drop(lock);
            return result;
        }
        if let Some((root, config)) = open_running(engine, id)? {
            return work(&Place {
                root: root.as_fd(),
                config: &config,
            });
        }
    }
}

/// The root that a running container's init sees. None: it does not run any more, or not yet again.
fn open_running(engine: &Engine, id: &Id) -> Result<Option<(OwnedFd, ContainerConfig)>> {
    let path = |pid| PathBuf::from(format!("/proc/{pid}/root"));
    let open = |pid| {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = rustix::fs::open(path(pid), flags, Mode::empty());
        opened.map_err(|errno| failed("open", &path(pid), errno))
    };
    let Some((config, opened)) = root::of_running(engine, id, open)? else {
        return Ok(None);
    };
    Ok(Some((opened?, config)))
}

/// Runs `work` in a thread that has a mount namespace of its own, from which nothing gets out.
fn in_own_namespace<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let separate = || -> Result<()> {
        unshare(Namespaces::MOUNT).map_err(|error| {
            Error::caused(ErrorKind::Internal, "cannot mount for the copy", &error)
        })?;
        let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
        rustix::mount::mount_change("/", private)
            .map_err(|errno| failed("mount", Path::new("/"), errno))
    };
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            separate()?;
            work()
        });
        thread
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Mounts root and volumes over a directory that this thread does not need; nobody else sees it.
fn mount(engine: &Engine, config: &ContainerConfig) -> Result<OwnedFd> {
    let place = engine.paths().run_root();
    let sources = sources(engine, config)?;
    let (tree, _used) = root::mount(engine, config)?;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    rustix::mount::move_mount(&tree, "", CWD, place, flags)
        .map_err(|errno| failed("move_mount", place, errno))?;
    let open = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(place, open, Mode::empty())
        .map_err(|errno| failed("open", place, errno))?;
    for (source, target) in sources {
        attach(&source, root.as_fd(), &target)?;
    }
    Ok(root)
}

/// Volumes and binds, opened before the mount covers anything; parents before what is below them.
fn sources(engine: &Engine, config: &ContainerConfig) -> Result<Vec<(OwnedFd, PathBuf)>> {
    let mut all = Vec::new();
    for mount in &config.mounts {
        let (path, subpath) = match &mount.source {
            MountSource::Volume {
                name: Some(name),
                subpath,
                ..
            } => (volume::data_source(engine, name)?, subpath.as_deref()),
            MountSource::Bind { path, .. } => (PathBuf::from(path), None),
            _ => continue,
        };
        let dir = match rustix::fs::open(&path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()) {
            Ok(dir) => dir,
            // A source that is made or missed at the next start.
            Err(rustix::io::Errno::NOENT) => continue,
            Err(errno) => return Err(failed("open", &path, errno)),
        };
        let inside = match subpath {
            Some(subpath) => ketch_sys::fs::open_in_root(
                dir.as_fd(),
                Path::new(subpath),
                OFlags::PATH,
                Mode::empty(),
            )
            .map_err(|errno| failed("open", &path.join(subpath), errno))?,
            None => dir,
        };
        let flags = OpenTreeFlags::OPEN_TREE_CLONE
            | OpenTreeFlags::OPEN_TREE_CLOEXEC
            | OpenTreeFlags::AT_EMPTY_PATH
            | OpenTreeFlags::AT_RECURSIVE;
        let tree = rustix::mount::open_tree(&inside, "", flags)
            .map_err(|errno| failed("open_tree", &path, errno))?;
        all.push((tree, PathBuf::from(&mount.target)));
    }
    all.sort_by_key(|(_, target)| target.components().count());
    Ok(all)
}

/// Attaches a tree at a path inside the root, which is made if it is missing, as the next start would.
fn attach(tree: &OwnedFd, root: BorrowedFd<'_>, target: &Path) -> Result<()> {
    let stat = rustix::fs::fstat(tree).map_err(|errno| failed("stat", target, errno))?;
    let is_dir =
        rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::Directory;
    let place = make(root, target, is_dir).map_err(|errno| failed("open", target, errno))?;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    rustix::mount::move_mount(tree, "", &place, "", flags)
        .map_err(|errno| failed("move_mount", target, errno))
}

fn make(root: BorrowedFd<'_>, path: &Path, is_dir: bool) -> rustix::io::Result<OwnedFd> {
    match ketch_sys::fs::open_in_root(root, path, OFlags::PATH, Mode::empty()) {
        Err(rustix::io::Errno::NOENT) => {}
        other => return other,
    }
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(rustix::io::Errno::NOENT);
    };
    let parent = make(root, parent, true)?;
    // A path descriptor is enough for the calls that make names.
    if is_dir {
        match rustix::fs::mkdirat(&parent, name, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(errno) => return Err(errno),
        }
    } else {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        rustix::fs::openat(&parent, name, flags, Mode::from_raw_mode(0o644))?;
    }
    ketch_sys::fs::open_in_root(root, path, OFlags::PATH, Mode::empty())
}

fn failed(call: &str, path: &Path, errno: rustix::io::Errno) -> Error {
    Error::caused(
        ErrorKind::Internal,
        format!("{call} {}", path.display()),
        &errno,
    )
}
