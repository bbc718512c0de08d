//! Archive to image.

use std::fs::File;
use std::io::{self, BufRead};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use ketch_sys as sys;
use rustix::io::Errno;

use super::attributes::{Attributes, Taken};
use super::directories;
use super::format::{
    BLOCK_BYTES, FIRST_OFFSET, INODE_BYTES, Inode, Layout, ROOT_OFFSET, SLOT_BYTES, Superblock,
};
use super::names::{Full, Id, Lost, MAX_DEPTH, Names, ROOT, What};
use super::output::Output;
use crate::spill::Backing;
use crate::tar::{Entry, Kind, Problem, Reader, TarError, Time};
use crate::tree::Totals;
use crate::tree::entries::{self, Maker};
use crate::tree::path::Clean;

/// The largest image: its inodes' numbers have 32 bits, their blocks' too. Far more than any archive needs.
pub(super) const MAX_IMAGE_BYTES: u64 = 64 << 30;
/// Where in the image's file tables are kept while it is written.
const BACKING_OFFSET: u64 = MAX_IMAGE_BYTES + (1 << 30);
/// The root's inode as a number.
const ROOT_INODE: u32 = (ROOT_OFFSET / SLOT_BYTES) as u32;

const DIRECTORY_BITS: u16 = 0o040_000;

/// Writes the image of one archive, metadata only, while the archive passes.
///
/// What is known of a file when its entry comes is written at once; kept are only the names. Directories come last.
#[derive(Debug)]
pub struct Writer {
    pub(super) output: Output,
    pub(super) names: Names,
    /// The archive, of which everything that has passed is in this file.
    pub(super) tar: File,
    /// The directory that the last entry was in: the next one usually is too.
    pub(super) last_parent: Option<(Vec<u8>, Id)>,
    inodes: u64,
    pub(super) totals: Totals,
}

/// An image that lacks its superblock.
#[derive(Debug)]
pub struct Unsealed {
    file: File,
    tar: File,
    blocks: u32,
    inodes: u64,
}

impl Unsealed {
    /// Writes the superblock, and waits until image and archive are on their way to be durable. `digest` is that of the
    /// archive, of `archive_bytes`.
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
        sys::fs::begin_writing(self.file.as_fd(), 0, 0);
        for file in [&self.tar, &self.file] {
            sys::fs::finish_writing(file.as_fd()).map_err(|error| io::Error::from(error.errno))?;
        }
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
        // What the names need on disk is behind the longest image, and cut off at the end.
        let behind = image
            .try_clone()
            .map_err(|source| TarError::Write { source })?;
        let backing = Arc::new(Backing::behind(behind, BACKING_OFFSET));
        let mut writer = Self {
            output: Output::new(image),
            names: Names::new(ROOT_INODE, backing),
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
            tar: self.tar,
            // Every entry checks the bound; directories add less than they did.
            blocks: u32::try_from(blocks)
                .map_err(|_| written(io::ErrorKind::FileTooLarge.into()))?,
            inodes: self.inodes,
        };
        Ok((self.totals, unsealed))
    }

    /// Adds an inode with `tail` behind it; returns its number. An inline tail has to be in one block with the inode's
    /// end, which is for the caller to see to.
    pub(super) fn inode(&mut self, inode: &Inode, tail: &[u8]) -> io::Result<u32> {
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

    pub(super) fn put(
        &mut self,
        entry: &Entry,
        directory: Id,
        name: &[u8],
        what: What,
        inode: u32,
    ) -> Result<Id, TarError> {
        self.names
            .failure()
            .map_err(|error| io_failed(entry, &error))?;
        if what == What::Directory && self.names.depth(directory) >= MAX_DEPTH {
            return Err(refused(entry, "mkdirat", Errno::NAMETOOLONG));
        }
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

    pub(super) fn walk(&mut self, path: &[u8]) -> io::Result<Result<Id, Lost>> {
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
    pub(super) fn described(
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
        attributes.chmod(inode.mode.into());
        attributes.merge(newer);
        inode.xattrs = attributes
            .encode()
            .map_err(|problem| wrong(entry, problem))?;
        self.replace_directory(id, &inode)
            .map_err(|error| io_failed(entry, &error))
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

pub(super) fn wrong(entry: &Entry, problem: Problem) -> TarError {
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

pub(super) fn io_failed(entry: &Entry, error: &io::Error) -> TarError {
    TarError::Extract {
        entry: entry.shown(),
        source: sys::Error::from_io("write", "layer.erofs", error),
    }
}

/// Between the root's inode and everything else there is room, in whole blocks.
const _: () = assert!(FIRST_OFFSET.is_multiple_of(BLOCK_BYTES) && FIRST_OFFSET > ROOT_OFFSET);
