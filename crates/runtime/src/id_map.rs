//! Id mappings: of a container's user namespace, and of single mounts.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use ketch_spec::runtime::{IdMapping, Mount};
use ketch_sys::clone::{CloneOptions, clone_process};
use ketch_sys::mount::{self as attr, Attributes, set_attributes};
use ketch_sys::namespace::Namespaces;
use rustix::io::Errno;

use crate::error::{During, Error, Result};
use crate::mounts::MountContext;

/// Writes the mappings of the user namespace of process `pid`.
pub(crate) fn write(pid: u32, uids: &[IdMapping], gids: &[IdMapping]) -> Result<()> {
    for (file, mappings) in [("uid_map", uids), ("gid_map", gids)] {
        let path = format!("/proc/{pid}/{file}");
        // One write: the kernel takes no second one.
        std::fs::write(&path, render(mappings))
            .map_err(|error| ketch_sys::Error::from_io("write", &path, &error))
            .during("map the ids of the user namespace")?;
    }
    Ok(())
}

fn render(mappings: &[IdMapping]) -> String {
    let line = |mapping: &IdMapping| {
        format!(
            "{} {} {}\n",
            mapping.container_id, mapping.host_id, mapping.size
        )
    };
    mappings.iter().map(line).collect()
}

/// Makes a detached mount an id-mapped one, by its own mappings or else the container's.
pub(crate) fn apply(
    tree: BorrowedFd<'_>,
    mount: &Mount,
    recursive: bool,
    context: MountContext<'_>,
) -> Result<()> {
    let own = (mount.uid_mappings.as_slice(), mount.gid_mappings.as_slice());
    let (uids, gids) = match own {
        ([], []) => (context.uid_mappings, context.gid_mappings),
        own => own,
    };
    if uids.is_empty() || gids.is_empty() {
        let field = format!("mount at {}", mount.destination);
        return Err(Error::invalid(
            field,
            "an id mapping needs uidMappings and gidMappings",
        ));
    }
    let namespace = user_namespace(uids, gids)?;
    let id_map = Some(namespace.as_fd());
    let change = Attributes {
        set: attr::ID_MAP,
        id_map,
        recursive,
        ..Attributes::default()
    };
    match set_attributes(tree, &change) {
        Err(error) if error.errno == Errno::INVAL => {
            let what = format!("id mapping of the mount at {}", mount.destination);
            Err(Error::unsupported(
                what,
                "its file system does not have it in this kernel",
            ))
        }
        other => other.during(format!("map the ids of the mount at {}", mount.destination)),
    }
}

/// A user namespace with the mappings and nobody in it.
fn user_namespace(uids: &[IdMapping], gids: &[IdMapping]) -> Result<OwnedFd> {
    let step = "make a user namespace for an id mapping";
    let (hold, release) = std::io::pipe()
        .map_err(|error| ketch_sys::Error::from_io("pipe", "", &error))
        .during(step)?;
    let keep = [hold.as_raw_fd()];
    let options = CloneOptions {
        namespaces: Namespaces::USER,
        keep: &keep,
        ..CloneOptions::default()
    };
    let child = clone_process(&options, || {
        // The end of the pipe is the parent's word that it has what it wants, or its death.
        let _ = rustix::io::read(&hold, &mut [0]);
        0
    })
    .during(step)?;
    let result = write(child.pid, uids, gids).and_then(|()| {
        let path = format!("/proc/{}/ns/user", child.pid);
        std::fs::File::open(&path)
            .map_err(|error| ketch_sys::Error::from_io("open", &path, &error))
            .during(step)
    });
    drop(release);
    ketch_sys::process::wait_child(child.pid, true).during(step)?;
    result.map(OwnedFd::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mappings_are_written_a_line_each() {
        let mapping = IdMapping {
            container_id: 0,
            host_id: 1000,
            size: 10,
        };
        assert_eq!(render(&[mapping, mapping]), "0 1000 10\n0 1000 10\n");
    }
}
