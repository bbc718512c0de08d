//! The tar format: ustar and the older form before it, GNU's and POSIX's (PAX) extensions, sparse files of all four
//! kinds (GNU tar manual, "Tar Internals"; POSIX.1-2024, `pax`; Schily's extended attributes as Docker writes them).
//!
//! Archives are hostile until proven otherwise: everything a header can ask for is bounded, numbers are checked, and
//! errors name the entry. What an archive may do to a file system is the business of [`crate::tree`].

mod fields;
mod header;
mod pax;
mod reader;
mod sparse;
#[cfg(test)]
mod tests;
mod writer;

use std::io;

pub use reader::Reader;
pub use writer::Writer;

/// The unit of the format in bytes.
pub const BLOCK_BYTES: usize = 512;

/// What an archive may ask for; more is an error.
pub(crate) mod limit {
    /// Bytes of one extended header or long name: what Go's archive/tar, and so Docker, takes.
    pub const EXTENSION_BYTES: u64 = 1 << 20;
    /// Bytes of all extended headers of one entry.
    pub const EXTENSIONS_BYTES: u64 = 2 << 20;
    /// Records of global extended headers that are kept for what follows.
    pub const GLOBAL_RECORDS: usize = 1024;
    /// Bytes of a path or of a link's target: what Linux takes.
    pub const PATH_BYTES: usize = ketch_sys::fs::PATH_MAX_BYTES;
    /// Bytes of one extended attribute's value: what Linux takes.
    pub const XATTR_BYTES: usize = 64 << 10;
    /// Extended attributes of one entry.
    pub const XATTRS: usize = 1024;
    /// Bytes of all of them, names and values: several times what Linux's file systems take.
    pub const XATTRS_BYTES: usize = 1 << 20;
    /// Pieces of one sparse file.
    pub const SEGMENTS: usize = 1 << 16;
}

/// What kind of file an entry makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link; [`Entry::link`] is its target.
    Symlink,
    /// Another name of an earlier entry; [`Entry::link`] is that entry's path.
    HardLink,
    /// A named pipe.
    Fifo,
    /// A character device.
    CharacterDevice,
    /// A block device.
    BlockDevice,
}

/// A point in time, as tar has it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time {
    /// Seconds since 1970, negative before.
    pub seconds: i64,
    /// Nanoseconds after that, below 1,000,000,000.
    pub nanoseconds: u32,
}

/// One piece of a sparse file that is stored; the rest is zeros.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// Where in the file, in bytes.
    pub offset: u64,
    /// How long, in bytes.
    pub length: u64,
}

/// One entry, its extended headers applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// As the archive has it: not empty, no NUL byte, nothing else checked.
    pub path: Vec<u8>,
    /// What it makes.
    pub kind: Kind,
    /// Target of a link, no NUL byte.
    pub link: Vec<u8>,
    /// Permission bits with set-user-id, set-group-id and sticky.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Modification time.
    pub mtime: Time,
    /// Length of the file in bytes; for a sparse file, with its holes.
    pub size: u64,
    /// Major number of a device.
    pub major: u32,
    /// Minor number of a device.
    pub minor: u32,
    /// Extended attributes in the order of the archive.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// The stored pieces of a sparse file.
    pub segments: Option<Vec<Segment>>,
}

impl Entry {
    /// An entry of a kind with a path, everything else zero.
    pub fn new(kind: Kind, path: impl Into<Vec<u8>>) -> Self {
        Self {
            path: path.into(),
            kind,
            link: Vec::new(),
            mode: 0,
            uid: 0,
            gid: 0,
            mtime: Time::default(),
            size: 0,
            major: 0,
            minor: 0,
            xattrs: Vec::new(),
            segments: None,
        }
    }

    /// The path for messages.
    pub fn shown(&self) -> String {
        shown(&self.path)
    }
}

/// Bytes of a name for a message: escaped, cut.
pub(crate) fn shown(name: &[u8]) -> String {
    let text: String = String::from_utf8_lossy(name).chars().take(200).collect();
    text.escape_debug().to_string()
}

/// What is wrong with a header or an extended header.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// The checksum does not match.
    #[error("its checksum is wrong")]
    Checksum,
    /// A number field does not hold one.
    #[error("its {field} is not a number")]
    Number {
        /// Which field.
        field: &'static str,
    },
    /// A number is outside of what the field can mean.
    #[error("its {field} is out of range")]
    Range {
        /// Which field.
        field: &'static str,
    },
    /// It has no name.
    #[error("it has no name")]
    NoName,
    /// A name or target has a NUL byte.
    #[error("its {field} has a NUL byte")]
    Nul {
        /// Which field.
        field: &'static str,
    },
    /// Something is longer than anything reasonable.
    #[error("its {field} is longer than {limit} bytes")]
    Long {
        /// Which field.
        field: &'static str,
        /// The bound.
        limit: u64,
    },
    /// More of something than anything reasonable.
    #[error("it has more than {limit} {what}")]
    Many {
        /// Of what.
        what: &'static str,
        /// The bound.
        limit: u64,
    },
    /// An extended header that does not follow its grammar.
    #[error("its extended header is malformed")]
    Extended,
    /// A sparse map that is not sorted, overlaps, or does not fit the file.
    #[error("its sparse map is wrong")]
    Sparse,
    /// A sparse map whose pieces are too many and too far apart.
    #[error("its sparse map is too scattered to be kept")]
    Scattered,
    /// An extended attribute that has a form, and has it not.
    #[error("its attribute {name:?} is malformed")]
    Attribute {
        /// Which.
        name: String,
    },
    /// A type that makes nothing we know.
    #[error("its type {:?} is not supported", char::from(*.0))]
    Type(u8),
    /// The path leads out of the directory.
    #[error("it leads out of the root directory")]
    Outside,
    /// A whiteout without a name.
    #[error("it is a whiteout of nothing")]
    Whiteout,
    /// A hard link to something that is not in this archive before it.
    #[error("it is a hard link to {target:?}, which is not there")]
    LinkTarget {
        /// The target.
        target: String,
    },
    /// It would replace the root directory by something else.
    #[error("it is the root directory, but not a directory")]
    Root,
}

/// What failed in reading, extracting or writing an archive.
#[derive(Debug, thiserror::Error)]
pub enum TarError {
    /// The stream failed.
    #[error("cannot read the archive")]
    Read {
        /// What came of it.
        source: io::Error,
    },
    /// The stream ends too early.
    #[error("the archive ends in the middle of {what}")]
    Truncated {
        /// An entry's path, or "a header".
        what: String,
    },
    /// A block is no header.
    #[error("the archive has a bad header at byte {offset}: {problem}")]
    Header {
        /// Where.
        offset: u64,
        /// What is wrong.
        problem: Problem,
    },
    /// An entry asks for something impossible or forbidden.
    #[error("archive entry \"{entry}\": {problem}")]
    Entry {
        /// Its path.
        entry: String,
        /// What is wrong.
        problem: Problem,
    },
    /// An entry could not be made.
    #[error("cannot extract \"{entry}\"")]
    Extract {
        /// Its path.
        entry: String,
        /// The kernel's word.
        source: ketch_sys::Error,
    },
    /// A file could not be put into an archive.
    #[error("cannot archive \"{entry}\"")]
    Archive {
        /// Its path.
        entry: String,
        /// The kernel's word.
        source: ketch_sys::Error,
    },
    /// The archive could not be written.
    #[error("cannot write the archive")]
    Write {
        /// What came of it.
        source: io::Error,
    },
}

impl From<TarError> for io::Error {
    fn from(error: TarError) -> Self {
        match error {
            TarError::Read { source } | TarError::Write { source } => source,
            TarError::Truncated { .. } => Self::new(io::ErrorKind::UnexpectedEof, error),
            other => Self::other(other),
        }
    }
}

impl TarError {
    /// Whether the archive's own bytes are at fault, so that a better copy could help.
    pub(crate) fn is_of_content(&self) -> bool {
        matches!(
            self,
            Self::Truncated { .. } | Self::Header { .. } | Self::Entry { .. }
        )
    }
}
