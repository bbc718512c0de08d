//! A reader of EROFS images, made from the kernel's documentation and not from our writer: what the writer wrote is
//! compared with files.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;

use crate::trees::{CONTENT_BYTES, Node, Tree, name_firsts};

const BLOCK: u64 = 512;
const SLOT: u64 = 32;
const SUPER: u64 = 1024;
const MAGIC: u32 = 0xe0f5_e1e2;
const NAMES: [&str; 7] = [
    "",
    "user.",
    "system.posix_acl_access",
    "system.posix_acl_default",
    "trusted.",
    "",
    "security.",
];

/// All bytes of a file.
pub(crate) fn bytes_of(file: &File) -> Vec<u8> {
    let length = file.metadata().map_or(0, |metadata| metadata.len());
    let mut bytes = vec![0; length as usize];
    if let Err(error) = file.read_exact_at(&mut bytes, 0) {
        panic!("read: {error}");
    }
    bytes
}

struct Image<'a> {
    bytes: &'a [u8],
    archive: &'a [u8],
}

struct Inode {
    offset: u64,
    layout: u16,
    xattr_bytes: u64,
    mode: u32,
    size: u64,
    union: u32,
    node: Node,
}

/// The tree that an image shows, with the archive as its first device.
pub(crate) fn read(bytes: &[u8], archive: &[u8]) -> Tree {
    let image = Image { bytes, archive };
    assert_eq!(image.four(SUPER), MAGIC, "no superblock");
    assert_eq!(bytes[SUPER as usize + 12], 9, "blocks of 512 bytes");
    let blocks = u64::from(image.four(SUPER + 36));
    assert_eq!(
        blocks * BLOCK,
        bytes.len() as u64,
        "the superblock's count of blocks"
    );
    let root = u64::from(image.two(SUPER + 14));
    let mut tree = Tree::new();
    let mut numbers = BTreeMap::new();
    // A directory, and the one it is in: each is seen once, or the image would have a loop.
    let mut queue = vec![(Vec::new(), root, root)];
    while let Some((path, number, above)) = queue.pop() {
        assert!(tree.len() < 100_000, "a loop of directories");
        let inode = image.inode(number);
        numbers.insert(path.clone(), number);
        let is_dir = inode.mode & 0o170_000 == 0o040_000;
        if is_dir {
            for (name, below) in image.directory(&inode, number, above) {
                let below_path = match path.is_empty() {
                    true => name,
                    false => [&path[..], b"/", &name].concat(),
                };
                queue.push((below_path, below, number));
            }
        }
        tree.insert(path, image.node(inode));
    }
    name_firsts(&mut tree, &numbers);
    tree
}

impl Image<'_> {
    fn slice(&self, at: u64, length: u64) -> &[u8] {
        let range = at as usize..(at + length) as usize;
        match self.bytes.get(range) {
            Some(bytes) => bytes,
            None => panic!("{length} bytes at {at} are not in the image"),
        }
    }

    fn two(&self, at: u64) -> u16 {
        let bytes = self.slice(at, 2);
        u16::from_le_bytes([bytes[0], bytes[1]])
    }

    fn four(&self, at: u64) -> u32 {
        u32::from(self.two(at)) | u32::from(self.two(at + 2)) << 16
    }

    fn eight(&self, at: u64) -> u64 {
        u64::from(self.four(at)) | u64::from(self.four(at + 4)) << 32
    }

    /// An inode of the long form.
    fn inode(&self, number: u64) -> Inode {
        let at = number * SLOT;
        let format = self.two(at);
        assert_eq!(format & 1, 1, "a short inode");
        let count = u64::from(self.two(at + 2));
        let xattr_bytes = if count == 0 { 0 } else { 12 + 4 * (count - 1) };
        let mode = u32::from(self.two(at + 4));
        let node = Node {
            mode,
            owner: (self.four(at + 24), self.four(at + 28)),
            mtime: (self.eight(at + 32).cast_signed(), self.four(at + 40)),
            size: 0,
            links: u64::from(self.four(at + 44)),
            device: 0,
            content: Vec::new(),
            xattrs: self.xattrs(at + 64, xattr_bytes),
            first: Vec::new(),
        };
        Inode {
            offset: at,
            layout: format >> 1 & 7,
            xattr_bytes,
            mode,
            size: self.eight(at + 8),
            union: self.four(at + 16),
            node,
        }
    }

    fn xattrs(&self, start: u64, bytes: u64) -> BTreeMap<Vec<u8>, Vec<u8>> {
        let mut found = BTreeMap::new();
        let (mut at, end) = (start + 12, start + bytes);
        while bytes > 0 && at < end {
            let head = self.slice(at, 4);
            let (name_bytes, index) = (u64::from(head[0]), usize::from(head[1]));
            let value_bytes = u64::from(self.two(at + 2));
            assert!(
                at + 4 + name_bytes + value_bytes <= end,
                "an attribute beyond its inode's"
            );
            let name = [NAMES[index].as_bytes(), self.slice(at + 4, name_bytes)].concat();
            let old = found.insert(name, self.slice(at + 4 + name_bytes, value_bytes).to_vec());
            assert_eq!(old, None, "an attribute twice");
            at += (4 + name_bytes + value_bytes).next_multiple_of(4);
        }
        found
    }

    /// Names and inodes of a directory, without the two that each has.
    fn directory(&self, inode: &Inode, own: u64, above: u64) -> Vec<(Vec<u8>, u64)> {
        assert_eq!(inode.layout, 0, "a directory's content is in blocks");
        let start = u64::from(inode.union) * BLOCK;
        let mut found: Vec<(Vec<u8>, u64)> = Vec::new();
        let mut at = 0;
        while at < inode.size {
            let length = (inode.size - at).min(BLOCK);
            let block = start + at;
            let names = u64::from(self.two(block + 8));
            assert!(
                names.is_multiple_of(12) && names <= length,
                "entries of {names} bytes"
            );
            for number in 0..names / 12 {
                let entry = block + number * 12;
                let from = u64::from(self.two(entry + 8));
                let to = match number + 1 < names / 12 {
                    true => u64::from(self.two(entry + 12 + 8)),
                    false => length,
                };
                assert!(from < to && to <= length, "a name from {from} to {to}");
                let name = self.slice(block + from, to - from);
                let end = name
                    .iter()
                    .position(|byte| *byte == 0)
                    .unwrap_or(name.len());
                found.push((name[..end].to_vec(), self.eight(entry)));
            }
            at += length;
        }
        assert!(found.is_sorted_by(|a, b| a.0 < b.0), "names out of order");
        let mut take = |name: &[u8]| {
            let at = found.iter().position(|(found, _)| found == name);
            at.map(|at| found.remove(at).1)
        };
        assert_eq!((take(b"."), take(b"..")), (Some(own), Some(above)));
        found
    }

    fn node(&self, inode: Inode) -> Node {
        let mut node = inode.node.clone();
        match inode.mode & 0o170_000 {
            0o040_000 => node.links = 0,
            0o120_000 => {
                node.size = inode.size;
                let at = match inode.layout {
                    2 => inode.offset + 64 + inode.xattr_bytes,
                    _ => u64::from(inode.union) * BLOCK,
                };
                if inode.layout == 2 {
                    assert_eq!(
                        inode.offset / BLOCK,
                        (at + inode.size - 1) / BLOCK,
                        "a tail in two blocks"
                    );
                }
                node.content = self.slice(at, inode.size).to_vec();
            }
            0o100_000 => {
                node.size = inode.size;
                node.content = self.content(&inode);
            }
            0o020_000 | 0o060_000 => {
                let device = inode.union;
                let (major, minor) = (device >> 8 & 0xfff, device & 0xff | device >> 12 & 0xfff00);
                node.device = rustix::fs::makedev(major, minor);
            }
            _ => {}
        }
        node
    }

    fn content(&self, inode: &Inode) -> Vec<u8> {
        let mut content = vec![0u8; inode.size.min(CONTENT_BYTES) as usize];
        if inode.size == 0 {
            return content;
        }
        assert_eq!(inode.layout, 4, "files are in chunks");
        let chunk = BLOCK << (inode.union & 0x1f);
        let indexes = (inode.offset + 64 + inode.xattr_bytes).next_multiple_of(8);
        let mut at = 0u64;
        while at < content.len() as u64 {
            let index = indexes + at / chunk * 8;
            let (device, block) = (self.two(index + 2), self.four(index + 4));
            let length = (content.len() as u64 - at).min(chunk) as usize;
            if block != u32::MAX {
                let source = if device == 0 {
                    self.bytes
                } else {
                    self.archive
                };
                let from = block as usize * BLOCK as usize;
                assert!(
                    from <= source.len(),
                    "a chunk at {from} of {}",
                    source.len()
                );
                let there = &source[from..(from + length).min(source.len())];
                content[at as usize..at as usize + there.len()].copy_from_slice(there);
            }
            at += length as u64;
        }
        content
    }
}
