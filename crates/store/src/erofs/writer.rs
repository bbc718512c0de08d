//! Archive to image.

use std::fs::File;
use std::io::{self, BufRead};
use std::os::unix::fs::FileExt;

use ketch_sys as sys;
use rustix::io::Errno;

use super::attributes::{Attributes, Taken};
use super::chunks::{Chunk, Map, Piece};
use super::directories;
use super::format::{
    self, BLOCK_BYTES, CHUNK_INDEX_BYTES, FIRST_OFFSET, INODE_BYTES, Inode, Layout, ROOT_OFFSET,
    SLOT_BYTES, Superblock,
};
use super::names::{Full, Id, Lost, Names, ROOT, What};
use super::output::Output;
use crate::tar::{Entry, Kind, Problem, Reader, TarError, Time, shown};
use crate::tree::Totals;
use crate::tree::entries::{self, Maker};
use crate::tree::path::Clean;

/// The largest image: its inodes' numbers have 32 bits, their blocks' too. Far more than any archive needs.
const MAX_IMAGE_BYTES: u64 = 64 << 30;
/// The longest file, holes and all: its chunk indexes are 8 KiB.
const MAX_FILE_BYTES: u64 = 1 << 50;
/// The root's inode as a number.
const ROOT_INODE: u32 = (ROOT_OFFSET / SLOT_BYTES) as u32;
/// Bytes of one read of the tar.
const COPY_BYTES: usize = 64 << 10;

const DIRECTORY_BITS: u16 = 0o040_000;

/// Writes the image of one archive, metadata only, while the archive passes.
///
/// What is known of a file when its entry comes is written at once; kept are only the names. Directories come last.
#[derive(Debug)]
pub struct Writer {
    output: Output,
    names: Names,
    /// The archive, of which everything that has passed is in this file.
    tar: File,
    /// The directory that the last entry was in: the next one usually is too.
    last_parent: Option<(Vec<u8>, Id)>,
    inodes: u64,
    totals: Totals,
}

/// An image that lacks its superblock.
#[derive(Debug)]
pub struct Unsealed {
    file: File,
    blocks: u32,
    inodes: u64,
}

impl Unsealed {
    /// Writes the superblock. `digest` is that of the archive, of `archive_bytes`.
    ///
    /// # Errors
    /// The disk's.
    pub fn seal(self, digest: &ketch_spec::Digest, archive_bytes: u64) -> io::Result<u64> {
        let mut tar_digest = [0; 64];
        tar_digest.copy_from_slice(&digest.hex().as_bytes()[..64]);
        let mut uuid = [0; 16];
        for (byte, pair) in uuid.iter_mut().zip(tar_digest.chunks_exact(2)) {
            let digits = std::str::from_utf8(pair).unwrap_or_default();
            *byte = u8::from_str_radix(digits, 16).unwrap_or_default();
        }
        let superblock = Superblock {
            inodes: self.inodes,
            blocks: self.blocks,
            // At most 1 TiB is unpacked.
            tar_blocks: archive_bytes.div_ceil(BLOCK_BYTES) as u32,
            tar_digest,
            uuid,
        };
        self.file.write_all_at(&superblock.encode(), 0)?;
        Ok(u64::from(self.blocks) * BLOCK_BYTES)
    }
}

impl Writer {
    /// Begins. `image` is empty and open for reading and writing; `tar` is where the archive's bytes are by the time that
    /// the reader hands them out.
    ///
    /// # Errors
    /// The disk's.
    pub fn new(image: File, tar: File) -> Result<Self, TarError> {
        let mut writer = Self {
            output: Output::new(image),
            names: Names::new(ROOT_INODE),
            tar,
            last_parent: None,
            inodes: 1,
            totals: Totals::default(),
        };
        let root = implicit();
        writer
            .write_root(&root)
            .map_err(|source| TarError::Write { source })?;
        Ok(writer)
    }

    /// Reads the archive to its end. `archive_bytes` of the result is the caller's to fill in.
    ///
    /// # Errors
    /// A damaged or hostile archive, a full disk; the message names the entry.
    pub fn run<R: BufRead>(
        mut self,
        reader: &mut Reader<R>,
    ) -> Result<(Totals, Unsealed), TarError> {
        self.totals.entries = entries::each(&mut self, reader)?;
        let written = |source| TarError::Write { source };
        directories::write(&mut self.names, &mut self.output).map_err(written)?;
        let (file, blocks) = self.output.finish().map_err(written)?;
        let unsealed = Unsealed {
            file,
            // Every entry checks the bound; directories add less than they did.
            blocks: u32::try_from(blocks)
                .map_err(|_| written(io::ErrorKind::FileTooLarge.into()))?,
            inodes: self.inodes,
        };
        Ok((self.totals, unsealed))
    }

    /// Adds an inode with `tail` behind it; returns its number. An inline tail has to be in one block with the inode's
    /// end, which is for the caller to see to.
    fn inode(&mut self, inode: &Inode, tail: &[u8]) -> io::Result<u32> {
        self.output.align(SLOT_BYTES)?;
        if self.output.at() > MAX_IMAGE_BYTES {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let slot = (self.output.at() / SLOT_BYTES) as u32;
        self.output.append(&inode.encode(slot))?;
        self.output.append(tail)?;
        self.inodes += 1;
        Ok(slot)
    }

    fn write_root(&mut self, inode: &Inode) -> io::Result<()> {
        self.output.change(ROOT_OFFSET, &inode.encode(ROOT_INODE))
    }

    /// Reads a directory's inode again.
    fn directory_inode(&mut self, id: Id) -> io::Result<Inode> {
        let offset = u64::from(self.names.inode(id)) * SLOT_BYTES;
        let mut bytes = [0; INODE_BYTES as usize];
        self.output.read(offset, &mut bytes)?;
        let (mut inode, xattr_bytes) = Inode::decode_directory(&bytes);
        inode.xattrs = vec![0; xattr_bytes];
        self.output.read(offset + INODE_BYTES, &mut inode.xattrs)?;
        Ok(inode)
    }

    /// Gives a directory another inode: attributes have changed, and may need more room.
    fn replace_directory(&mut self, id: Id, inode: &Inode) -> io::Result<()> {
        if id == ROOT {
            return self.write_root(inode);
        }
        let slot = self.inode(inode, &[])?;
        self.inodes -= 1;
        self.names.set_inode(id, slot);
        Ok(())
    }

    fn set_opaque(&mut self, entry: &Entry, id: Id) -> Result<(), TarError> {
        let mut inode = self
            .directory_inode(id)
            .map_err(|error| io_failed(entry, &error))?;
        let mut attributes = Attributes::decode(&inode.xattrs);
        attributes.set_opaque();
        inode.xattrs = attributes
            .encode()
            .map_err(|problem| wrong(entry, problem))?;
        self.replace_directory(id, &inode)
            .map_err(|error| io_failed(entry, &error))
    }

    fn put(
        &mut self,
        entry: &Entry,
        directory: Id,
        name: &[u8],
        what: What,
        inode: u32,
    ) -> Result<Id, TarError> {
        self.names
            .put(directory, name, what, inode)
            .map_err(|Full| {
                wrong(
                    entry,
                    Problem::Many {
                        what: "names before it",
                        limit: Full::LIMIT,
                    },
                )
            })
    }

    fn walk(&mut self, path: &[u8]) -> io::Result<Result<Id, Lost>> {
        let Self { names, output, .. } = self;
        names.walk(path, |inode| read_link(output, inode))
    }

    /// The directory of an entry; made (root's, 0755) if no entry made it.
    fn parent(&mut self, entry: &Entry, directory: &[u8]) -> Result<Id, TarError> {
        if let Some((path, parent)) = &self.last_parent
            && path == directory
        {
            return Ok(*parent);
        }
        let found = self
            .walk(directory)
            .map_err(|error| io_failed(entry, &error))?;
        let parent = match found {
            Ok(id) => id,
            Err(Lost::Missing | Lost::NotDirectory) => self.make_parents(entry, directory)?,
            Err(lost) => return Err(refused(entry, "openat2", lost.errno())),
        };
        self.last_parent = Some((directory.to_vec(), parent));
        Ok(parent)
    }

    /// Makes what is missing of a directory's path, one name at a time, each in the directory before it.
    fn make_parents(&mut self, entry: &Entry, directory: &[u8]) -> Result<Id, TarError> {
        let mut current = ROOT;
        let mut start = 0;
        let ends: Vec<usize> = (0..directory.len())
            .filter(|at| directory[*at] == b'/')
            .collect();
        for end in ends.into_iter().chain([directory.len()]) {
            let name = &directory[start..end];
            start = end + 1;
            let found = self
                .walk(&directory[..end])
                .map_err(|error| io_failed(entry, &error))?;
            let there = self.names.find(current, name);
            current = match (found, there) {
                (Ok(id), _) => id,
                (Err(Lost::Missing), None) => {
                    self.add_directory(entry, current, name, &implicit())?
                }
                // A link to nothing.
                (Err(Lost::Missing), Some(_)) => {
                    return Err(refused(entry, "mkdirat", Errno::EXIST));
                }
                // A whiteout of an earlier entry: the directory is new, and hides what is below.
                (Err(Lost::NotDirectory), Some(id)) if self.names.what(id) == What::Whiteout => {
                    let id = self.add_directory(entry, current, name, &implicit())?;
                    self.set_opaque(entry, id)?;
                    id
                }
                (Err(lost), _) => return Err(refused(entry, "openat2", lost.errno())),
            };
        }
        Ok(current)
    }

    fn add_directory(
        &mut self,
        entry: &Entry,
        parent: Id,
        name: &[u8],
        inode: &Inode,
    ) -> Result<Id, TarError> {
        let slot = self
            .inode(inode, &[])
            .map_err(|error| io_failed(entry, &error))?;
        self.put(entry, parent, name, What::Directory, slot)
    }

    /// What an entry says of its inode, and the attributes that come to it.
    fn described(
        &mut self,
        entry: &Entry,
        type_bits: u16,
    ) -> Result<(Inode, Attributes), TarError> {
        let taken = Taken::of(entry).map_err(|problem| wrong(entry, problem))?;
        self.totals.lost_xattrs += taken.lost;
        let Time {
            seconds,
            nanoseconds,
        } = entry.mtime;
        let inode = Inode {
            mode: type_bits | (taken.mode & 0o7777) as u16,
            uid: entry.uid,
            gid: entry.gid,
            seconds,
            nanoseconds,
            size: 0,
            links: 1,
            layout: Layout::Plain(0),
            xattrs: taken
                .attributes
                .encode()
                .map_err(|problem| wrong(entry, problem))?,
        };
        Ok((inode, taken.attributes))
    }

    /// A directory that is there gets the entry's attributes beside those it has; its content stays.
    fn directory(&mut self, entry: &Entry, parent: Id, name: &[u8]) -> Result<(), TarError> {
        let (mut inode, attributes) = self.described(entry, DIRECTORY_BITS)?;
        match self.names.find(parent, name) {
            Some(id) if self.names.what(id) == What::Directory => {
                self.redeclare(entry, id, inode, attributes)
            }
            other => {
                if other.is_some_and(|id| self.names.what(id) == What::Whiteout) {
                    let mut opaque = attributes;
                    opaque.set_opaque();
                    inode.xattrs = opaque.encode().map_err(|problem| wrong(entry, problem))?;
                }
                self.add_directory(entry, parent, name, &inode).map(drop)
            }
        }
    }

    fn redeclare(
        &mut self,
        entry: &Entry,
        id: Id,
        mut inode: Inode,
        newer: Attributes,
    ) -> Result<(), TarError> {
        let old = self
            .directory_inode(id)
            .map_err(|error| io_failed(entry, &error))?;
        let mut attributes = Attributes::decode(&old.xattrs);
        attributes.merge(newer);
        inode.xattrs = attributes
            .encode()
            .map_err(|problem| wrong(entry, problem))?;
        self.replace_directory(id, &inode)
            .map_err(|error| io_failed(entry, &error))
    }

    fn file<R: BufRead>(
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

    fn symlink(&mut self, entry: &Entry, parent: Id, name: &[u8]) -> Result<(), TarError> {
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

    fn special(&mut self, entry: &Entry, parent: Id, name: &[u8]) -> Result<(), TarError> {
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

    fn hard_link(
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
        self.names.set_linked(found);
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

impl Maker for Writer {
    fn root(&mut self, entry: &Entry) -> Result<(), TarError> {
        let (inode, attributes) = self.described(entry, DIRECTORY_BITS)?;
        self.redeclare(entry, ROOT, inode, attributes)
    }

    fn opaque(&mut self, entry: &Entry, directory: &[u8]) -> Result<(), TarError> {
        let id = self.parent(entry, directory)?;
        self.set_opaque(entry, id)
    }

    fn whiteout(&mut self, entry: &Entry, directory: &[u8], hidden: &[u8]) -> Result<(), TarError> {
        let parent = self.parent(entry, directory)?;
        match self.names.find(parent, hidden) {
            // This layer has something new under the name: whiteouts are about the layers below (image specification,
            // "Whiteouts"), of which a directory would otherwise show through.
            Some(id) if self.names.what(id) == What::Directory => self.set_opaque(entry, id),
            Some(_) => Ok(()),
            None => {
                let inode = Inode {
                    mode: 0o020_000,
                    ..implicit()
                };
                let slot = self
                    .inode(&inode, &[])
                    .map_err(|error| io_failed(entry, &error))?;
                self.put(entry, parent, hidden, What::Whiteout, slot)
                    .map(drop)
            }
        }
    }

    fn make<R: BufRead>(
        &mut self,
        entry: &Entry,
        path: &Clean,
        reader: &mut Reader<R>,
    ) -> Result<(), TarError> {
        let (directory, name) = path.split();
        let parent = self.parent(entry, directory)?;
        match entry.kind {
            Kind::Directory => self.directory(entry, parent, name),
            Kind::File => self.file(entry, parent, name, reader),
            Kind::Symlink => self.symlink(entry, parent, name),
            Kind::HardLink => self.hard_link(entry, path, parent, name),
            Kind::Fifo | Kind::CharacterDevice | Kind::BlockDevice => {
                self.special(entry, parent, name)
            }
        }
    }
}

/// Mode, owner and group of an image's root directory.
///
/// # Errors
/// The image cannot be read.
pub fn root_attributes(image: &File) -> io::Result<(u32, u32, u32)> {
    let mut bytes = [0; INODE_BYTES as usize];
    image.read_exact_at(&mut bytes, ROOT_OFFSET)?;
    let (root, _) = Inode::decode_directory(&bytes);
    Ok((root.mode.into(), root.uid, root.gid))
}

/// A directory that no entry describes: root's, 0755, from the beginning of time, so that the same archive gives the
/// same image.
fn implicit() -> Inode {
    Inode {
        mode: DIRECTORY_BITS | 0o755,
        uid: 0,
        gid: 0,
        seconds: 0,
        nanoseconds: 0,
        size: 0,
        links: 1,
        layout: Layout::Plain(0),
        xattrs: Vec::new(),
    }
}

/// Where a link leads that the writer has written.
fn read_link(output: &mut Output, inode: u32) -> io::Result<Vec<u8>> {
    let offset = u64::from(inode) * SLOT_BYTES;
    let mut bytes = [0; INODE_BYTES as usize];
    output.read(offset, &mut bytes)?;
    let (_, xattr_bytes) = Inode::decode_directory(&bytes);
    let (layout, size, block) = Inode::decode_place(&bytes);
    // Archives' links have at most 4 KiB.
    let mut target = vec![0; size as usize];
    let start = match layout {
        2 => offset + INODE_BYTES + xattr_bytes as u64,
        _ => u64::from(block) * BLOCK_BYTES,
    };
    output.read(start, &mut target)?;
    Ok(target)
}

fn wrong(entry: &Entry, problem: Problem) -> TarError {
    TarError::Entry {
        entry: entry.shown(),
        problem,
    }
}

/// As the Directory form fails, where the kernel says the same.
fn refused(entry: &Entry, call: &'static str, errno: Errno) -> TarError {
    TarError::Extract {
        entry: entry.shown(),
        source: sys::Error::new(call, errno),
    }
}

fn io_failed(entry: &Entry, error: &io::Error) -> TarError {
    TarError::Extract {
        entry: entry.shown(),
        source: sys::Error::from_io("write", "layer.erofs", error),
    }
}

/// What the beginning of an image holds besides superblock and root has to be skipped by the output.
const _: () = assert!(FIRST_OFFSET.is_multiple_of(BLOCK_BYTES) && FIRST_OFFSET > ROOT_OFFSET);
