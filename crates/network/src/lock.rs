//! The leaf lock of a network: one read-modify-write of its endpoints and its bridge.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::{Error, Result};

/// The lock, held until it is dropped.
#[derive(Debug)]
pub(crate) struct NetworkLock {
    _file: File,
}

impl NetworkLock {
    /// Waits for the lock of the network in `network_dir`. Whoever holds it takes no other lock and talks to no
    /// process, so that the wait is short.
    pub(crate) fn take(network_dir: &Path) -> Result<Self> {
        let path = network_dir.join("lock");
        let open = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&path);
        let file = open.map_err(|source| Error::Io {
            call: "open",
            path: path.clone(),
            source,
        })?;
        file.lock().map_err(|source| Error::Io {
            call: "flock",
            path,
            source,
        })?;
        Ok(Self { _file: file })
    }
}
