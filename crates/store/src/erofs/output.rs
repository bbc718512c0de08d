//! The image being written: bytes are added at its end, some are changed or read again later.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::format::{BLOCK_BYTES, FIRST_OFFSET};

/// Bytes that are kept back to be written together.
const BUFFER_BYTES: usize = 256 << 10;

/// A file that grows.
#[derive(Debug)]
pub struct Output {
    file: File,
    /// Where in the file the buffer begins.
    start: u64,
    buffer: Vec<u8>,
}

impl Output {
    /// Begins behind what is reserved for superblock and root directory.
    pub fn new(file: File) -> Self {
        Self {
            file,
            start: FIRST_OFFSET,
            buffer: Vec::with_capacity(BUFFER_BYTES),
        }
    }

    /// Where the next byte goes.
    pub fn at(&self) -> u64 {
        self.start + self.buffer.len() as u64
    }

    pub fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.buffer.len() + bytes.len() > BUFFER_BYTES {
            self.flush()?;
        }
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    /// Adds zeros up to the next multiple of `unit`, a power of two.
    pub fn align(&mut self, unit: u64) -> io::Result<()> {
        let gap = self.at().next_multiple_of(unit) - self.at();
        // No unit is larger than a block.
        self.append(&[0; BLOCK_BYTES as usize][..gap as usize])
    }

    /// Leaves a hole.
    pub fn skip(&mut self, bytes: u64) -> io::Result<()> {
        self.flush()?;
        self.start += bytes;
        Ok(())
    }

    /// Changes what was written, reserved or skipped.
    pub fn change(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        match offset.checked_sub(self.start) {
            Some(at) => {
                let at = at as usize;
                self.buffer[at..at + bytes.len()].copy_from_slice(bytes);
                Ok(())
            }
            None => {
                if offset + bytes.len() as u64 > self.start {
                    self.flush()?;
                }
                self.file.write_all_at(bytes, offset)
            }
        }
    }

    /// Reads what was written.
    pub fn read(&mut self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        if offset + bytes.len() as u64 > self.start {
            self.flush()?;
        }
        self.file.read_exact_at(bytes, offset)
    }

    /// Writes what is kept back.
    pub fn flush(&mut self) -> io::Result<()> {
        self.file.write_all_at(&self.buffer, self.start)?;
        self.start += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    /// Fills the last block up and gives the file back, which is a number of whole blocks long.
    pub fn finish(mut self) -> io::Result<(File, u64)> {
        self.align(BLOCK_BYTES)?;
        self.flush()?;
        self.file.set_len(self.start)?;
        Ok((self.file, self.start / BLOCK_BYTES))
    }
}
