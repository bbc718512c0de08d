//! Files that are written from front to back, and go to the disk while the rest of them still comes.

use std::fs::File;
use std::os::fd::AsFd;

use ketch_sys::fs as sysfs;

/// Bytes that are sent to the disk together.
const WINDOW_BYTES: u64 = 8 << 20;

/// How much of a file has been sent. Without it a file system keeps hundreds of megabytes back, which the sync at the end
/// then waits for while the processors have nothing to do.
#[derive(Debug, Default)]
pub(crate) struct Outflow {
    length: u64,
    sent: u64,
}

impl Outflow {
    /// Continues a file of `length` bytes.
    pub fn from(length: u64) -> Self {
        Self {
            length,
            sent: length,
        }
    }

    /// Tells that the file is longer by `bytes`.
    pub fn grew(&mut self, file: &File, bytes: u64) {
        self.length += bytes;
        if self.length - self.sent >= WINDOW_BYTES {
            sysfs::begin_writing(file.as_fd(), self.sent, self.length - self.sent);
            self.sent = self.length;
        }
    }
}
