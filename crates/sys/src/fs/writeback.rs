//! Sending a file's bytes to the disk before anyone has to wait for them.

use std::num::NonZeroU64;
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::fs::Advice;
use rustix::io::Errno;

use crate::{Error, Result};

/// Begins to write `length` bytes at `offset` to the disk; waits only where the disk's queue is full. It is advice:
/// nothing is durable by it, and what the disk says to it, [`finish_writing`] tells.
pub fn begin_writing(file: BorrowedFd<'_>, offset: u64, length: u64) {
    let _ = sync_range(file, offset, length, libc::SYNC_FILE_RANGE_WRITE);
}

/// Waits until `length` bytes at `offset` are written that [`begin_writing`] was told of, and lets go of the memory they
/// are in, unless others have taken to it: whoever reads them gets them from the disk.
///
/// # Errors
/// As [`finish_writing`], which does not tell of them again.
pub fn release_written(file: BorrowedFd<'_>, offset: u64, length: NonZeroU64) -> Result<()> {
    let bytes = length.get();
    sync_range(file, offset, bytes, libc::SYNC_FILE_RANGE_WAIT_BEFORE)
        .map_err(|errno| Error::new("sync_file_range", errno))?;
    // Memory that cannot be had back is no failure.
    let _ = rustix::fs::fadvise(file, offset, Some(length), Advice::DontNeed);
    Ok(())
}

/// Waits until all bytes of a file are written, and tells if any could not be since `file` was opened. Nothing is durable
/// yet: the disk may keep them in its cache, and how to find them is metadata, which this does not write. A later
/// [`super::sync_file_system`] sees to both, but does not tell of failures before it.
///
/// # Errors
/// The kernel's: `EIO`, `ENOSPC`.
pub fn finish_writing(file: BorrowedFd<'_>) -> Result<()> {
    let all = libc::SYNC_FILE_RANGE_WAIT_BEFORE
        | libc::SYNC_FILE_RANGE_WRITE
        | libc::SYNC_FILE_RANGE_WAIT_AFTER;
    sync_range(file, 0, 0, all).map_err(|errno| Error::new("sync_file_range", errno))
}

/// sync_file_range(2); a length of 0 means up to the end.
fn sync_range(file: BorrowedFd<'_>, offset: u64, length: u64, flags: u32) -> Result<(), Errno> {
    let (Ok(offset), Ok(length)) = (i64::try_from(offset), i64::try_from(length)) else {
        return Err(Errno::INVAL);
    };
    loop {
        // SAFETY: numbers and an open descriptor; the call touches no memory of ours.
        let result = unsafe { libc::sync_file_range(file.as_raw_fd(), offset, length, flags) };
        match result {
            0 => return Ok(()),
            _ => match std::io::Error::last_os_error().raw_os_error() {
                Some(libc::EINTR) => {}
                code => return Err(Errno::from_raw_os_error(code.unwrap_or(libc::EIO))),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Seek, Write};
    use std::os::fd::AsFd;
    use std::os::unix::fs::FileExt;

    use rustix::fs::{Mode, OFlags};

    use super::*;

    #[test]
    fn a_file_is_written_and_stays_as_it_is() {
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        let file = rustix::fs::open(std::env::temp_dir(), flags, Mode::from(0o600)).unwrap();
        let mut file = File::from(file);
        file.write_all(&[7; 10_000]).unwrap();
        begin_writing(file.as_fd(), 0, 8192);
        release_written(file.as_fd(), 0, NonZeroU64::new(8192).unwrap()).unwrap();
        finish_writing(file.as_fd()).unwrap();
        assert_eq!(file.stream_position().unwrap(), 10_000);
        let mut bytes = vec![0; 10_001];
        assert_eq!(file.read_at(&mut bytes, 0).unwrap(), 10_000);
        assert!(bytes[..10_000].iter().all(|byte| *byte == 7));
    }

    #[test]
    fn a_pipe_has_no_disk() {
        let (reader, _writer) = std::io::pipe().unwrap();
        begin_writing(reader.as_fd(), 0, 1);
        let error = finish_writing(reader.as_fd()).unwrap_err();
        assert_eq!(error.errno, Errno::SPIPE);
    }
}
