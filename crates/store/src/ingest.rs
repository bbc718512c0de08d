//! Unfinished blobs: `ingest/blobs/<hex>`, written by one process at a time, continued by the next.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use ketch_spec::Digest;
use ketch_spec::image::Descriptor;
use ketch_sys::fs as sysfs;
use rustix::fs::{FlockOperation, Mode, OFlags};
use sha2::{Digest as _, Sha256};

use crate::lock::lock_file;
use crate::outflow::Outflow;
use crate::{Error, Result, Store};

/// A blob being received. Holds its file locked; dropping it keeps what has come for the next attempt.
///
/// The caller asks [`Ingest::offset`] what is here, gets the source to start there, and either writes the bytes and
/// calls [`Ingest::commit`], or hands the source to [`Ingest::unpack`].
#[derive(Debug)]
pub struct Ingest {
    pub(crate) store: Store,
    pub(crate) descriptor: Descriptor,
    pub(crate) file: File,
    pub(crate) path: PathBuf,
    pub(crate) received_bytes: u64,
    /// Hash of what has been received; None if there were earlier bytes, or somebody else hashes.
    pub(crate) hash: Option<Sha256>,
    outflow: Outflow,
}

impl Store {
    /// Begins or continues to receive a blob; None if it is here. Waits while another process or thread receives the
    /// same blob, so that the work is done once. Call it with the store lock held shared.
    ///
    /// # Errors
    /// The kernel's.
    pub fn ingest(&self, descriptor: &Descriptor) -> Result<Option<Ingest>> {
        let path = self
            .root()
            .join("ingest/blobs")
            .join(descriptor.digest.hex());
        loop {
            if self.has(&descriptor.digest) {
                return Ok(None);
            }
            let file = open_ingest(&path)?;
            lock_file(&file, &path, FlockOperation::LockExclusive)?;
            // The one we waited for may have finished the file (and renamed it) or thrown it away.
            if !is_still_at(&file, &path) {
                continue;
            }
            if self.has(&descriptor.digest) {
                discard(&path)?;
                return Ok(None);
            }
            let mut file = File::from(file);
            let mut received_bytes = file
                .seek(SeekFrom::End(0))
                .map_err(Error::io("seek", &path))?;
            if received_bytes > descriptor.size {
                // Cannot be a part of this blob.
                file.set_len(0).map_err(Error::io("truncate", &path))?;
                file.rewind().map_err(Error::io("seek", &path))?;
                received_bytes = 0;
            }
            let hash = (received_bytes == 0).then(Sha256::new);
            let store = self.clone();
            return Ok(Some(Ingest {
                store,
                descriptor: descriptor.clone(),
                file,
                path,
                received_bytes,
                hash,
                outflow: Outflow::from(received_bytes),
            }));
        }
    }
}

impl Ingest {
    /// How many bytes are here already: where the source has to start.
    pub fn offset(&self) -> u64 {
        self.received_bytes
    }

    /// What is being received.
    pub fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }

    /// Throws away what is here: the source cannot start in the middle, or what came was wrong.
    ///
    /// # Errors
    /// The kernel's.
    pub fn restart(&mut self) -> Result<()> {
        self.file
            .set_len(0)
            .map_err(Error::io("truncate", &self.path))?;
        self.file.rewind().map_err(Error::io("seek", &self.path))?;
        self.received_bytes = 0;
        self.hash = Some(Sha256::new());
        self.outflow = Outflow::default();
        Ok(())
    }

    /// Checks size and digest and makes the blob visible. Wrong bytes are thrown away, missing ones can still come in a
    /// later attempt.
    ///
    /// # Errors
    /// [`Error::Source`] if bytes are missing, [`Error::DigestMismatch`]; the kernel's.
    pub fn commit(mut self) -> Result<()> {
        if self.received_bytes < self.descriptor.size {
            return Err(self.stopped(io::ErrorKind::UnexpectedEof.into()));
        }
        let hash = self.whole_hash()?;
        self.check(&Digest::from_sha256(hash.finalize().into()))?;
        self.finish()
    }

    /// The error for a source that ended or failed.
    pub(crate) fn stopped(&self, source: io::Error) -> Error {
        Error::Source {
            digest: self.descriptor.digest.clone(),
            received_bytes: self.received_bytes,
            expected_bytes: self.descriptor.size,
            source,
        }
    }

    /// The hash of all that is here. What an earlier attempt left is read again.
    fn whole_hash(&mut self) -> Result<Sha256> {
        if let Some(hash) = self.hash.take() {
            return Ok(hash);
        }
        let mut hash = Sha256::new();
        self.file.rewind().map_err(Error::io("seek", &self.path))?;
        let mut buffer = vec![0u8; 1 << 17];
        loop {
            let count = match self.file.read(&mut buffer) {
                Ok(0) => return Ok(hash),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(Error::io("read", &self.path)(error)),
            };
            hash.update(&buffer[..count]);
        }
    }

    /// Appends bytes. More than the descriptor promises is [`Error::DigestMismatch`] at once.
    pub(crate) fn append(&mut self, bytes: &[u8]) -> Result<()> {
        let total = self.received_bytes + bytes.len() as u64;
        if total > self.descriptor.size {
            let actual = Digest::of(bytes);
            let _ = discard(&self.path);
            return Err(self.mismatch(actual, total));
        }
        self.file
            .write_all(bytes)
            .map_err(Error::io("write", &self.path))?;
        self.outflow.grew(&self.file, bytes.len() as u64)?;
        if let Some(hash) = &mut self.hash {
            hash.update(bytes);
        }
        self.received_bytes = total;
        Ok(())
    }

    fn mismatch(&self, actual: Digest, actual_bytes: u64) -> Error {
        Error::DigestMismatch {
            expected: self.descriptor.digest.clone(),
            expected_bytes: self.descriptor.size,
            actual,
            actual_bytes,
        }
    }

    /// Compares the digest of all that came, and throws it away if it is wrong.
    pub(crate) fn check(&self, actual: &Digest) -> Result<()> {
        if *actual != self.descriptor.digest || self.received_bytes != self.descriptor.size {
            self.discard()?;
            return Err(self.mismatch(actual.clone(), self.received_bytes));
        }
        Ok(())
    }

    /// Removes the file.
    pub(crate) fn discard(&self) -> Result<()> {
        discard(&self.path)
    }

    /// Moves the file, whose digest was checked, to its place.
    pub(crate) fn finish(self) -> Result<()> {
        sysfs::finish_writing(self.file.as_fd())?;
        self.store
            .place("blobs", &self.descriptor.digest, &self.path)?;
        Ok(())
    }
}

impl Write for Ingest {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.append(bytes).map_err(io::Error::other)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn open_ingest(path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::from(0o600))
        .map_err(|e| ketch_sys::Error::on("open", path, e).into())
}

fn discard(path: &Path) -> Result<()> {
    sysfs::remove_tree(path).map_err(Error::from)
}

/// Whether `path` still names the open file.
fn is_still_at(file: &OwnedFd, path: &Path) -> bool {
    let (Ok(open), Ok(named)) = (rustix::fs::fstat(file), rustix::fs::stat(path)) else {
        return false;
    };
    (open.st_dev, open.st_ino) == (named.st_dev, named.st_ino)
}
