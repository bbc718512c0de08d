//! An archive as a directory for a while: a build context that came as a tar stream, and what ADD unpacks.

use std::io::{BufReader, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use ketch_store::tar::Reader;
use ketch_store::tree::Extractor;
use ketch_store::{Compression, Decoder, Draft};

use super::LayerError;
use crate::{Engine, Result};

/// How many first bytes tell an archive from other files: one block of a tar archive.
pub const ARCHIVE_HEAD_BYTES: u64 = 512;

/// An unpacked archive. Its files go when it is dropped, or with the next collection after a crash.
#[derive(Debug)]
pub struct ArchiveRoot {
    directory: OwnedFd,
    _draft: Draft,
}

impl ArchiveRoot {
    /// Unpacks a tar archive, plain or compressed with gzip or zstd.
    ///
    /// # Errors
    /// A damaged or hostile archive, another compression, a full disk.
    pub fn unpack(engine: &Engine, source: impl Read) -> Result<Self> {
        let draft = engine.store().draft().map_err(LayerError::from)?;
        let path = draft.path().join("root");
        std::fs::create_dir(&path).map_err(|source| LayerError::Io {
            call: "mkdir",
            path: path.clone(),
            source,
        })?;
        let open = || ketch_sys::fs::open_directory(&path).map_err(LayerError::from);
        let directory = open()?;
        let decoder = Decoder::detect(BufReader::new(source)).map_err(LayerError::from)?;
        let mut reader = Reader::new(BufReader::with_capacity(128 << 10, decoder));
        Extractor::new(open()?)
            .run(&mut reader)
            .map_err(|error| LayerError::from(ketch_store::Error::from(error)))?;
        Ok(Self {
            directory,
            _draft: draft,
        })
    }

    /// The directory with the archive's files.
    pub fn directory(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }
}

/// Whether a file that begins with `head` is a tar archive, or compressed and so perhaps one.
pub fn looks_like_archive(head: &[u8]) -> bool {
    !matches!(Compression::detect(head), Ok(Compression::None)) || is_tar(head)
}

/// Whether a file that begins with `head` is a tar archive once its compression is taken off. `head` needs
/// [`ARCHIVE_HEAD_BYTES`] of an uncompressed archive, and more of a compressed one: 64 KiB is plenty.
///
/// # Errors
/// A compression that is known but not supported (xz, bzip2).
pub fn is_archive(head: &[u8]) -> Result<bool> {
    let compression = Compression::detect(head).map_err(LayerError::from)?;
    if compression == Compression::None {
        return Ok(is_tar(head));
    }
    let decoder = Decoder::new(compression, head).map_err(LayerError::from)?;
    let mut block = Vec::new();
    // What is compressed but damaged, or cut off before a block is whole, is no archive to us: it is copied as it is.
    let _ = decoder.take(ARCHIVE_HEAD_BYTES).read_to_end(&mut block);
    Ok(is_tar(&block))
}

/// The magic of POSIX and GNU archives (tar(5)), or the checksum of one from before them.
fn is_tar(block: &[u8]) -> bool {
    let Some(block) = block.get(..512) else {
        return false;
    };
    if &block[257..262] == b"ustar" {
        return true;
    }
    let text: Vec<u8> = block[148..156]
        .iter()
        .copied()
        .filter(u8::is_ascii_digit)
        .collect();
    let stored = std::str::from_utf8(&text)
        .ok()
        .and_then(|text| u64::from_str_radix(text, 8).ok());
    let sum: u64 = block
        .iter()
        .enumerate()
        .map(|(i, b)| {
            if (148..156).contains(&i) {
                32
            } else {
                u64::from(*b)
            }
        })
        .sum();
    stored == Some(sum) && block[0] != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn archives_are_told_by_their_bytes() {
        let mut block = vec![0u8; 512];
        assert!(!is_archive(&block).unwrap());
        block[257..262].copy_from_slice(b"ustar");
        assert!(is_archive(&block).unwrap());
        assert!(!is_archive(b"FROM busybox\n").unwrap());
        assert!(!looks_like_archive(b"FROM busybox\n"));
        assert!(looks_like_archive(b"\x1f\x8b\x08"));
        assert!(is_archive(b"BZh9").is_err());
        let mut old = vec![0u8; 512];
        old[0] = b'a';
        let sum = format!("{:06o}\0 ", 32 * 8 + u64::from(b'a'));
        old[148..156].copy_from_slice(sum.as_bytes());
        assert!(is_archive(&old).unwrap());
    }
}
