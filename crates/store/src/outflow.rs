//! Files that are written from front to back, and go to the disk while the rest of them still comes.

use std::fs::File;
use std::num::NonZeroU64;
use std::os::fd::AsFd;

use ketch_sys::fs as sysfs;

/// Bytes that are sent to the disk together: a multiple of the largest piece of memory that the kernel keeps a file in.
const WINDOW_BYTES: u64 = 8 << 20;
/// Windows that the disk may be behind. As much of the file's end stays in memory.
const WINDOWS: u64 = 2;

/// How much of a file has been sent.
///
/// Without it a file system keeps hundreds of megabytes back, for which the sync at the end then waits while the
/// processors have nothing to do. And what the disk has leaves the memory again: an image is larger than what its
/// first run reads, and whoever's memory it would take is worse off. In a virtual machine it counts twice, because every
/// page that was not used before is a fault that the host takes, at several times the price of copying a page.
#[derive(Debug, Default)]
pub(crate) struct Outflow {
    length: u64,
    sent: u64,
}

impl Outflow {
    /// Continues a file of `length` bytes.
    pub fn from(length: u64) -> Self {
        let sent = length - length % WINDOW_BYTES;
        Self { length, sent }
    }

    /// Tells that the file is longer by `bytes`. Waits where the disk is too far behind.
    ///
    /// # Errors
    /// The disk's.
    pub fn grew(&mut self, file: &File, bytes: u64) -> Result<(), ketch_sys::Error> {
        self.length += bytes;
        while self.length - self.sent >= WINDOW_BYTES {
            sysfs::begin_writing(file.as_fd(), self.sent, WINDOW_BYTES);
            let behind = self.sent.checked_sub(WINDOWS * WINDOW_BYTES);
            self.sent += WINDOW_BYTES;
            if let (Some(start), Some(length)) = (behind, NonZeroU64::new(WINDOW_BYTES)) {
                sysfs::release_written(file.as_fd(), start, length)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::fs::FileExt;

    use super::*;

    #[test]
    fn what_leaves_the_memory_is_on_the_disk() {
        let mut file = tempfile::tempfile().unwrap();
        let mut outflow = Outflow::default();
        // Pieces that fit neither pages nor windows; enough that two windows are let go.
        let piece: Vec<u8> = (0..1_000_003u32).map(|at| (at % 251) as u8).collect();
        let pieces = (WINDOWS + 3) * WINDOW_BYTES / piece.len() as u64;
        for _ in 0..pieces {
            file.write_all(&piece).unwrap();
            outflow.grew(&file, piece.len() as u64).unwrap();
        }
        assert_eq!(outflow.length, pieces * piece.len() as u64);
        assert!(outflow.sent > outflow.length - WINDOW_BYTES);
        let mut found = vec![0; piece.len()];
        for number in 0..pieces {
            file.read_exact_at(&mut found, number * piece.len() as u64)
                .unwrap();
            assert!(found == piece, "piece {number}");
        }
    }

    #[test]
    fn a_continued_file_is_sent_from_its_last_whole_window_on() {
        let outflow = Outflow::from(WINDOW_BYTES + 5);
        assert_eq!(
            (outflow.length, outflow.sent),
            (WINDOW_BYTES + 5, WINDOW_BYTES)
        );
    }
}
