//! Copying file content.

use std::os::fd::BorrowedFd;

use rustix::io::Errno;

use crate::{Error, Result};

/// Copies `length` bytes from the start of `source` to the start of `target`: shares the blocks where the file system
/// can (`FICLONE`), else lets the kernel copy (copy_file_range(2)), else reads and writes.
///
/// # Errors
/// The kernel's; `EIO` when the source ends early.
pub fn copy_file(source: BorrowedFd<'_>, target: BorrowedFd<'_>, length: u64) -> Result<()> {
    if rustix::fs::ioctl_ficlone(target, source).is_ok() {
        return Ok(());
    }
    let mut done = 0u64;
    while done < length {
        let (mut from, mut to) = (done, done);
        let want = usize::try_from(length - done)
            .unwrap_or(usize::MAX)
            .min(1 << 30);
        match rustix::fs::copy_file_range(source, Some(&mut from), target, Some(&mut to), want) {
            Ok(0) => break,
            Ok(count) => done += count as u64,
            Err(Errno::INTR) => {}
            // Not supported here (other file system, special file, old kernel): copy by hand.
            Err(
                Errno::XDEV
                | Errno::INVAL
                | Errno::NOSYS
                | Errno::OPNOTSUPP
                | Errno::BADF
                | Errno::PERM,
            ) => break,
            Err(errno) => return Err(Error::new("copy_file_range", errno)),
        }
    }
    copy_by_hand(source, target, done, length)
}

fn copy_by_hand(
    source: BorrowedFd<'_>,
    target: BorrowedFd<'_>,
    start: u64,
    length: u64,
) -> Result<()> {
    let mut buffer = vec![0u8; if start < length { 1 << 17 } else { 0 }];
    let mut done = start;
    while done < length {
        let want = usize::try_from(length - done)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        let count = match rustix::io::pread(source, &mut buffer[..want], done) {
            Ok(0) => return Err(Error::new("pread", Errno::IO)),
            Ok(count) => count,
            Err(Errno::INTR) => continue,
            Err(errno) => return Err(Error::new("pread", errno)),
        };
        let mut written = 0;
        while written < count {
            match rustix::io::pwrite(target, &buffer[written..count], done + written as u64) {
                Ok(0) => return Err(Error::new("pwrite", Errno::NOSPC)),
                Ok(n) => written += n,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(Error::new("pwrite", errno)),
            }
        }
        done += count as u64;
    }
    Ok(())
}
