//! One log file, read line by line; and the files that a rotation has left behind.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::{Error, ErrorKind, Result};

/// The longest line, in bytes: a message of 16 KiB in which every byte is escaped is far shorter.
const MAX_LINE_BYTES: usize = 1 << 20;
const CHUNK_BYTES: usize = 64 << 10;
/// How many rotated files are looked for.
const MAX_FILES: u32 = 1000;

/// An open log file.
#[derive(Debug)]
pub(super) struct LogFile {
    file: File,
    path: PathBuf,
    identity: (u64, u64),
    /// Bytes read and not handed out; `start` is where the next line begins in them.
    buffer: Vec<u8>,
    start: usize,
    /// Where the next byte comes from.
    position: u64,
    /// The line at hand is longer than [`MAX_LINE_BYTES`] and is being passed over.
    skipping: bool,
}

/// Opens the current log and all older ones, oldest first. Renames that happen meanwhile neither double nor lose one.
pub(super) fn open_all(path: &Path) -> Result<VecDeque<LogFile>> {
    let mut files: VecDeque<LogFile> = VecDeque::new();
    // From the newest to the oldest, as renames go: a file that moves on is met again, and known.
    for number in 0..MAX_FILES {
        match LogFile::open(&numbered(path, number))? {
            Some(file) if files.iter().any(|known| known.identity == file.identity) => {}
            Some(file) => files.push_front(file),
            None if number == 0 => {}
            None => break,
        }
    }
    Ok(files)
}

fn numbered(path: &Path, number: u32) -> PathBuf {
    if number == 0 {
        return path.to_owned();
    }
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    name.into()
}

impl LogFile {
    fn open(path: &Path) -> Result<Option<Self>> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed("open", path, &error)),
        };
        let metadata = file
            .metadata()
            .map_err(|error| failed("stat", path, &error))?;
        Ok(Some(Self {
            file,
            path: path.to_owned(),
            identity: (metadata.dev(), metadata.ino()),
            buffer: Vec::new(),
            start: 0,
            position: 0,
            skipping: false,
        }))
    }

    /// The next whole line, without its newline; None where the file ends (for now), also in the middle of a line.
    pub(super) fn next_line(&mut self) -> Result<Option<Vec<u8>>> {
        let mut searched = self.start;
        loop {
            if let Some(length) = self.buffer[searched..]
                .iter()
                .position(|&byte| byte == b'\n')
            {
                let end = searched + length;
                let line = self.buffer[self.start..end].to_vec();
                self.start = end + 1;
                searched = self.start;
                if std::mem::take(&mut self.skipping) {
                    continue;
                }
                return Ok(Some(line));
            }
            self.buffer.drain(..self.start);
            self.start = 0;
            if self.buffer.len() > MAX_LINE_BYTES {
                self.skipping = true;
                self.buffer.clear();
            }
            searched = self.buffer.len();
            if !self.fill()? {
                return Ok(None);
            }
        }
    }

    /// Reads more. A file that has become shorter was begun anew (one file only, at its bound).
    fn fill(&mut self) -> Result<bool> {
        let mut chunk = [0u8; CHUNK_BYTES];
        let mut count = self.read_at(&mut chunk)?;
        if count == 0 && self.position > 0 {
            let length = self
                .file
                .metadata()
                .map_err(|error| failed("stat", &self.path, &error))?
                .len();
            if length < self.position {
                self.position = 0;
                self.buffer.clear();
                self.skipping = false;
                count = self.read_at(&mut chunk)?;
            }
        }
        self.position += count as u64;
        self.buffer.extend_from_slice(&chunk[..count]);
        Ok(count > 0)
    }

    fn read_at(&self, chunk: &mut [u8]) -> Result<usize> {
        loop {
            match self.file.read_at(chunk, self.position) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => return other.map_err(|error| failed("read", &self.path, &error)),
            }
        }
    }

    /// The files that have been begun since this one, oldest first: it has been renamed, perhaps more than once.
    pub(super) fn newer(&self, path: &Path) -> Result<VecDeque<LogFile>> {
        match fs::metadata(path) {
            Ok(metadata) if (metadata.dev(), metadata.ino()) == self.identity => {
                return Ok(VecDeque::new());
            }
            Ok(_) => {}
            // Between a rename and the new file, or removed with its container.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(VecDeque::new()),
            Err(error) => return Err(failed("stat", path, &error)),
        }
        let mut files = open_all(path)?;
        if let Some(own) = files.iter().position(|file| file.identity == self.identity) {
            files.drain(..=own);
        }
        Ok(files)
    }

    /// Length in bytes.
    pub(super) fn length(&mut self) -> Result<u64> {
        self.file
            .seek(SeekFrom::End(0))
            .map_err(|error| failed("seek", &self.path, &error))
    }

    /// Reads exactly the bytes from `offset` on.
    pub(super) fn read_exact_at(&self, chunk: &mut [u8], offset: u64) -> Result<()> {
        self.file
            .read_exact_at(chunk, offset)
            .map_err(|error| failed("read", &self.path, &error))
    }

    /// Begins at an offset, where a line begins.
    pub(super) fn begin_at(&mut self, offset: u64) {
        self.position = offset;
        self.buffer.clear();
        self.start = 0;
    }
}

fn failed(call: &str, path: &Path, error: &io::Error) -> Error {
    Error::caused(
        ErrorKind::Internal,
        format!("{call} {}", path.display()),
        error,
    )
}
