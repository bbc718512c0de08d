//! t
use ketch_spec::Digest;
use std::os::fd::BorrowedFd;
/// What an archive held.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Totals {
    /// Content of regular files in bytes.
    pub size_bytes: u64,
    /// Length of the archive in bytes.
    pub archive_bytes: u64,
    /// Entries.
    pub entries: u64,
    /// Extended attributes that could not be kept.
    pub lost_xattrs: u64,
}
/// t
pub enum Purpose { /// t
 Export, /// t
 Finish }
/// t
pub fn archive(_: BorrowedFd<'_>, _: impl std::io::Write, _: Purpose) -> crate::Result<(Digest, Totals)> { Err(crate::Error::Panicked) }
