//! Making one file of each kind.

use std::io::{self, BufRead};
use std::os::unix::fs::FileExt;

use super::chunks::{Chunk, Map, Piece};
use super::directories;
use super::format::{self, BLOCK_BYTES, CHUNK_INDEX_BYTES, INODE_BYTES, Inode, Layout, SLOT_BYTES};
use super::names::{Id, ROOT, What};
use super::writer::{MAX_IMAGE_BYTES, Writer, io_failed, wrong};
use crate::tar::{Entry, Kind, Problem, Reader, TarError, shown};
use crate::tree::path::Clean;

/// The longest file, holes and all: its chunk indexes are 8 KiB.
const MAX_FILE_BYTES: u64 = 1 << 50;
/// Bytes of one read of the tar.
const COPY_BYTES: usize = 64 << 10;

impl Writer {
    pub(super) fn file<R: BufRead>(
        &mut self,
        entry: &Entry,
        parent: Id,
        name: &[u8],
        reader: &mut Reader<R>,
    ) -> Result<(), TarError> {
        if entry.size > MAX_FILE_BYTES {
            return Err(wrong(entry, Problem::Range { field: "size" }));
        }
        let (mut inode, _) = self.described(entry, 0o100_000)?;
        inode.size = entry.size;
        let mut tar = reader.offset();
        let mut pieces = Vec::new();
        match &entry.segments {
            Some(segments) => {
                for segment in segments {
                    pieces.push(Piece {
                        offset: segment.offset,
                        length: segment.length,
                        tar,
                    });
                    tar += segment.length;
                }
            }
            None if entry.size > 0 => pieces.push(Piece {
                offset: 0,
                length: entry.size,
                tar,
            }),
            None => {}
        }
        let filled = reader.pass_data()?;
        let slot = if entry.size == 0 {
            self.inode(&inode, &[])
                .map_err(|error| io_failed(entry, &error))?
        } else {
            let map = Map {
                size: entry.size,
                pieces: &pieces,
                filled,
            };
            self.chunked(entry, inode, &map)?
        };
        self.totals.size_bytes = self.totals.size_bytes.saturating_add(entry.size);
        self.replace(entry, parent, name, What::File, slot)
    }

    /// A file with data: copies what cannot stay in the tar, then the inode with its chunks' indexes.
    fn chunked(&mut self, entry: &Entry, mut inode: Inode, map: &Map<'_>) -> Result<u32, TarError> {
        let failed = |error: io::Error| io_failed(entry, &error);
        let room = MAX_IMAGE_BYTES.saturating_sub(self.output.at());
        let (bits, copied_bytes) = map
            .chunk_bits(room)
            .ok_or_else(|| wrong(entry, Problem::Scattered))?;
        let mut copies = 0;
        if copied_bytes > 0 {
            self.output.align(BLOCK_BYTES).map_err(failed)?;
            copies = self.output.at();
            for (number, chunk) in (0u64..).zip(map.chunks(bits)) {
                if let Chunk::Mixed { first, end } = chunk {
                    self.copy_chunk(&map.pieces[first..end], number << bits, 1 << bits)
                        .map_err(failed)?;
                }
            }
        }
        inode.layout = Layout::Chunks(bits);
        // Indexes are aligned to their size.
        let gap = inode.xattrs.len() as u64 % CHUNK_INDEX_BYTES;
        let slot = self
            .inode(&inode, &[0; CHUNK_INDEX_BYTES as usize][..gap as usize])
            .map_err(failed)?;
        for chunk in map.chunks(bits) {
            let (device, place) = match chunk {
                Chunk::Hole => (0, None),
                Chunk::Tar(offset) => (format::TAR_DEVICE, Some(offset)),
                Chunk::Mixed { .. } => {
                    copies += 1 << bits;
                    (0, Some(copies - (1 << bits)))
                }
            };
            // Archives have at most 1 TiB, images less: 32 bits of blocks are twice that.
            let block = place.map_or(format::HOLE, |offset| (offset / BLOCK_BYTES) as u32);
            self.output
                .append(&format::chunk_index(device, block))
                .map_err(failed)?;
        }
        Ok(slot)
    }

    /// Copies the parts of `pieces` that are in the chunk of `length` bytes at `start` of the file.
    fn copy_chunk(&mut self, pieces: &[Piece], start: u64, length: u64) -> io::Result<()> {
        let end = self.output.at() + length;
        let base = self.output.at();
        let mut buffer = vec![0u8; COPY_BYTES];
        for piece in pieces {
            let from = piece.offset.max(start);
            let to = (piece.offset + piece.length).min(start + length);
            self.output.skip(base + (from - start) - self.output.at())?;
            let mut at = from;
            while at < to {
                let count = (to - at).min(COPY_BYTES as u64) as usize;
                self.tar
                    .read_exact_at(&mut buffer[..count], piece.tar + (at - piece.offset))?;
                self.output.append(&buffer[..count])?;
                at += count as u64;
            }
        }
        self.output.skip(end - self.output.at())
    }

    pub(super) fn symlink(
        &mut self,
        entry: &Entry,
        parent: Id,
        name: &[u8],
    ) -> Result<(), TarError> {
        let failed = |error: io::Error| io_failed(entry, &error);
        let (mut inode, _) = self.described(entry, 0o120_000)?;
        // A link has no permissions of its own.
        inode.mode = 0o120_777;
        inode.size = entry.link.len() as u64;
        let together = INODE_BYTES + (inode.xattrs.len() + entry.link.len()) as u64;
        let slot = if together <= BLOCK_BYTES {
            inode.layout = Layout::Inline;
            self.output.align(SLOT_BYTES).map_err(failed)?;
            if self.output.at() % BLOCK_BYTES + together > BLOCK_BYTES {
                self.output.align(BLOCK_BYTES).map_err(failed)?;
            }
            self.inode(&inode, &entry.link).map_err(failed)?
        } else {
            self.output.align(BLOCK_BYTES).map_err(failed)?;
            inode.layout = Layout::Plain((self.output.at() / BLOCK_BYTES) as u32);
            self.output.append(&entry.link).map_err(failed)?;
            self.output.align(BLOCK_BYTES).map_err(failed)?;
            self.inode(&inode, &[]).map_err(failed)?
        };
        self.replace(entry, parent, name, What::Symlink, slot)
    }

    pub(super) fn special(
        &mut self,
        entry: &Entry,
        parent: Id,
        name: &[u8],
    ) -> Result<(), TarError> {
        let is_whiteout =
            entry.kind == Kind::CharacterDevice && (entry.major, entry.minor) == (0, 0);
        let (bits, what) = match entry.kind {
            Kind::Fifo => (0o010_000, What::Fifo),
            Kind::BlockDevice => (0o060_000, What::BlockDevice),
            _ if is_whiteout => (0o020_000, What::Whiteout),
            _ => (0o020_000, What::CharacterDevice),
        };
        let (mut inode, _) = self.described(entry, bits)?;
        if entry.kind != Kind::Fifo {
            inode.layout = Layout::Plain(format::device(entry.major, entry.minor));
        }
        let slot = self
            .inode(&inode, &[])
            .map_err(|error| io_failed(entry, &error))?;
        self.replace(entry, parent, name, what, slot)
    }

    pub(super) fn hard_link(
        &mut self,
        entry: &Entry,
        path: &Clean,
        parent: Id,
        name: &[u8],
    ) -> Result<(), TarError> {
        let missing = || {
            wrong(
                entry,
                Problem::LinkTarget {
                    target: shown(&entry.link),
                },
            )
        };
        let target = Clean::new(&entry.link).map_err(|problem| wrong(entry, problem))?;
        if target.is_root() {
            return Err(missing());
        }
        let here = self.names.find(parent, name);
        if target == *path {
            // An archive made of the same names twice; the file is there already.
            return here.map(drop).ok_or_else(missing);
        }
        let (directory, last) = target.split();
        let found = self
            .walk(directory)
            .map_err(|error| io_failed(entry, &error))?;
        let found = found
            .ok()
            .and_then(|directory| self.names.find(directory, last))
            .ok_or_else(missing)?;
        // What is here has to go first, and the target may have been in it, or be it.
        if self.names.what(found) == What::Directory
            || here.is_some_and(|here| self.is_in(found, here))
        {
            return Err(missing());
        }
        let (what, inode) = (self.names.what(found), self.names.inode(found));
        if self.names.set_linked(found) {
            directories::start_links(&mut self.output, inode)
                .map_err(|error| io_failed(entry, &error))?;
        }
        self.replace(entry, parent, name, what, inode)?;
        if let Some(id) = self.names.find(parent, name) {
            self.names.set_linked(id);
        }
        Ok(())
    }

    /// Whether `id` is `directory`, or somewhere in it.
    fn is_in(&self, mut id: Id, directory: Id) -> bool {
        while id != directory {
            if id == ROOT {
                return false;
            }
            id = self.names.parent(id);
        }
        true
    }

    /// Gives an inode its name, in the place of whatever has it.
    fn replace(
        &mut self,
        entry: &Entry,
        parent: Id,
        name: &[u8],
        what: What,
        inode: u32,
    ) -> Result<(), TarError> {
        if self.names.find(parent, name).is_some() {
            // The last parent may have been in it.
            self.last_parent = None;
        }
        self.put(entry, parent, name, what, inode).map(drop)
    }
}
