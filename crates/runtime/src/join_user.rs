//! Cloning into a user namespace that exists: new namespaces must belong to it, so their maker must be in it. The
//! caller cannot go there and come back; a helper goes, makes the child as its sibling, and ends.

use std::io::{PipeReader, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use ketch_spec::runtime::NamespaceKind;
use ketch_sys::clone::{Child, CloneOptions, clone_process};
use ketch_sys::namespace::{self, Namespaces};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::error::{Called, During, Error, Result};
use crate::init::become_root;
use crate::namespaces::NamespacePlan;

const STEP: &str = "clone the container's first process into a user namespace";

/// Clones like `clone_process`, from inside of the user namespace `user`.
pub(crate) fn clone_inside(
    user: &OwnedFd,
    namespaces: &NamespacePlan,
    options: &CloneOptions<'_>,
    child: impl FnOnce() -> i32,
) -> Result<Child> {
    let (reader, writer) = std::io::pipe()
        .map_err(|error| ketch_sys::Error::from_io("pipe", "", &error))
        .during(STEP)?;
    let mut keep = options.keep.to_vec();
    keep.extend([writer.as_raw_fd(), user.as_raw_fd()]);
    keep.extend(options.cgroup.map(|cgroup| cgroup.as_raw_fd()));
    let helper_options = CloneOptions {
        keep: &keep,
        ..CloneOptions::default()
    };
    let helper = clone_process(&helper_options, || {
        let child_options = CloneOptions {
            sibling: true,
            ..*options
        };
        let result = help(user, namespaces, &child_options, child);
        let line = match &result {
            Ok(pid) => pid.to_string(),
            Err(error) => format!("-{}", error.errno().map_or(0, Errno::raw_os_error)),
        };
        // A parent that is gone does not read it; the child then ends on its closed channel.
        let _ = (&writer).write_all(line.as_bytes());
        i32::from(result.is_err())
    })
    .during(STEP)?;
    drop(writer);
    let answer = read_answer(reader);
    ketch_sys::process::wait_child(helper.pid, true).during(STEP)?;
    answer
}

fn help(
    user: &OwnedFd,
    namespaces: &NamespacePlan,
    options: &CloneOptions<'_>,
    child: impl FnOnce() -> i32,
) -> Result<u32> {
    namespace::join(user.as_fd(), Namespaces::USER).during(STEP)?;
    become_root()?;
    if let Some(pid) = namespaces.joined(NamespaceKind::Pid) {
        namespace::join(pid.as_fd(), Namespaces::PID).during(STEP)?;
    }
    let made = clone_process(options, child).during(STEP)?;
    Ok(made.pid)
}

/// A sibling of the helper is our child: until we wait for it, its number is its own.
fn read_answer(mut reader: PipeReader) -> Result<Child> {
    let mut line = String::new();
    reader
        .read_to_string(&mut line)
        .map_err(|error| ketch_sys::Error::from_io("read", "", &error))
        .during(STEP)?;
    let number: i32 = line
        .parse()
        .map_err(|_| Error::ChildLost { status: None })?;
    match Pid::from_raw(number).filter(|_| number > 0) {
        Some(pid) => {
            let pidfd = pidfd_open(pid, PidfdFlags::empty())
                .called("pidfd_open")
                .during(STEP)?;
            Ok(Child {
                pid: number as u32,
                pidfd,
            })
        }
        None => Err(Errno::from_raw_os_error(-number))
            .called("clone3")
            .during(STEP),
    }
}
