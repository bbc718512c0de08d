//! The names of a layer while its archive is read: 16 bytes each, the text, and a hash table of four bytes a slot. What
//! they name is in the image already; only its number is kept here.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

use ketch_sys::fs::NAME_MAX_BYTES;
use rustix::io::Errno;

/// How many names one archive can make: some hundred megabytes of memory at worst.
const MAX_NAMES: usize = 4 << 20;
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

#[derive(Debug)]
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

/// All names.
#[derive(Debug)]
pub struct Names {
    all: Vec<Name>,
    text: Vec<u8>,
    /// Numbers of names and one, by hash; 0 is free. A power of two, at most three quarters full.
    slots: Vec<u32>,
    hash: RandomState,
}

impl Names {
    /// Only the root, whose inode has this number.
    pub fn new(root_inode: u32) -> Self {
        Self {
            all: vec![Name {
                parent: ROOT,
                inode: root_inode,
                text: 0,
                length: 0,
                what: What::Directory,
                linked: false,
                gone: false,
            }],
            text: Vec::new(),
            slots: vec![0; 1024],
            hash: RandomState::new(),
        }
    }

    pub fn what(&self, id: Id) -> What {
        self.all[id.at()].what
    }

    pub fn inode(&self, id: Id) -> u32 {
        self.all[id.at()].inode
    }

    pub fn set_inode(&mut self, id: Id, inode: u32) {
        self.all[id.at()].inode = inode;
    }

    /// Says that the inode of `id` has another name.
    pub fn set_linked(&mut self, id: Id) {
        self.all[id.at()].linked = true;
    }

    pub fn parent(&self, id: Id) -> Id {
        self.all[id.at()].parent
    }

    pub fn name(&self, id: Id) -> &[u8] {
        let name = &self.all[id.at()];
        &self.text[name.text as usize..][..usize::from(name.length)]
    }

    /// What has this name in a directory.
    pub fn find(&self, directory: Id, name: &[u8]) -> Option<Id> {
        match self.slots[self.slot(directory, name)] {
            0 => None,
            number => Some(Id(number - 1)),
        }
    }

    /// The slot of a name: its own, or the free one where it goes.
    fn slot(&self, directory: Id, name: &[u8]) -> usize {
        let mask = self.slots.len() - 1;
        let mut slot = self.hash.hash_one((directory.0, name)) as usize & mask;
        loop {
            let number = self.slots[slot];
            if number == 0 {
                return slot;
            }
            let id = Id(number - 1);
            if self.parent(id) == directory && self.name(id) == name {
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
        if self.all.len() >= MAX_NAMES || self.text.len() + name.len() > MAX_TEXT_BYTES {
            return Err(Full);
        }
        if self.all.len() * 4 >= self.slots.len() * 3 {
            self.grow();
        }
        let slot = self.slot(directory, name);
        // Both bounds are far below 32 bits.
        let id = Id(self.all.len() as u32);
        let text = match self.slots[slot] {
            0 => {
                let text = self.text.len() as u32;
                self.text.extend_from_slice(name);
                text
            }
            number => {
                let old = &mut self.all[number as usize - 1];
                old.gone = true;
                old.text
            }
        };
        self.slots[slot] = id.0 + 1;
        self.all.push(Name {
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
        let doubled = self.slots.len() * 2;
        self.slots = Vec::new();
        self.slots = vec![0; doubled];
        for at in 1..self.all.len() {
            let id = Id(at as u32);
            if !self.all[at].gone {
                let slot = self.slot(self.parent(id), self.name(id));
                self.slots[slot] = id.0 + 1;
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
    pub fn sorted(&mut self) -> Vec<Id> {
        // A directory has its name before what is in it.
        for at in 1..self.all.len() {
            let above = self.all[at].parent;
            self.all[at].gone |= self.all[above.at()].gone;
        }
        let mut order: Vec<Id> = (1..self.all.len() as u32)
            .map(Id)
            .filter(|id| !self.all[id.at()].gone)
            .collect();
        order.sort_unstable_by(|a, b| {
            (self.parent(*a), self.name(*a)).cmp(&(self.parent(*b), self.name(*b)))
        });
        order
    }

    /// The numbers of inodes with several names, each with how many, of those in `order`.
    pub fn links(&self, order: &[Id]) -> Vec<(u32, u32)> {
        let mut linked: Vec<u32> = order
            .iter()
            .filter(|id| self.all[id.at()].linked)
            .map(|id| self.inode(*id))
            .collect();
        linked.sort_unstable();
        linked
            .chunk_by(|a, b| a == b)
            .map(|same| (same[0], same.len() as u32))
            .collect()
    }

    /// Every directory that is there in the end, after [`Names::sorted`], the root first.
    pub fn directories(&self) -> impl Iterator<Item = Id> + '_ {
        (0..self.all.len() as u32)
            .map(Id)
            .filter(|id| !self.all[id.at()].gone && self.what(*id) == What::Directory)
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

    #[test]
    fn a_name_takes_sixteen_bytes() {
        assert_eq!(size_of::<Name>(), 16);
    }

    #[test]
    fn paths_are_walked_as_the_kernel_does() {
        let mut names = Names::new(40);
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
        let mut names = Names::new(40);
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
        let order = names.sorted();
        assert_eq!(order.len(), 5001);
        assert!(
            order[1..]
                .windows(2)
                .all(|pair| names.name(pair[0]) < names.name(pair[1]))
        );
        assert_eq!(names.directories().collect::<Vec<_>>(), [ROOT, new]);
    }
}
