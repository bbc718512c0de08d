//! `diff`: what is different in a container's root file system from its image's, by Docker's rules.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{FileType, OFlags, Stat};

use super::config::ContainerConfig;
use super::left_out::{join, mount_points, names_beneath, open_beneath, stat_beneath};
use super::{load, root};
use crate::layer::LayerView;
use crate::{Engine, Result};

/// What happened to a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    /// Its content or attributes, or something in it: `C`.
    Modified,
    /// `A`.
    Added,
    /// `D`.
    Deleted,
}

/// One line of a `diff`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileChange {
    /// What happened.
    pub kind: ChangeKind,
    /// Absolute, in the container; what is not UTF-8 is replaced.
    pub path: String,
}

/// Compares a container, running or not, with its image. Sorted by path.
///
/// # Errors
/// `NotFound`; the layers or the writable layer cannot be read.
pub fn diff(engine: &Engine, wanted: &str) -> Result<Vec<FileChange>> {
    let id = load::resolve(engine, wanted)?;
    let (config, _) = load::load(engine, &id)?;
    changes(engine, &config)
}

/// As [`diff`], of a container that is known.
pub(super) fn changes(engine: &Engine, config: &ContainerConfig) -> Result<Vec<FileChange>> {
    let (upper, _) = root::dirs(engine, config);
    let upper = ketch_sys::fs::open_directory(&upper).map_err(|error| {
        crate::Error::caused(
            crate::ErrorKind::Internal,
            "cannot read the container's files",
            &error,
        )
    })?;
    let lower = LayerView::open(engine, &config.image.layers)?;
    let left_out = mount_points(config, lower.root(), upper.as_fd())?;
    let mut walk = Walk {
        lower: lower.root(),
        upper: upper.as_fd(),
        left_out,
        changes: Vec::new(),
    };
    walk.directory(b"", false)?;
    let mut changes = walk.changes;
    changes.sort_by(|one, other| one.1.cmp(&other.1));
    let change = |(kind, path): (ChangeKind, Vec<u8>)| FileChange {
        kind,
        path: format!("/{}", String::from_utf8_lossy(&path)),
    };
    Ok(changes.into_iter().map(change).collect())
}

struct Walk<'a> {
    lower: BorrowedFd<'a>,
    upper: BorrowedFd<'a>,
    left_out: BTreeSet<Vec<u8>>,
    changes: Vec<(ChangeKind, Vec<u8>)>,
}

impl Walk<'_> {
    /// What is in a directory of the writable layer; `is_new` says that the image has no such directory.
    fn directory(&mut self, path: &[u8], is_new: bool) -> Result<()> {
        let names = names_beneath(self.upper, path)?.unwrap_or_default();
        if !is_new && self.is_opaque(path)? {
            for name in names_beneath(self.lower, path)?.unwrap_or_default() {
                if names.binary_search(&name).is_err() {
                    self.tell(ChangeKind::Deleted, &join(path, &name));
                }
            }
        }
        for name in names {
            let path = join(path, &name);
            if !self.left_out.contains(&path) {
                self.entry(&path, is_new)?;
            }
        }
        Ok(())
    }

    fn entry(&mut self, path: &[u8], is_new: bool) -> Result<()> {
        // What disappears while it is read is not there.
        let Some(stat) = stat_beneath(self.upper, path)? else {
            return Ok(());
        };
        let old = match is_new {
            true => None,
            false => stat_beneath(self.lower, path)?,
        };
        let kind = FileType::from_raw_mode(stat.st_mode);
        // Overlayfs's mark of something that is gone.
        if kind == FileType::CharacterDevice && stat.st_rdev == 0 {
            if old.is_some() {
                self.tell(ChangeKind::Deleted, path);
            }
            return Ok(());
        }
        let is_directory = kind == FileType::Directory;
        let Some(old) = old else {
            self.tell(ChangeKind::Added, path);
            return match is_directory {
                true => self.directory(path, true),
                false => Ok(()),
            };
        };
        let before = self.changes.len();
        if is_directory {
            let was_directory = FileType::from_raw_mode(old.st_mode) == FileType::Directory;
            self.directory(path, !was_directory)?;
        }
        // A directory in which something changed has changed.
        if self.changes.len() > before || differs(&stat, &old) || self.capabilities_differ(path)? {
            self.tell(ChangeKind::Modified, path);
        }
        Ok(())
    }

    fn tell(&mut self, kind: ChangeKind, path: &[u8]) {
        self.changes.push((kind, path.to_vec()));
    }

    fn is_opaque(&self, path: &[u8]) -> Result<bool> {
        Ok(attribute(self.upper, path, b"trusted.overlay.opaque")?.is_some_and(|v| v == b"y"))
    }

    fn capabilities_differ(&self, path: &[u8]) -> Result<bool> {
        let key = b"security.capability";
        Ok(attribute(self.upper, path, key)? != attribute(self.lower, path, key)?)
    }
}

/// Docker's rule: not by content, and of a directory neither by size nor by time.
fn differs(new: &Stat, old: &Stat) -> bool {
    let is_directory = FileType::from_raw_mode(old.st_mode) == FileType::Directory;
    let same_time = new.st_mtime == old.st_mtime
        && (new.st_mtime_nsec == old.st_mtime_nsec
            || new.st_mtime_nsec == 0
            || old.st_mtime_nsec == 0);
    new.st_mode != old.st_mode
        || new.st_uid != old.st_uid
        || new.st_gid != old.st_gid
        || new.st_rdev != old.st_rdev
        || (!is_directory && (new.st_size != old.st_size || !same_time))
}

/// The value of an extended attribute of a path in a tree.
fn attribute(root: BorrowedFd<'_>, path: &[u8], key: &[u8]) -> Result<Option<Vec<u8>>> {
    let (parent, name) = match path.iter().rposition(|byte| *byte == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None if path.is_empty() => (path, &b"."[..]),
        None => (&b""[..], path),
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY;
    let Some(parent) = open_beneath(root, parent, flags)? else {
        return Ok(None);
    };
    let found = match ketch_sys::fs::xattrs_at(parent.as_fd(), OsStr::from_bytes(name)) {
        Ok(found) => found,
        Err(rustix::io::Errno::NOENT) => return Ok(None),
        Err(errno) => return Err(super::left_out::failed("llistxattr", path, errno)),
    };
    Ok(found
        .into_iter()
        .find(|(name, _)| name.as_bytes() == key)
        .map(|(_, value)| value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_directories_do_not_count_and_those_of_files_do() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("f"), "x").unwrap();
        let stat = |path: &std::path::Path| rustix::fs::lstat(path).unwrap();
        let (file, directory) = (stat(&dir.path().join("f")), stat(dir.path()));
        for (stat, counts) in [(file, true), (directory, false)] {
            let mut later = stat;
            later.st_mtime += 5;
            assert_eq!(differs(&later, &stat), counts);
            let mut other = stat;
            other.st_uid += 1;
            assert!(differs(&other, &stat));
            assert!(!differs(&stat, &stat));
        }
    }
}
