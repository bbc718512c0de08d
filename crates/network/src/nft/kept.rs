//! The host's socket to nf_tables is kept open between changes.
//!
//! When such a socket is closed while rules that were removed await an RCU grace period, the kernel makes the closer
//! wait for it: about ten milliseconds in the way of a container that ends. A kept socket is closed with the process.

use std::os::unix::fs::MetadataExt;
use std::sync::{Mutex, PoisonError};

use ketch_sys::netlink::{self, Protocol, Socket};

static KEPT: Mutex<Option<(Namespace, Socket)>> = Mutex::new(None);

/// Identity of a network namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Namespace {
    device: u64,
    inode: u64,
}

impl Namespace {
    fn of_this_thread() -> Option<Self> {
        let metadata = std::fs::metadata("/proc/thread-self/ns/net").ok()?;
        Some(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
        })
    }
}

/// The kept socket, if it is of the calling thread's namespace, or a new one, with the namespace to keep it for.
pub(super) fn take() -> Result<(Option<Namespace>, Socket), netlink::Error> {
    let namespace = Namespace::of_this_thread();
    let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    match kept.take_if(|(of, _)| Some(*of) == namespace) {
        Some((_, socket)) => Ok((namespace, socket)),
        None => Ok((namespace, Socket::open(Protocol::Netfilter)?)),
    }
}

/// Keeps a socket, unless one is kept already.
pub(super) fn put(namespace: Namespace, socket: Socket) {
    KEPT.lock()
        .unwrap_or_else(PoisonError::into_inner)
        .get_or_insert((namespace, socket));
}
