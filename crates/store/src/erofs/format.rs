//! EROFS on disk (kernel documentation, "EROFS"; fs/erofs/erofs_fs.h): little-endian structures, as much as a layer
//! needs of them.

/// Bytes of a block: tar's unit, so that every file's data in an archive is made of whole blocks.
pub const BLOCK_BYTES: u64 = 512;
/// The same as a power of two.
pub const BLOCK_BITS: u8 = 9;
/// Inodes are numbered by where they are, in this unit.
pub const SLOT_BYTES: u64 = 32;
/// Bytes of an inode in its long form, the only one with owners of 32 bits and its own time.
pub const INODE_BYTES: u64 = 64;
/// Bytes of a directory entry without its name.
pub const DIRENT_BYTES: usize = 12;
/// Where the superblock is.
const SUPER_OFFSET: u64 = 1024;
/// Bytes of the superblock, and of the one slot of the device table behind it.
const SUPER_BYTES: usize = 128;
/// Where the root directory's inode is: its number has 16 bits only.
pub const ROOT_OFFSET: u64 = SUPER_OFFSET + 2 * SUPER_BYTES as u64;
/// Where everything else begins: the root's inode has room for the most attributes an inode can have. What it does not
/// need is a hole in the file.
pub const FIRST_OFFSET: u64 = 264 << 10;
/// The tar in chunk indexes: the first device of the table.
pub const TAR_DEVICE: u16 = 1;
/// A chunk that is not stored.
pub const HOLE: u32 = u32::MAX;
/// The largest chunk, as a power of two of bytes: five bits of a power of two of blocks.
pub const MAX_CHUNK_BITS: u8 = BLOCK_BITS + 31;
/// Bytes of one chunk's index.
pub const CHUNK_INDEX_BYTES: u64 = 8;

const MAGIC: u32 = 0xE0F5_E1E2;
/// Inodes have modification times (and not, as once, change times). There is no checksum of the superblock: the programs
/// of erofs-utils up to 1.8 read it beyond a block of 512 bytes and fall over.
const COMPAT_MTIME: u32 = 2;
const INCOMPAT_CHUNKED_FILE: u32 = 4;
const INCOMPAT_DEVICE_TABLE: u32 = 8;
/// In an inode's chunk format: indexes of eight bytes, which name a device.
const CHUNK_FORMAT_INDEXES: u32 = 0x20;

/// Where an inode's data is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// In blocks, from this one on; nowhere, for what has no data; for a device its number.
    Plain(u32),
    /// Behind the inode and its attributes, in the same block.
    Inline,
    /// In chunks of a power of two of bytes, whose indexes are behind the inode.
    Chunks(u8),
}

/// An inode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inode {
    /// File type and permissions, as `st_mode`.
    pub mode: u16,
    pub uid: u32,
    pub gid: u32,
    pub seconds: i64,
    pub nanoseconds: u32,
    pub size: u64,
    pub links: u32,
    pub layout: Layout,
    /// The attributes that follow, encoded ([`super::attributes::encode`]).
    pub xattrs: Vec<u8>,
}

impl Inode {
    /// The inode and its attributes. `slot` is its number, for programs that want one of 32 bits.
    pub fn encode(&self, slot: u32) -> Vec<u8> {
        let (layout, union) = match self.layout {
            Layout::Plain(value) => (0u16, value),
            Layout::Inline => (2, 0),
            Layout::Chunks(bits) => (4, CHUNK_FORMAT_INDEXES | u32::from(bits - BLOCK_BITS)),
        };
        let mut bytes = Vec::with_capacity(INODE_BYTES as usize + self.xattrs.len());
        bytes.extend_from_slice(&(1 | layout << 1).to_le_bytes());
        bytes.extend_from_slice(&xattr_count(self.xattrs.len()).to_le_bytes());
        bytes.extend_from_slice(&self.mode.to_le_bytes());
        bytes.extend_from_slice(&[0; 2]);
        bytes.extend_from_slice(&self.size.to_le_bytes());
        for value in [union, slot, self.uid, self.gid] {
            bytes.extend_from_slice(&value.to_le_bytes());
        }
        bytes.extend_from_slice(&self.seconds.to_le_bytes());
        bytes.extend_from_slice(&self.nanoseconds.to_le_bytes());
        bytes.extend_from_slice(&self.links.to_le_bytes());
        bytes.extend_from_slice(&[0; 16]);
        bytes.extend_from_slice(&self.xattrs);
        bytes
    }

    /// What [`Inode::encode`] made of a directory; the layout is not told. Also how many bytes of attributes follow.
    pub fn decode_directory(bytes: &[u8; INODE_BYTES as usize]) -> (Self, usize) {
        let two = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        let four = |at: usize| {
            u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        let eight = |at: usize| u64::from(four(at)) | u64::from(four(at + 4)) << 32;
        let inode = Self {
            mode: two(4),
            uid: four(24),
            gid: four(28),
            seconds: eight(32).cast_signed(),
            nanoseconds: four(40),
            size: 0,
            links: 1,
            layout: Layout::Plain(0),
            xattrs: Vec::new(),
        };
        let count = usize::from(two(2));
        (inode, if count == 0 { 0 } else { 12 + 4 * (count - 1) })
    }
}

impl Inode {
    /// The layout's number, the size and the block address of an encoded inode.
    pub fn decode_place(bytes: &[u8; INODE_BYTES as usize]) -> (u16, u64, u32) {
        let layout = u16::from_le_bytes([bytes[0], bytes[1]]) >> 1;
        let four = |at: usize| {
            u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        (
            layout,
            u64::from(four(8)) | u64::from(four(12)) << 32,
            four(16),
        )
    }
}

/// Where in an inode size and block address are, which follow each other.
pub const SIZE_OFFSET: u64 = 8;
/// Where in an inode the number of links is.
pub const LINKS_OFFSET: u64 = 44;

/// How an inode counts its attributes' bytes: a header of 12 is one, then each four.
fn xattr_count(bytes: usize) -> u16 {
    match bytes {
        0 => 0,
        // Bounded by `attributes::MAX_BYTES`.
        bytes => u16::try_from(1 + (bytes - 12) / 4).unwrap_or(u16::MAX),
    }
}

/// A device number as the kernel keeps it (`new_encode_dev`).
pub fn device(major: u32, minor: u32) -> u32 {
    (minor & 0xff) | major << 8 | (minor & !0xff) << 12
}

/// One chunk's index.
pub fn chunk_index(device: u16, block: u32) -> [u8; CHUNK_INDEX_BYTES as usize] {
    let mut bytes = [0; CHUNK_INDEX_BYTES as usize];
    bytes[2..4].copy_from_slice(&device.to_le_bytes());
    bytes[4..].copy_from_slice(&block.to_le_bytes());
    bytes
}

/// What the superblock and the device table say.
#[derive(Debug, Clone)]
pub struct Superblock {
    /// Inodes in the image.
    pub inodes: u64,
    /// Blocks of the image itself.
    pub blocks: u32,
    /// Blocks of the tar.
    pub tar_blocks: u32,
    /// The tar's digest, in hex digits.
    pub tar_digest: [u8; 64],
    /// Anything that other images do not have: overlayfs tells layers apart by it.
    pub uuid: [u8; 16],
}

impl Superblock {
    /// The first bytes of the image, up to [`ROOT_OFFSET`].
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![0u8; ROOT_OFFSET as usize];
        let start = SUPER_OFFSET as usize;
        let mut put = |at: usize, value: &[u8]| {
            bytes[start + at..start + at + value.len()].copy_from_slice(value);
        };
        put(0, &MAGIC.to_le_bytes());
        put(8, &COMPAT_MTIME.to_le_bytes());
        put(12, &[BLOCK_BITS]);
        put(14, &((ROOT_OFFSET / SLOT_BYTES) as u16).to_le_bytes());
        put(16, &self.inodes.to_le_bytes());
        put(36, &self.blocks.to_le_bytes());
        put(48, &self.uuid);
        put(
            80,
            &(INCOMPAT_CHUNKED_FILE | INCOMPAT_DEVICE_TABLE).to_le_bytes(),
        );
        put(86, &1u16.to_le_bytes());
        put(
            88,
            &((SUPER_OFFSET as usize / SUPER_BYTES + 1) as u16).to_le_bytes(),
        );
        put(SUPER_BYTES, &self.tar_digest);
        put(SUPER_BYTES + 64, &self.tar_blocks.to_le_bytes());
        put(SUPER_BYTES + 68, &self.blocks.to_le_bytes());
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inodes_and_superblocks_have_their_lengths() {
        let inode = Inode {
            mode: 0o100_644,
            uid: 70_000,
            gid: 1,
            seconds: -5,
            nanoseconds: 7,
            size: 1 << 40,
            links: 1,
            layout: Layout::Chunks(40),
            xattrs: vec![0; 20],
        };
        let bytes = inode.encode(99);
        assert_eq!(bytes.len(), 84);
        assert_eq!(bytes[0], 0b1001);
        assert_eq!(&bytes[2..4], [3, 0]);
        assert_eq!(bytes[16], 0x20 | 31);
        let (again, xattrs) = Inode::decode_directory(bytes[..64].try_into().unwrap());
        assert_eq!(
            (again.uid, again.seconds, again.nanoseconds, xattrs),
            (70_000, -5, 7, 20)
        );
        assert_eq!(device(0x123, 0x45678), 0x4561_2378);
    }
}
