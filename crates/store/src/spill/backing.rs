//! The file behind what does not fit into memory.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// Hands out regions of a file. The file has no name, or is cut off by its owner, so nothing of it stays.
#[derive(Debug)]
pub(crate) struct Backing {
    file: OnceLock<File>,
    /// Where the file is made once it is needed; None: it is there.
    directory: Option<OwnedFd>,
    next: AtomicU64,
}

impl Backing {
    /// The part of a file from `start` on, of which its owner cuts off what is left.
    pub fn behind(file: File, start: u64) -> Self {
        Self {
            file: OnceLock::from(file),
            directory: None,
            next: AtomicU64::new(start),
        }
    }

    /// A file without a name, made in a directory when it is first needed.
    pub fn unnamed_in(directory: OwnedFd) -> Self {
        Self {
            file: OnceLock::new(),
            directory: Some(directory),
            next: AtomicU64::new(0),
        }
    }

    /// A region that nobody else has; it reads as zeros.
    pub fn region(&self, bytes: u64) -> u64 {
        self.next.fetch_add(bytes, Ordering::Relaxed)
    }

    pub fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file()?.write_all_at(bytes, offset)
    }

    /// Reads what was written; behind the file's end are zeros.
    pub fn read(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        let file = self.file()?;
        let mut have = 0;
        while have < bytes.len() {
            match file.read_at(&mut bytes[have..], offset + have as u64) {
                Ok(0) => {
                    bytes[have..].fill(0);
                    return Ok(());
                }
                Ok(count) => have += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn file(&self) -> io::Result<&File> {
        if self.file.get().is_none()
            && let Some(directory) = &self.directory
        {
            let file = ketch_sys::fs::scratch_file(directory.as_fd())
                .map_err(|error| io::Error::from_raw_os_error(error.errno.raw_os_error()))?;
            // Only one thread makes a layer.
            let _ = self.file.set(file);
        }
        self.file
            .get()
            .ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }
}
