//! Between archives and directories: a layer's archive becomes a tree that overlayfs takes as a lower directory, and an
//! overlay's upper directory becomes an archive.
//!
//! The two forms differ in how they say that something of the layers below is gone (image specification, "Whiteouts"):
//! an archive has an empty file `.wh.NAME`, a tree a character device 0:0 called NAME; for "nothing of this directory"
//! an archive has `.wh..wh..opq` in it, a tree the attribute `trusted.overlay.opaque` on it.

mod archive;
mod attributes;
pub(crate) mod entries;
mod extract;
pub(crate) mod path;
#[cfg(test)]
pub(crate) mod tests;

pub use archive::{Purpose, archive, archive_without};
pub use attributes::is_taken;
pub use extract::Extractor;

/// Begins the name of a whiteout.
pub(crate) const WHITEOUT_PREFIX: &[u8] = b".wh.";
/// Makes a directory opaque.
pub(crate) const OPAQUE: &[u8] = b".wh..wh..opq";
/// What aufs kept for itself in its archives begins with this.
pub(crate) const AUFS_PREFIX: &[u8] = b".wh..wh.";
/// Overlayfs's mark of an opaque directory, with the value `y`.
pub(crate) const OPAQUE_XATTR: &std::ffi::CStr = c"trusted.overlay.opaque";

/// What an archive held.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Totals {
    /// Content of regular files in bytes.
    pub size_bytes: u64,
    /// Length of the archive in bytes.
    pub archive_bytes: u64,
    /// Entries.
    pub entries: u64,
    /// Extended attributes that the file system could not take.
    pub lost_xattrs: u64,
}
