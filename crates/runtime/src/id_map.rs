//! Id mappings: of a container's user namespace, and of single mounts.

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use ketch_spec::runtime::{IdMapping, Mount, User};
use ketch_sys::capability;
use ketch_sys::clone::{CloneOptions, clone_process};
use ketch_sys::mount::{self as attr, Attributes, set_attributes};
use ketch_sys::namespace::Namespaces;
use rustix::io::Errno;

use crate::error::{During, Error, Result};
use crate::procfs::Procfs;

/// Bit of `CAP_SETGID`.
const SETGID: u64 = 1 << 6;

/// Writes the mappings of the user namespace of process `pid`.
///
/// Who may not change groups may map groups only where nobody can: a group that denies something could be given up then.
pub(crate) fn write(pid: u32, uids: &[IdMapping], gids: &[IdMapping]) -> Result<()> {
    let step = "map the ids of the user namespace";
    let procfs = Procfs::open().during(step)?;
    let mine = capability::get().during(step)?;
    if mine.effective & SETGID == 0 {
        let path = format!("{pid}/setgroups");
        procfs.write(&path, b"deny").during(step)?;
    }
    for (file, mappings) in [("uid_map", uids), ("gid_map", gids)] {
        // One write: the kernel takes no second one.
        let path = format!("{pid}/{file}");
        procfs
            .write(&path, render(mappings).as_bytes())
            .during(step)?;
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

/// Makes user namespaces for id-mapped mounts, one for each different mapping.
#[derive(Debug, Default)]
pub(crate) struct Mapper<'a> {
    /// Ids of the container's user namespace.
    pub uids: &'a [IdMapping],
    /// Ids of the container's user namespace.
    pub gids: &'a [IdMapping],
    /// The user namespace that the container joins.
    pub joined: Option<&'a OwnedFd>,
    made: Vec<Made>,
}

#[derive(Debug)]
struct Made {
    uids: Vec<IdMapping>,
    gids: Vec<IdMapping>,
    namespace: OwnedFd,
}

impl<'a> Mapper<'a> {
    /// For a container with these mappings, or one that joins a user namespace.
    pub fn new(uids: &'a [IdMapping], gids: &'a [IdMapping], joined: Option<&'a OwnedFd>) -> Self {
        Self {
            uids,
            gids,
            joined,
            made: Vec::new(),
        }
    }

    /// The user namespace for a mount: by its own mappings or else the container's.
    pub fn namespace(&mut self, mount: &Mount) -> Result<&OwnedFd> {
        let refuse = |reason: &str| {
            let field = format!("mount at {}", mount.destination);
            Err(Error::invalid(field, reason))
        };
        let (uids, gids) = match (mount.uid_mappings.as_slice(), mount.gid_mappings.as_slice()) {
            ([], []) if self.uids.is_empty() && self.gids.is_empty() => {
                let reason = "an id mapping needs uidMappings and gidMappings, for there is no user namespace";
                return self.joined.map_or_else(|| refuse(reason), Ok);
            }
            ([], []) => (self.uids, self.gids),
            ([], _) | (_, []) => return refuse("an id mapping needs uidMappings and gidMappings"),
            own => own,
        };
        let known = self
            .made
            .iter()
            .position(|made| made.uids == uids && made.gids == gids);
        let index = match known {
            Some(index) => index,
            None => {
                self.made.push(Made {
                    uids: uids.to_vec(),
                    gids: gids.to_vec(),
                    namespace: user_namespace(uids, gids)?,
                });
                self.made.len() - 1
            }
        };
        Ok(&self.made[index].namespace)
    }
}

/// Makes a detached mount an id-mapped one.
pub(crate) fn apply(
    tree: BorrowedFd<'_>,
    destination: &str,
    recursive: bool,
    namespace: BorrowedFd<'_>,
) -> Result<()> {
    let change = Attributes {
        set: attr::ID_MAP,
        id_map: Some(namespace),
        recursive,
        ..Attributes::default()
    };
    match set_attributes(tree, &change) {
        Err(error) if error.errno == Errno::INVAL => {
            let what = format!("id mapping of the mount at {destination}");
            Err(Error::unsupported(
                what,
                "its file system does not have it in this kernel",
            ))
        }
        other => other.during(format!("map the ids of the mount at {destination}")),
    }
}

/// Checks that the user namespace to join has the mappings that the specification gives besides.
pub(crate) fn check_joined(
    namespace: &OwnedFd,
    uids: &[IdMapping],
    gids: &[IdMapping],
) -> Result<()> {
    let step = "look at the mappings of the user namespace to join";
    for (file, mappings) in [("uid_map", uids), ("gid_map", gids)] {
        if mappings.is_empty() {
            continue;
        }
        let text = in_user_namespace(namespace, step, |pid| {
            let path = format!("/proc/{pid}/{file}");
            std::fs::read_to_string(&path)
                .map_err(|error| ketch_sys::Error::from_io("read", &path, &error))
                .during(step)
        })?;
        let words =
            |text: &str| -> Vec<String> { text.split_whitespace().map(str::to_owned).collect() };
        if words(&text) != words(&render(mappings)) {
            let reason = format!("the user namespace to join has another {file}");
            return Err(Error::invalid("linux.uidMappings", reason));
        }
    }
    Ok(())
}

/// Every id of a process must be one that its new user namespace has.
pub(crate) fn check_user(user: &User, uids: &[IdMapping], gids: &[IdMapping]) -> Result<()> {
    let has = |mappings: &[IdMapping], id: u32| {
        let mut mappings = mappings.iter();
        mappings.any(|one| {
            id.checked_sub(one.container_id)
                .is_some_and(|at| at < one.size)
        })
    };
    let refuse = |field: &str, id: u32| {
        let reason = format!("{id} is not in the mappings of the new user namespace");
        Err(Error::invalid(format!("process.user.{field}"), reason))
    };
    if !has(uids, user.uid) {
        return refuse("uid", user.uid);
    }
    if !has(gids, user.gid) {
        return refuse("gid", user.gid);
    }
    match user.additional_gids.iter().find(|&&gid| !has(gids, gid)) {
        Some(&gid) => refuse("additionalGids", gid),
        None => Ok(()),
    }
}

/// Runs `look` while a process, whose number it gets, is in the namespace.
fn in_user_namespace<T>(
    namespace: &OwnedFd,
    step: &str,
    look: impl FnOnce(u32) -> Result<T>,
) -> Result<T> {
    let pipe = || {
        std::io::pipe()
            .map_err(|error| ketch_sys::Error::from_io("pipe", "", &error))
            .during(step)
    };
    let ((hold, release), (there, arrived)) = (pipe()?, pipe()?);
    let keep = [hold.as_raw_fd(), arrived.as_raw_fd(), namespace.as_raw_fd()];
    let options = CloneOptions {
        keep: &keep,
        ..CloneOptions::default()
    };
    let child = clone_process(&options, || {
        if let Err(error) = ketch_sys::namespace::join(namespace, Namespaces::USER) {
            return error.errno.raw_os_error();
        }
        let _ = rustix::io::write(&arrived, b"x");
        let _ = rustix::io::read(&hold, &mut [0]);
        0
    })
    .during(step)?;
    drop(arrived);
    let came = rustix::io::read(&there, &mut [0]).is_ok_and(|count| count == 1);
    let result = came.then(|| look(child.pid));
    drop(release);
    let status = ketch_sys::process::wait_child(child.pid, true).during(step)?;
    let refused = || {
        let errno = status.map_or(0, |status| (status >> 8) & 0xff);
        Err(ketch_sys::Error::new(
            "setns",
            Errno::from_raw_os_error(errno),
        ))
        .during(step)
    };
    result.unwrap_or_else(refused)
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
