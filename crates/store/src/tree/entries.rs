//! What every writer of a layer does first with an archive's entries: names are cleaned and bounded, whiteouts told from
//! files, and what means nothing here left out. What comes after it may still follow links of the archive's own making.

use std::io::BufRead;

use ketch_sys::fs::NAME_MAX_BYTES;

use super::path::Clean;
use super::{AUFS_PREFIX, OPAQUE, WHITEOUT_PREFIX};
use crate::tar::{Entry, Kind, Problem, Reader, TarError};

/// The largest numbers that Linux's device numbers have (include/linux/kdev_t.h: 12 and 20 bits).
const MAX_MAJOR: u32 = (1 << 12) - 1;
const MAX_MINOR: u32 = (1 << 20) - 1;

/// Makes a tree, in whatever form, of entries one after the other.
pub(crate) trait Maker {
    /// The root directory's own entry.
    fn root(&mut self, entry: &Entry) -> Result<(), TarError>;

    /// `directory` hides everything of the layers below.
    fn opaque(&mut self, entry: &Entry, directory: &[u8]) -> Result<(), TarError>;

    /// `hidden` in `directory` is gone.
    fn whiteout(&mut self, entry: &Entry, directory: &[u8], hidden: &[u8]) -> Result<(), TarError>;

    /// Anything else, at `path`, which is not the root. A file's data is still in the reader.
    fn make<R: BufRead>(
        &mut self,
        entry: &Entry,
        path: &Clean,
        reader: &mut Reader<R>,
    ) -> Result<(), TarError>;
}

/// Hands every entry of an archive to `maker`; returns how many there were.
pub(crate) fn each<R: BufRead>(
    maker: &mut impl Maker,
    reader: &mut Reader<R>,
) -> Result<u64, TarError> {
    let mut entries = 0;
    while let Some(entry) = reader.next_entry()? {
        one(maker, &entry, reader)?;
        entries += 1;
    }
    Ok(entries)
}

fn one<R: BufRead>(
    maker: &mut impl Maker,
    entry: &Entry,
    reader: &mut Reader<R>,
) -> Result<(), TarError> {
    let fail = |problem| TarError::Entry {
        entry: entry.shown(),
        problem,
    };
    let path = Clean::new(&entry.path).map_err(fail)?;
    if path.is_root() {
        if entry.kind != Kind::Directory {
            return Err(fail(Problem::Root));
        }
        return maker.root(entry);
    }
    let (directory, name) = path.split();
    if name.len() > NAME_MAX_BYTES {
        return Err(fail(Problem::Long {
            field: "name",
            limit: NAME_MAX_BYTES as u64,
        }));
    }
    if name == OPAQUE {
        return maker.opaque(entry, directory);
    }
    if name.starts_with(AUFS_PREFIX) {
        // aufs's own bookkeeping (a directory of hard links, for one): no part of the image.
        return Ok(());
    }
    if let Some(hidden) = name.strip_prefix(WHITEOUT_PREFIX) {
        if hidden.is_empty() || hidden == b"." || hidden == b".." {
            return Err(fail(Problem::Whiteout));
        }
        return maker.whiteout(entry, directory, hidden);
    }
    let is_device = matches!(entry.kind, Kind::CharacterDevice | Kind::BlockDevice);
    if is_device && (entry.major > MAX_MAJOR || entry.minor > MAX_MINOR) {
        return Err(fail(Problem::Range {
            field: "device number",
        }));
    }
    maker.make(entry, &path, reader)
}
