//! A container's root file system as a detached mount: its image's layers and its writable layer on top. It is never
//! attached on the host; what a crash leaves of it is nothing.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use ketch_spec::Id;

use super::config::ContainerConfig;
use super::load;
use crate::layer::LayerUse;
use crate::layer::mount::{self, Writable};
use crate::record::Durability;
use crate::{Engine, Error, ErrorKind, Result, layer};

/// Mounts the root, writable; its layers are in use as long as the other half of the result lives. Only for whoever
/// holds the owner lock: two overlays over one writable layer are undefined.
///
/// # Errors
/// `NotFound` if a layer is missing, `Unsupported` if the kernel refuses the stack.
pub fn mount(engine: &Engine, config: &ContainerConfig) -> Result<(OwnedFd, LayerUse)> {
    let (upper, work) = dirs(engine, config);
    let volatile = config.durability() == Durability::Volatile;
    renew_work(&work)?;
    mount::mount(
        engine,
        &config.image.layers,
        Some(Writable {
            upper: &upper,
            work: &work,
            volatile,
        }),
    )
}

/// What `open` makes of the first process of a running container. None: it does not run any more, or not yet again.
///
/// # Errors
/// `Conflict` while it restarts; as reading.
pub(super) fn of_running<T>(
    engine: &Engine,
    id: &Id,
    open: impl FnOnce(u32) -> T,
) -> Result<Option<(ContainerConfig, T)>> {
    let (config, state) = load::load(engine, id)?;
    if state.pid == 0 {
        return match load::is_live(state.status) {
            true => Err(Error::new(
                ErrorKind::Conflict,
                format!("Container {id} is restarting, wait until the container is running"),
            )),
            false => Ok(None),
        };
    }
    let opened = open(state.pid);
    // If the same process still runs the container, then it was not somebody else's who got its number.
    let (_, now) = load::load(engine, id)?;
    let same = now.pid == state.pid && now.started == state.started;
    Ok(same.then_some((config, opened)))
}

/// Makes the directories of the writable layer.
///
/// # Errors
/// Input and output.
pub(super) fn make_dirs(engine: &Engine, config: &ContainerConfig) -> Result<()> {
    let (upper, work) = dirs(engine, config);
    // The upper directory's own mode is what the container's `/` has.
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(&upper)
        .map_err(|error| io_error("mkdir", &upper, &error))?;
    fs::set_permissions(&upper, fs::Permissions::from_mode(0o755))
        .map_err(|error| io_error("chmod", &upper, &error))?;
    layer::copy_root_attributes(engine, &config.image.layers, &upper)?;
    make_work(&work)
}

/// Overlayfs's upper and work directories of a container.
pub(super) fn dirs(engine: &Engine, config: &ContainerConfig) -> (PathBuf, PathBuf) {
    match &config.writable_dir {
        Some(dir) => (dir.join("upper"), dir.join("work")),
        None => (
            engine.paths().writable_upper(&config.id),
            engine.paths().writable_work(&config.id),
        ),
    }
}

/// A volatile overlay leaves a mark that forbids mounting it again, since a power cut may have torn it. These
/// containers do not outlive a power cut, so the mark says nothing here and goes with the scratch directory.
fn renew_work(work: &Path) -> Result<()> {
    if !work.join("work/incompat").exists() {
        return Ok(());
    }
    ketch_sys::fs::remove_tree(work).map_err(|error| {
        Error::caused(
            ErrorKind::Internal,
            "cannot renew the overlay's work directory",
            &error,
        )
    })?;
    make_work(work)
}

fn make_work(work: &Path) -> Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(work)
        .map_err(|error| io_error("mkdir", work, &error))
}

fn io_error(call: &str, path: &Path, error: &std::io::Error) -> Error {
    Error::caused(
        ErrorKind::Internal,
        format!("{call} {}", path.display()),
        error,
    )
}
