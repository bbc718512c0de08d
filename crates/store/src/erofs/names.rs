//! The names of a layer while its archive is read: 16 bytes each, the text, and a hash table of four bytes a slot. What
//! they name is in the image already; only its number is kept here. Memory is bounded: see [`crate::spill`].

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::io;
use std::sync::Arc;

use ketch_sys::fs::NAME_MAX_BYTES;
use rustix::io::Errno;

use crate::spill::{Backing, Merge, Sorter, Space};

/// How many names one archive can make.
const MAX_NAMES: usize = 4 << 20;
/// How many directories can be in each other. A path that Linux takes has half as many at most; links make more possible.
pub const MAX_DEPTH: usize = 4096;
/// Bytes of all names together.
const MAX_TEXT_BYTES: usize = 256 << 20;
/// How many links in a row are followed: as many as Linux follows.
const MAX_LINKS: usize = 40;

/// The root directory.
pub const ROOT: Id = Id(0);

/// A name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Id(u32);

impl Id {
    fn at(self) -> usize {
        self.0 as usize
    }
}

/// What a name names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum What {
    File,
    Directory,
    Symlink,
    Fifo,
    CharacterDevice,
    BlockDevice,
    /// The device that says that something below is gone.
    Whiteout,
}

impl What {
    /// By number.
    const ALL: [Self; 7] = [
        Self::File,
        Self::Directory,
        Self::Symlink,
        Self::Fifo,
        Self::CharacterDevice,
        Self::BlockDevice,
        Self::Whiteout,
    ];

    /// The file type in a directory entry.
    pub fn dirent(self) -> u8 {
        match self {
            Self::File => 1,
            Self::Directory => 2,
            Self::CharacterDevice | Self::Whiteout => 3,
            Self::BlockDevice => 4,
            Self::Fifo => 5,
            Self::Symlink => 7,
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Name {
    parent: Id,
    /// The number of the inode.
    inode: u32,
    text: u32,
    length: u8,
    what: What,
    /// The inode has, or had, other names.
    linked: bool,
    /// Another name took its place; what was below it is gone too.
    gone: bool,
}

/// Bytes of a [`Name`] in its table.
const NAME_BYTES: usize = 16;

impl Name {
    fn to_bytes(self) -> [u8; NAME_BYTES] {
        let mut bytes = [0; NAME_BYTES];
        bytes[..4].copy_from_slice(&self.parent.0.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.inode.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.text.to_le_bytes());
        bytes[12] = self.length;
        bytes[13] = self.what as u8;
        bytes[14] = u8::from(self.linked) | u8::from(self.gone) << 1;
        bytes
    }

    fn from_bytes(bytes: [u8; NAME_BYTES]) -> Self {
        let four = |at: usize| {
            u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        Self {
            parent: Id(four(0)),
            inode: four(4),
            text: four(8),
            length: bytes[12],
            what: What::ALL[usize::from(bytes[13]) % What::ALL.len()],
            linked: bytes[14] & 1 != 0,
            gone: bytes[14] & 2 != 0,
        }
    }
}

/// Why a path leads nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lost {
    /// Nothing has this name.
    Missing,
    /// Something that is no directory has it.
    NotDirectory,
    /// As the kernel says it.
    Other(Errno),
}

impl Lost {
    /// As the kernel would say it.
    pub fn errno(self) -> Errno {
        match self {
            Self::Missing => Errno::NOENT,
            Self::NotDirectory => Errno::NOTDIR,
            Self::Other(errno) => errno,
        }
    }
}

/// More names than there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

impl Full {
    /// The bound.
    pub const LIMIT: u64 = MAX_NAMES as u64;
}

/// All names. What does not fit into memory is on disk; a failure of the disk is told by [`Names::failure`].
#[derive(Debug)]
pub struct Names {
    backing: Arc<Backing>,
    count: usize,
    all: Space,
    text_bytes: usize,
    text: Space,
    /// Numbers of names and one, by hash; 0 is free. A power of two, at most three quarters full.
    slots: Space,
    slot_count: usize,
    hash: RandomState,
}

/// Slots of the first table.
const SLOTS: usize = 1024;
/// Bytes of a slot.
const SLOT_BYTES: usize = 4;

impl Names {
    /// Only the root, whose inode has this number.
    pub fn new(root_inode: u32, backing: Arc<Backing>) -> Self {
        let mut names = Self {
            count: 0,
            all: Space::new(&backing),
            text_bytes: 0,
            text: Space::new(&backing),
            slots: Space::new(&backing),
            slot_count: SLOTS,
            hash: RandomState::new(),
            backing,
        };
        names.slots.grow(SLOTS * SLOT_BYTES);
        names.push(Name {
            parent: ROOT,
            inode: root_inode,
            text: 0,
            length: 0,
            what: What::Directory,
            linked: false,
            gone: false,
        });
        names
    }

    fn push(&mut self, name: Name) {
        self.count += 1;
        self.all.grow(self.count * NAME_BYTES);
        self.all
            .put((self.count - 1) * NAME_BYTES, &name.to_bytes());
    }

    fn get(&self, id: Id) -> Name {
        Name::from_bytes(self.all.record(id.at() * NAME_BYTES))
    }

    fn change(&mut self, id: Id, change: impl FnOnce(&mut Name)) {
        let mut name = self.get(id);
        change(&mut name);
        self.all.put(id.at() * NAME_BYTES, &name.to_bytes());
    }

    /// What went wrong on disk so far; what was found since then means nothing.
    ///
    /// # Errors
    /// The first failure.
    pub fn failure(&self) -> io::Result<()> {
        self.all.failure()?;
        self.text.failure()?;
        self.slots.failure()
    }

    pub fn what(&self, id: Id) -> What {
        self.get(id).what
    }

    pub fn inode(&self, id: Id) -> u32 {
        self.get(id).inode
    }

    pub fn set_inode(&mut self, id: Id, inode: u32) {
        self.change(id, |name| name.inode = inode);
    }

    /// Says that the inode of `id` has another name; returns whether that is news.
    pub fn set_linked(&mut self, id: Id) -> bool {
        let news = !self.get(id).linked;
        self.change(id, |name| name.linked = true);
        news
    }

    pub fn is_linked(&self, id: Id) -> bool {
        self.get(id).linked
    }

    pub fn parent(&self, id: Id) -> Id {
        self.get(id).parent
    }

    /// How many directories are above it.
    pub fn depth(&self, mut id: Id) -> usize {
        let mut depth = 0;
        while id != ROOT && depth < MAX_DEPTH {
            id = self.parent(id);
            depth += 1;
        }
        depth
    }

    fn text_of<'a>(&'a self, name: Name, buffer: &'a mut [u8; 256]) -> &'a [u8] {
        match name.length {
            0 => &[],
            length => self
                .text
                .get(name.text as usize, usize::from(length), buffer),
        }
    }

    /// What has this name in a directory.
    pub fn find(&self, directory: Id, name: &[u8]) -> Option<Id> {
        match self.number_in(self.slot(directory, name)) {
            0 => None,
            number => Some(Id(number - 1)),
        }
    }

    fn number_in(&self, slot: usize) -> u32 {
        u32::from_le_bytes(self.slots.record(slot * SLOT_BYTES))
    }

    /// The slot of a name: its own, or the free one where it goes.
    fn slot(&self, directory: Id, name: &[u8]) -> usize {
        let mask = self.slot_count - 1;
        let mut slot = self.hash.hash_one((directory.0, name)) as usize & mask;
        let mut buffer = [0; 256];
        loop {
            let number = self.number_in(slot);
            if number == 0 {
                return slot;
            }
            let found = self.get(Id(number - 1));
            if found.parent == directory
                && usize::from(found.length) == name.len()
                && self.text_of(found, &mut buffer) == name
            {
                return slot;
            }
            slot = (slot + 1) & mask;
        }
    }

    /// Gives something a name in a directory. What had it before is gone, with everything below it. `name` has 1 to 255
    /// bytes.
    ///
    /// # Errors
    /// There are too many.
    pub fn put(&mut self, directory: Id, name: &[u8], what: What, inode: u32) -> Result<Id, Full> {
        if self.count >= MAX_NAMES || self.text_bytes + name.len() > MAX_TEXT_BYTES {
            return Err(Full);
        }
        if self.count * 4 >= self.slot_count * 3 {
            self.grow();
        }
        let slot = self.slot(directory, name);
        // Both bounds are far below 32 bits.
        let id = Id(self.count as u32);
        let text = match self.number_in(slot) {
            0 => {
                let text = Space::fit(self.text_bytes, name.len());
                self.text_bytes = text + name.len();
                self.text.grow(self.text_bytes);
                self.text.put(text, name);
                text as u32
            }
            number => {
                let old = Id(number - 1);
                self.change(old, |old| old.gone = true);
                self.get(old).text
            }
        };
        self.slots.put(slot * SLOT_BYTES, &(id.0 + 1).to_le_bytes());
        self.push(Name {
            parent: directory,
            inode,
            text,
            length: name.len().min(NAME_MAX_BYTES) as u8,
            what,
            linked: false,
            gone: false,
        });
        Ok(id)
    }

    fn grow(&mut self) {
        self.slot_count *= 2;
        // The old one first: its memory is the new one's.
        self.slots.clear();
        self.slots.grow(self.slot_count * SLOT_BYTES);
        let mut buffer = [0; 256];
        for at in 1..self.count {
            let name = self.get(Id(at as u32));
            if !name.gone {
                let slot = self.slot(name.parent, self.text_of(name, &mut buffer));
                self.slots
                    .put(slot * SLOT_BYTES, &(at as u32 + 1).to_le_bytes());
            }
        }
    }

    /// The directory a path leads to as the kernel would walk it, links followed and the root the top of everything.
    /// `target` tells where a link leads, by the number of its inode.
    ///
    /// # Errors
    /// It leads nowhere (`Ok(Err(_))`), or `target` failed.
    pub fn walk<E>(
        &self,
        path: &[u8],
        mut target: impl FnMut(u32) -> Result<Vec<u8>, E>,
    ) -> Result<Result<Id, Lost>, E> {
        let mut current = ROOT;
        let mut links = 0;
        // What is still to be walked, last first.
        let mut ahead = vec![(path.to_vec(), 0usize)];
        while let Some((text, start)) = ahead.pop() {
            let Some(rest) = text.get(start..) else {
                continue;
            };
            let length = rest
                .iter()
                .position(|byte| *byte == b'/')
                .unwrap_or(rest.len());
            let part = rest[..length].to_vec();
            if start + length < text.len() {
                ahead.push((text, start + length + 1));
            }
            match &part[..] {
                b"" | b"." => continue,
                b".." => {
                    current = self.parent(current);
                    continue;
                }
                part if part.len() > NAME_MAX_BYTES => {
                    return Ok(Err(Lost::Other(Errno::NAMETOOLONG)));
                }
                _ => {}
            }
            let Some(found) = self.find(current, &part) else {
                return Ok(Err(Lost::Missing));
            };
            match self.what(found) {
                What::Directory => current = found,
                What::Symlink => {
                    links += 1;
                    if links > MAX_LINKS {
                        return Ok(Err(Lost::Other(Errno::LOOP)));
                    }
                    let link = target(self.inode(found))?;
                    if link.first() == Some(&b'/') {
                        current = ROOT;
                    }
                    ahead.push((link, 0));
                }
                _ => return Ok(Err(Lost::NotDirectory)),
            }
        }
        Ok(Ok(current))
    }

    /// What is there in the end, by directory and, in it, by name; the root is not among them. Marks what is gone.
    ///
    /// # Errors
    /// The disk's.
    pub fn sorted(&mut self) -> io::Result<Sorted> {
        let mut sorter = Sorter::new(&self.backing);
        let mut buffer = [0; 256];
        for at in 1..self.count as u32 {
            let mut name = self.get(Id(at));
            // A directory has its name before what is in it.
            if !name.gone && self.get(name.parent).gone {
                self.change(Id(at), |name| name.gone = true);
                name.gone = true;
            }
            if !name.gone {
                let text = self.text_of(name, &mut buffer);
                let mut key = [0; 4 + NAME_MAX_BYTES];
                key[..4].copy_from_slice(&name.parent.0.to_be_bytes());
                key[4..4 + text.len()].copy_from_slice(text);
                sorter.push(&key[..4 + text.len()], &at.to_le_bytes())?;
            }
        }
        self.failure()?;
        Ok(Sorted {
            merge: sorter.finish()?,
        })
    }

    /// Every directory that is there in the end, after [`Names::sorted`], the root first.
    pub fn directories(&self) -> impl Iterator<Item = Id> + '_ {
        (0..self.count as u32).map(Id).filter(|id| {
            let name = self.get(*id);
            !name.gone && name.what == What::Directory
        })
    }
}

/// Names by directory and text.
#[derive(Debug)]
pub struct Sorted {
    merge: Merge,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    pub directory: Id,
    pub name: Vec<u8>,
    pub id: Id,
}

impl Sorted {
    /// The next name.
    ///
    /// # Errors
    /// The disk's.
    pub fn next(&mut self) -> io::Result<Option<Placed>> {
        let Some((key, value)) = self.merge.next()? else {
            return Ok(None);
        };
        let (Some((directory, name)), Some(id)) =
            (key.split_first_chunk::<4>(), value.first_chunk::<4>())
        else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        Ok(Some(Placed {
            directory: Id(u32::from_be_bytes(*directory)),
            name: name.to_vec(),
            id: Id(u32::from_le_bytes(*id)),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walk(names: &Names, path: &str, links: &[(u32, &str)]) -> Result<Id, Lost> {
        let target = |inode| {
            let found = links.iter().find(|(number, _)| *number == inode);
            Ok::<_, ()>(found.unwrap().1.as_bytes().to_vec())
        };
        names.walk(path.as_bytes(), target).unwrap()
    }

    fn names() -> Names {
        let backing = Backing::behind(tempfile::tempfile().unwrap(), 0);
        Names::new(40, Arc::new(backing))
    }

    #[test]
    fn a_name_comes_back_from_its_bytes() {
        for what in What::ALL {
            let name = Name {
                parent: Id(70_000),
                inode: 1 << 31,
                text: 12_345_678,
                length: 255,
                what,
                linked: what == What::File,
                gone: what == What::Fifo,
            };
            let again = Name::from_bytes(name.to_bytes());
            assert_eq!(format!("{again:?}"), format!("{name:?}"));
        }
    }

    #[test]
    fn paths_are_walked_as_the_kernel_does() {
        let mut names = names();
        let usr = names.put(ROOT, b"usr", What::Directory, 1).unwrap();
        let lib = names.put(usr, b"lib", What::Directory, 2).unwrap();
        names.put(ROOT, b"lib", What::Symlink, 3).unwrap();
        names.put(lib, b"up", What::Symlink, 4).unwrap();
        names.put(lib, b"loop", What::Symlink, 5).unwrap();
        names.put(lib, b"file", What::File, 6).unwrap();
        let links = [(3, "usr//lib/"), (4, "../../../usr"), (5, "loop")];
        for (path, found) in [
            ("", Ok(ROOT)),
            ("usr/lib", Ok(lib)),
            ("lib", Ok(lib)),
            ("lib/../../..", Ok(ROOT)),
            ("lib/up/lib", Ok(lib)),
            ("lib/loop", Err(Lost::Other(Errno::LOOP))),
            ("lib/file", Err(Lost::NotDirectory)),
            ("lib/none/x", Err(Lost::Missing)),
        ] {
            assert_eq!(walk(&names, path, &links), found, "{path}");
        }
    }

    #[test]
    fn what_is_replaced_is_gone_with_what_is_below() {
        let mut names = names();
        let old = names.put(ROOT, b"a", What::Directory, 1).unwrap();
        names.put(old, b"x", What::File, 2).unwrap();
        let new = names.put(ROOT, b"a", What::Directory, 3).unwrap();
        for number in 0..5000u32 {
            names
                .put(new, format!("n{number}").as_bytes(), What::File, number)
                .unwrap();
        }
        assert_eq!(names.find(ROOT, b"a"), Some(new));
        assert_eq!(names.find(new, b"x"), None);
        let mut sorted = names.sorted().unwrap();
        let first = sorted.next().unwrap().unwrap();
        assert_eq!((first.directory, first.id), (ROOT, new));
        let mut last = Vec::new();
        let mut count = 0;
        while let Some(placed) = sorted.next().unwrap() {
            assert!(placed.directory == new && placed.name > last);
            let mut buffer = [0; 256];
            assert_eq!(
                names.text_of(names.get(placed.id), &mut buffer),
                placed.name
            );
            last = placed.name;
            count += 1;
        }
        assert_eq!(count, 5000);
        assert_eq!(names.directories().collect::<Vec<_>>(), [ROOT, new]);
    }
}
