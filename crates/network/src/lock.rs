//! The leaf lock of a network: one read-modify-write of its endpoints and its bridge.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use ketch_sys::lock::{self, Kind};

use crate::{Error, Result};

/// The lock, held until it is dropped.
#[derive(Debug)]
pub(crate) struct NetworkLock {
    _file: File,
}

impl NetworkLock {
    /// Waits for the lock of the network in `network_dir`. Whoever holds it takes no other lock and talks to no
    /// process, so that the wait is short. A directory that is gone, or goes meanwhile, is an error of `open`.
    pub(crate) fn take(network_dir: &Path) -> Result<Self> {
        let path = network_dir.join("lock");
        loop {
            let open = OpenOptions::new()
                .create(true)
                .truncate(false)
                .read(true)
                .write(true)
                .mode(0o600)
                .open(&path);
            let file = open.map_err(|source| Error::Io {
                call: "open",
                path: path.clone(),
                source,
            })?;
            lock::lock(file.as_fd(), Kind::Exclusive).map_err(|error| Error::Io {
                call: "fcntl",
                path: path.clone(),
                source: io::Error::from(error.errno),
            })?;
            if is_at(&file, &path) {
                return Ok(Self { _file: file });
            }
        }
    }
}

/// Whether a file is still the one of that path: the network may have been removed while we waited.
fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), path.metadata()) {
        (Ok(ours), Ok(there)) => (ours.dev(), ours.ino()) == (there.dev(), there.ino()),
        _ => false,
    }
}
