//! The last step: the directories' content, and what in inodes depends on all names.

use std::io;

use super::format::{BLOCK_BYTES, DIRENT_BYTES, LINKS_OFFSET, SIZE_OFFSET, SLOT_BYTES};
use super::names::{Id, Names, ROOT, What};
use super::output::Output;

/// Writes every directory and sets its inode's size, place and links; then the links of files.
pub fn write(names: &mut Names, output: &mut Output) -> io::Result<()> {
    let order = names.sorted();
    let mut left = &order[..];
    let directories: Vec<Id> = names.directories().collect();
    for directory in directories {
        let count = left
            .iter()
            .take_while(|id| names.parent(**id) == directory)
            .count();
        let (children, rest) = left.split_at(count);
        left = rest;
        one(names, directory, children, output)?;
    }
    for (inode, links) in names.links(&order) {
        let offset = u64::from(inode) * SLOT_BYTES + LINKS_OFFSET;
        output.change(offset, &links.to_le_bytes())?;
    }
    Ok(())
}

fn one(names: &Names, directory: Id, children: &[Id], output: &mut Output) -> io::Result<()> {
    output.align(BLOCK_BYTES)?;
    let start = output.at();
    let mut block = Block::default();
    let mut below = 0u32;
    // The two every directory has are sorted in among the others.
    let itself = (&b"."[..], names.inode(directory), What::Directory);
    let above = (
        &b".."[..],
        names.inode(names.parent(directory)),
        What::Directory,
    );
    let dots = [itself, above];
    let split = children.partition_point(|id| names.name(*id) < &b"."[..]);
    // Between the two there can be names too: none is between "." and ".." but those that begin with "." and a byte below ".".
    let second = children.partition_point(|id| names.name(*id) < &b".."[..]);
    let all = children[..split]
        .iter()
        .map(|id| entry(names, *id))
        .chain([dots[0]])
        .chain(children[split..second].iter().map(|id| entry(names, *id)))
        .chain([dots[1]])
        .chain(children[second..].iter().map(|id| entry(names, *id)));
    for (name, inode, what) in all {
        if !block.has_room(name) {
            block.write(output)?;
            output.align(BLOCK_BYTES)?;
        }
        block.add(name, inode, what);
    }
    for id in children {
        below += u32::from(names.what(*id) == What::Directory);
    }
    block.write(output)?;
    let size = output.at() - start;
    let inode = u64::from(names.inode(directory)) * SLOT_BYTES;
    let mut place = [0u8; 12];
    place[..8].copy_from_slice(&size.to_le_bytes());
    // The writer keeps images far below what 32 bits of blocks are.
    place[8..].copy_from_slice(&((start / BLOCK_BYTES) as u32).to_le_bytes());
    output.change(inode + SIZE_OFFSET, &place)?;
    debug_assert!(directory != ROOT || names.parent(directory) == ROOT);
    output.change(inode + LINKS_OFFSET, &(2 + below).to_le_bytes())
}

fn entry(names: &Names, id: Id) -> (&[u8], u32, What) {
    (names.name(id), names.inode(id), names.what(id))
}

/// Entries of one block: first all their fixed parts, then all names.
#[derive(Default)]
struct Block<'a> {
    entries: Vec<(&'a [u8], u32, What)>,
    bytes: usize,
}

impl<'a> Block<'a> {
    fn has_room(&self, name: &[u8]) -> bool {
        self.bytes + DIRENT_BYTES + name.len() <= BLOCK_BYTES as usize
    }

    fn add(&mut self, name: &'a [u8], inode: u32, what: What) {
        self.bytes += DIRENT_BYTES + name.len();
        self.entries.push((name, inode, what));
    }

    fn write(&mut self, output: &mut Output) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(self.bytes);
        let mut text = self.entries.len() * DIRENT_BYTES;
        for (name, inode, what) in &self.entries {
            bytes.extend_from_slice(&u64::from(*inode).to_le_bytes());
            // Within a block of 512 bytes.
            bytes.extend_from_slice(&(text as u16).to_le_bytes());
            bytes.extend_from_slice(&[what.dirent(), 0]);
            text += name.len();
        }
        for (name, ..) in &self.entries {
            bytes.extend_from_slice(name);
        }
        self.entries.clear();
        self.bytes = 0;
        output.append(&bytes)
    }
}
