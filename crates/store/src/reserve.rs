//! Room for removals: what takes images away has to write, if only a shorter index, and on a full disk could not.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use rustix::fs::FallocateFlags;
use rustix::io::Errno;

use crate::{Error, Result, Store};

/// What a removal may need: an index of some hundred images, a directory for what goes, growth of others.
const RESERVE_BYTES: u64 = 512 << 10;

impl Store {
    fn reserve_path(&self) -> PathBuf {
        self.root().join("ingest/reserve")
    }

    /// Whether a full disk has taken the reserve.
    pub(crate) fn is_short_of_room(&self) -> bool {
        !self.reserve_path().exists()
    }

    /// Sets room aside, where there is any: without it everything works but removals on a full disk.
    pub(crate) fn keep_reserve(&self) {
        if self.is_short_of_room() && self.set_aside().is_err() {
            // A part of it would look like all of it.
            let _ = fs::remove_file(self.reserve_path());
        }
    }

    fn set_aside(&self) -> io::Result<()> {
        let mut options = File::options();
        options.write(true).create_new(true).mode(0o600);
        let file = options.open(self.reserve_path())?;
        let flags = FallocateFlags::empty();
        Ok(rustix::fs::fallocate(&file, flags, 0, RESERVE_BYTES)?)
    }

    /// Does what makes room in the end; where the disk is full, once more with the reserve given up. The next collection
    /// that finds room sets it aside anew.
    pub(crate) fn with_reserve<T>(&self, attempt: impl Fn() -> Result<T>) -> Result<T> {
        match attempt() {
            Err(error) if is_full(&error) && fs::remove_file(self.reserve_path()).is_ok() => {
                attempt()
            }
            other => other,
        }
    }
}

fn is_full(error: &Error) -> bool {
    let errno = match error {
        Error::System(error) => Some(error.errno),
        Error::Io { source, .. } => Errno::from_io_error(source),
        _ => None,
    };
    matches!(errno, Some(Errno::NOSPC | Errno::DQUOT))
}
