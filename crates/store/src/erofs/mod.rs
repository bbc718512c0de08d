//! Layers that are never unpacked: an EROFS image (kernel documentation, "EROFS") that has no data of its own. It
//! describes the files of an archive, whose bytes stay where they are: the archive is the image's second device.
//!
//! The image is written in the one pass in which the archive comes, by [`Writer`], which is handed the same entries as
//! [`crate::tree::Extractor`] and makes of them what that one makes: a tree that overlayfs takes as a lower directory.

mod attributes;
mod chunks;
mod directories;
mod format;
mod make;
mod mount;
mod names;
mod output;
#[cfg(test)]
pub(crate) mod tests;
mod writer;

pub(crate) use attributes::Taken;
pub(crate) use mount::{mount, probe};
pub(crate) use writer::{Unsealed, Writer, root_attributes};
