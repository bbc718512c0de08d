//! Whether what is here is still what it was.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::unix::fs::FileExt;

use ketch_spec::Digest;
use sha2::{Digest as _, Sha256};

use crate::erofs::Writer;
use crate::pipeline::Work;
use crate::tar::Reader;
use crate::{Error, OpenLayer, Result, Store, target};

/// Bytes of one read.
const READ_BYTES: usize = 256 << 10;

/// What came of looking at something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// Every byte is right.
    Sound,
    /// Something is not; what.
    Damaged(String),
    /// Nothing tells: files of a layer in the Directory form have no digests.
    Unknown,
    /// It is not here.
    Missing,
}

impl Store {
    /// Reads a blob and compares its digest.
    ///
    /// # Errors
    /// The disk's.
    pub fn verify_blob(&self, digest: &Digest) -> Result<Health> {
        let file = match self.open_blob(digest) {
            Err(Error::MissingBlob { .. }) => return Ok(Health::Missing),
            other => other?,
        };
        let path = self.settled("blobs").join(digest.hex());
        let found = digest_of(file).map_err(Error::io("read", path))?;
        Ok(compare("the blob", digest, &found))
    }

    /// Reads a layer that is kept as an archive: compares the archive's digest with the diff id, and its image with one
    /// that is made of it anew.
    ///
    /// # Errors
    /// The disk's.
    pub fn verify_layer(&self, diff_id: &Digest) -> Result<Health> {
        let (image, archive) = match self.open_layer(diff_id) {
            Err(Error::MissingLayer { .. }) => return Ok(Health::Missing),
            Ok(OpenLayer::Directory(_)) => return Ok(Health::Unknown),
            Ok(OpenLayer::Erofs { image, archive }) => (File::from(image), File::from(archive)),
            Err(error) => return Err(error),
        };
        let place = self.settled("layers").join(diff_id.hex());
        let archive_path = place.join(target::TAR);
        let again = archive
            .try_clone()
            .map_err(Error::io("dup", &archive_path))?;
        let found = digest_of(again).map_err(Error::io("read", &archive_path))?;
        let health = compare(target::TAR, diff_id, &found);
        if health != Health::Sound {
            return Ok(health);
        }
        let work = Work(self.work_directory("verify")?);
        let anew = make_anew(&work, &archive, diff_id)?;
        let same = are_same(&image, &anew).map_err(Error::io("read", place.join(target::IMAGE)))?;
        Ok(match same {
            true => Health::Sound,
            false => Health::Damaged(format!("{} is not the one of its archive", target::IMAGE)),
        })
    }
}

fn compare(what: &str, expected: &Digest, found: &Digest) -> Health {
    match expected == found {
        true => Health::Sound,
        false => Health::Damaged(format!("{what} has digest {found}, expected {expected}")),
    }
}

/// The image of an archive, which has the right digest and so gave one before.
fn make_anew(work: &Work, archive: &File, diff_id: &Digest) -> Result<File> {
    let path = work.0.join(target::IMAGE);
    let mut options = File::options();
    let created = options.read(true).write(true).create_new(true).open(&path);
    let image = created.map_err(Error::io("create", &path))?;
    let clone = |file: &File| file.try_clone().map_err(Error::io("dup", &path));
    let writer = Writer::new(clone(&image)?, clone(archive)?)?;
    let source = At {
        file: clone(archive)?,
        offset: 0,
    };
    let mut reader = Reader::new(BufReader::with_capacity(READ_BYTES, source));
    let (_, unsealed) = writer.run(&mut reader)?;
    let length = archive.metadata().map_err(Error::io("fstat", &path))?.len();
    unsealed
        .seal(diff_id, length)
        .map_err(Error::io("write", &path))?;
    Ok(image)
}

fn are_same(one: &File, other: &File) -> io::Result<bool> {
    let length = one.metadata()?.len();
    if length != other.metadata()?.len() {
        return Ok(false);
    }
    let (mut a, mut b) = (vec![0; READ_BYTES], vec![0; READ_BYTES]);
    let mut at = 0;
    while at < length {
        let count = (length - at).min(READ_BYTES as u64) as usize;
        one.read_exact_at(&mut a[..count], at)?;
        other.read_exact_at(&mut b[..count], at)?;
        if a[..count] != b[..count] {
            return Ok(false);
        }
        at += count as u64;
    }
    Ok(true)
}

fn digest_of(file: File) -> io::Result<Digest> {
    let mut source = At { file, offset: 0 };
    let mut hash = Sha256::new();
    let mut buffer = vec![0; READ_BYTES];
    loop {
        match source.read(&mut buffer)? {
            0 => return Ok(Digest::from_sha256(hash.finalize().into())),
            count => hash.update(&buffer[..count]),
        }
    }
}

/// Reads from a place of its own, wherever others who have the same open file are.
struct At {
    file: File,
    offset: u64,
}

impl Read for At {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = loop {
            match self.file.read_at(buffer, self.offset) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other?,
            }
        };
        self.offset += count as u64;
        Ok(count)
    }
}
