//! The last step: the directories' content, and what in inodes depends on all names.

use std::io;

use super::format::{BLOCK_BYTES, DIRENT_BYTES, LINKS_OFFSET, SIZE_OFFSET, SLOT_BYTES};
use super::names::{Id, Names, Placed, Sorted, What};
use super::output::Output;

/// Writes every directory and sets its inode's size, place and links; and counts the links of files.
pub fn write(names: &mut Names, output: &mut Output) -> io::Result<()> {
    let mut left = Left {
        sorted: names.sorted()?,
        front: None,
    };
    left.front = left.sorted.next()?;
    for directory in names.directories() {
        one(names, directory, &mut left, output)?;
    }
    names.failure()
}

/// Names still to be written, in order.
struct Left {
    sorted: Sorted,
    front: Option<Placed>,
}

impl Left {
    /// The next one that is in `directory`.
    fn next_in(&mut self, directory: Id) -> io::Result<Option<Placed>> {
        if self
            .front
            .as_ref()
            .is_none_or(|front| front.directory != directory)
        {
            return Ok(None);
        }
        let next = self.sorted.next()?;
        Ok(std::mem::replace(&mut self.front, next))
    }
}

fn one(names: &Names, directory: Id, left: &mut Left, output: &mut Output) -> io::Result<()> {
    output.align(BLOCK_BYTES)?;
    let start = output.at();
    let mut block = Block::default();
    let mut below = 0u32;
    // The two every directory has are sorted in among the others, of which some begin with "." and a byte below ".".
    let mut dots = [
        (&b"."[..], names.inode(directory)),
        (&b".."[..], names.inode(names.parent(directory))),
    ]
    .into_iter()
    .peekable();
    while let Some(placed) = left.next_in(directory)? {
        while let Some((name, inode)) = dots.next_if(|(dot, _)| *dot < &placed.name[..]) {
            block.put(output, name, inode, What::Directory)?;
        }
        let (inode, what) = (names.inode(placed.id), names.what(placed.id));
        if names.is_linked(placed.id) {
            count_link(output, inode)?;
        }
        below += u32::from(what == What::Directory);
        block.put(output, &placed.name, inode, what)?;
    }
    for (name, inode) in dots {
        block.put(output, name, inode, What::Directory)?;
    }
    block.write(output)?;
    let size = output.at() - start;
    let inode = u64::from(names.inode(directory)) * SLOT_BYTES;
    let mut place = [0u8; 12];
    place[..8].copy_from_slice(&size.to_le_bytes());
    // The writer keeps images far below what 32 bits of blocks are.
    place[8..].copy_from_slice(&((start / BLOCK_BYTES) as u32).to_le_bytes());
    output.change(inode + SIZE_OFFSET, &place)?;
    output.change(inode + LINKS_OFFSET, &(2 + below).to_le_bytes())
}

/// Adds one to the links of an inode with several names, which begins with none ([`start_links`]).
fn count_link(output: &mut Output, inode: u32) -> io::Result<()> {
    let offset = u64::from(inode) * SLOT_BYTES + LINKS_OFFSET;
    let mut links = [0; 4];
    output.read(offset, &mut links)?;
    output.change(offset, &(u32::from_le_bytes(links) + 1).to_le_bytes())
}

/// Takes the one link that an inode was written with: it has several names, which are counted at the end.
pub fn start_links(output: &mut Output, inode: u32) -> io::Result<()> {
    output.change(u64::from(inode) * SLOT_BYTES + LINKS_OFFSET, &[0; 4])
}

/// Entries of one block: first all their fixed parts, then all names.
#[derive(Default)]
struct Block {
    /// Length of the name, inode, type.
    entries: Vec<(usize, u32, What)>,
    names: Vec<u8>,
}

impl Block {
    /// Adds an entry; begins another block if this one is full.
    fn put(&mut self, output: &mut Output, name: &[u8], inode: u32, what: What) -> io::Result<()> {
        let bytes = (self.entries.len() + 1) * DIRENT_BYTES + self.names.len() + name.len();
        if bytes > BLOCK_BYTES as usize {
            self.write(output)?;
            output.align(BLOCK_BYTES)?;
        }
        self.names.extend_from_slice(name);
        self.entries.push((name.len(), inode, what));
        Ok(())
    }

    fn write(&mut self, output: &mut Output) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(BLOCK_BYTES as usize);
        let mut text = self.entries.len() * DIRENT_BYTES;
        for (length, inode, what) in &self.entries {
            bytes.extend_from_slice(&u64::from(*inode).to_le_bytes());
            // Within a block of 512 bytes.
            bytes.extend_from_slice(&(text as u16).to_le_bytes());
            bytes.extend_from_slice(&[what.dirent(), 0]);
            text += length;
        }
        bytes.extend_from_slice(&self.names);
        self.entries.clear();
        self.names.clear();
        output.append(&bytes)
    }
}
