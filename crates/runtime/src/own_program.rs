//! Our own program, as containers may reach it.

use std::os::fd::OwnedFd;
use std::path::Path;

use ketch_sys::mount::{self as attr, Attributes, set_attributes};
use rustix::fs::CWD;

use crate::error::{During, Result};
use crate::mounts::clone_tree;

/// Opens the program at `path` through a detached, read-only mount of its own.
///
/// A container can get hold of the program of whoever made its first process: its image may name `/proc/self/exe` as
/// its own program, or as the interpreter of it (CVE-2019-5736). So that it cannot change it then, the process that
/// calls [`crate::create`] must itself have been executed through such a descriptor, as `/proc/self/fd/N`. A sealed
/// copy in memory would do too, at the price of the whole program's size for each container.
///
/// # Errors
/// What open_tree(2) and mount_setattr(2) say: `EPERM` without `CAP_SYS_ADMIN`.
pub fn read_only_program(path: &Path) -> Result<OwnedFd> {
    let step = "open the own program read-only";
    let mount = clone_tree(CWD, path.as_os_str(), false)
        .map_err(|error| ketch_sys::Error::on(error.call, path, error.errno))
        .during(step)?;
    let (set, propagation) = (
        attr::READ_ONLY | attr::NO_SUID | attr::NO_DEV,
        attr::PRIVATE,
    );
    set_attributes(
        &mount,
        &Attributes {
            set,
            propagation,
            ..Attributes::default()
        },
    )
    .during(step)?;
    Ok(mount)
}
