//! Work inside another network namespace, and back.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::{Error, Result};

/// Runs `work` with the calling thread in `netns`. A socket made there stays there.
pub(crate) fn within<T>(netns: BorrowedFd<'_>, work: impl FnOnce() -> T) -> Result<T> {
    let path = "/proc/thread-self/ns/net";
    let own = File::open(path).map_err(|source| Error::Io {
        call: "open",
        path: path.into(),
        source,
    })?;
    enter(netns).map_err(|errno| Error::Call {
        call: "setns",
        source: errno.into(),
    })?;
    let _back = Back(own);
    Ok(work())
}

fn enter(netns: BorrowedFd<'_>) -> rustix::io::Result<()> {
    move_into_link_name_space(netns, Some(LinkNameSpaceType::Network))
}

/// Returns to the namespace it holds, also when the work panics.
struct Back(File);

impl Drop for Back {
    fn drop(&mut self) {
        if enter(self.0.as_fd()).is_err() {
            // Whatever this process did next would happen to the wrong namespace. Being killed is safe.
            std::process::abort();
        }
    }
}
