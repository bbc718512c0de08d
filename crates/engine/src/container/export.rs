//! `export`: a container's root file system as one archive, without its volumes.

use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};

use ketch_spec::Id;
use ketch_store::tree::{Purpose, archive};
use ketch_sys::namespace::{Namespaces, join, unshare};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::OpenTreeFlags;

use super::{channel, load, root};
use crate::event::{self, Event};
use crate::image::ImageError;
use crate::{Engine, Error, ErrorKind, Result};

/// Writes the archive of a container, running or not. A running one is read while it goes on.
///
/// # Errors
/// `NotFound`; its files cannot be read; the writer's.
pub fn export(engine: &Engine, wanted: &str, writer: &mut dyn Write) -> Result<()> {
    let id = load::resolve(engine, wanted)?;
    loop {
        if let Some((lock, config)) = channel::own(engine, &id)? {
            let (tree, _used) = root::mount(engine, &config)?;
            let written = write(&tree, writer);
            drop(lock);
            written?;
        } else if let Some(tree) = running_root(engine, &id)? {
            write(&tree, writer)?;
        } else {
            // It ended, or began, between the two looks.
            continue;
        }
        let (config, _) = load::load(engine, &id)?;
        let _ = event::publish(engine, &Event::of_container("export", &config));
        return Ok(());
    }
}

fn write(tree: &OwnedFd, writer: &mut dyn Write) -> Result<()> {
    archive(tree.as_fd(), writer, Purpose::Root).map_err(ImageError::from)?;
    Ok(())
}

/// The root mount of a running container, alone: a copy of it that has nothing mounted in it. None: it does not run any
/// more.
fn running_root(engine: &Engine, id: &Id) -> Result<Option<OwnedFd>> {
    let open = |pid| {
        let path = format!("/proc/{pid}/ns/mnt");
        rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
    };
    let Some((_, opened)) = root::of_running(engine, id, open)? else {
        return Ok(None);
    };
    let namespace = opened.map_err(|errno| failed("open", &errno))?;
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| copy_root(&namespace));
        thread
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
    .map(Some)
}

/// In a thread of its own, which ends in the container's mount namespace: mounts can be copied only from where they are.
fn copy_root(namespace: &OwnedFd) -> Result<OwnedFd> {
    // A thread that shares its working directory may not change namespaces; this one stops to.
    unshare(Namespaces::MOUNT).map_err(|error| failed("unshare", &error))?;
    join(namespace, Namespaces::MOUNT).map_err(|error| failed("setns", &error))?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    rustix::mount::open_tree(CWD, "/", flags).map_err(|errno| failed("open_tree", &errno))
}

fn failed(call: &str, error: &(dyn std::error::Error + 'static)) -> Error {
    Error::caused(
        ErrorKind::Internal,
        format!("cannot get at the container's root: {call}"),
        error,
    )
}
