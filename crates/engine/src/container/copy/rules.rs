//! Where a copy comes from and where it goes: Docker's rules, for any root.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, Stat};

use super::{PathStat, PlaceError, path_stat, stat_at};
use crate::{Error, ErrorKind, Result};

/// Something to copy: a name in an open directory.
#[derive(Debug)]
pub(super) struct Source {
    /// The directory it is in, or, for a directory's content, the directory itself.
    pub(super) dir: OwnedFd,
    /// Its name there; `.` for the content of `dir`.
    pub(super) entry: OsString,
    /// What it is called: the last component as typed, also where a link was followed.
    shown: OsString,
    /// The path ended in `/.`: what is in it, not it itself, is meant.
    pub(super) content: bool,
    stat: Stat,
}

impl Source {
    /// Finds a path inside `root`. The last component is followed if it is a link and `follow` is set, or if the path
    /// ends in `/` or `/.`.
    pub(super) fn find(root: BorrowedFd<'_>, path: &str, follow: bool) -> Result<Self, PlaceError> {
        let content = path == "." || path.ends_with("/.");
        let follow = follow || content || path.ends_with('/');
        let clean = clean(path);
        let shown = clean
            .file_name()
            .map_or_else(|| OsString::from("/"), OsStr::to_owned);
        let target = if follow {
            resolve(root, &clean)?
        } else {
            clean
        };
        let (parent, entry) = match target.file_name() {
            Some(name) if !content => (
                target.parent().unwrap_or(Path::new("/")).to_owned(),
                name.to_owned(),
            ),
            _ => (target, OsString::from(".")),
        };
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let dir = ketch_sys::fs::open_in_root(root, &parent, flags, Mode::empty())?;
        let (stat, kind) = stat_at(&dir, &entry)?;
        if path.ends_with('/') && kind != FileType::Directory {
            return Err(PlaceError::NotFound);
        }
        Ok(Self {
            dir,
            entry,
            shown,
            content,
            stat,
        })
    }

    pub(super) fn is_dir(&self) -> bool {
        FileType::from_raw_mode(self.stat.st_mode) == FileType::Directory
    }

    /// What an archive of it begins with.
    pub(super) fn name(&self) -> String {
        if self.content || self.shown == "/" {
            ".".to_owned()
        } else {
            self.shown.to_string_lossy().into_owned()
        }
    }

    pub(super) fn stat(&self) -> Result<PathStat> {
        let mut link_target = String::new();
        if FileType::from_raw_mode(self.stat.st_mode) == FileType::Symlink {
            let text = rustix::fs::readlinkat(self.dir.as_fd(), &self.entry, Vec::new())
                .map_err(|errno| Error::caused(ErrorKind::Internal, "readlink", &errno))?;
            link_target = String::from_utf8_lossy(text.as_bytes()).into_owned();
        }
        Ok(path_stat(
            self.shown.to_string_lossy().into_owned(),
            &self.stat,
            link_target,
        ))
    }
}

/// Where a copy goes: a directory that is there, and a name in it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Target {
    /// Inside the target's root.
    pub(super) dir: PathBuf,
    /// What the copy's first component is called; `.` spreads it over the directory.
    pub(super) name: String,
}

/// Decides where `source` goes if it is copied to `path` inside `root`.
pub(super) fn target(
    root: BorrowedFd<'_>,
    path: &str,
    source: &Source,
) -> Result<Target, PlaceError> {
    let asserted = path.ends_with('/') || path.ends_with("/.") || path == ".";
    let clean = clean(path);
    let there = resolve(root, &clean).and_then(|resolved| {
        let flags = OFlags::PATH | OFlags::NOFOLLOW;
        let file = ketch_sys::fs::open_in_root(root, &resolved, flags, Mode::empty())?;
        let stat = rustix::fs::fstat(&file)?;
        Ok((
            resolved,
            FileType::from_raw_mode(stat.st_mode) == FileType::Directory,
        ))
    });
    match there {
        Ok((dir, true)) => Ok(Target {
            dir,
            name: source.name(),
        }),
        Ok(_) if asserted => Err(PlaceError::Unfit("not a directory".into())),
        Ok(_) if source.is_dir() => Err(PlaceError::Unfit("cannot copy directory".into())),
        Ok((file, false)) => in_parent(root, &file),
        Err(PlaceError::NotFound) if asserted && !source.is_dir() => {
            Err(PlaceError::Unfit("no such directory".into()))
        }
        Err(PlaceError::NotFound) => in_parent(root, &clean),
        Err(error) => Err(error),
    }
}

fn in_parent(root: BorrowedFd<'_>, path: &Path) -> Result<Target, PlaceError> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(PlaceError::NotFound);
    };
    let dir = resolve(root, parent)?;
    let flags = OFlags::PATH | OFlags::DIRECTORY;
    ketch_sys::fs::open_in_root(root, &dir, flags, Mode::empty())?;
    Ok(Target {
        dir,
        name: name.to_string_lossy().into_owned(),
    })
}

/// An absolute path without empty and `.` parts; `..` is cut by its text, as Docker does.
pub(super) fn clean(path: &str) -> PathBuf {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    PathBuf::from(format!("/{}", parts.join("/")))
}

/// The path with the link at its end followed inside `root`, so that its parent and name can be taken apart. What is
/// opened later is resolved by the kernel anew: this only decides names.
fn resolve(root: BorrowedFd<'_>, path: &Path) -> Result<PathBuf, PlaceError> {
    const MAX_LINKS: usize = 40;
    let mut path = path.to_owned();
    for _ in 0..MAX_LINKS {
        let flags = OFlags::PATH | OFlags::NOFOLLOW;
        let file = ketch_sys::fs::open_in_root(root, &path, flags, Mode::empty())?;
        let stat = rustix::fs::fstat(&file)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
            return Ok(path);
        }
        let text = rustix::fs::readlinkat(&file, "", Vec::new())?;
        let text = Path::new(OsStr::from_bytes(text.as_bytes()));
        let joined = path.parent().unwrap_or(Path::new("/")).join(text);
        // `..` after a link that is a directory would be resolved otherwise by the kernel; links at the end of a link's
        // text are rare enough, and nothing depends on it but the name.
        path = clean(&joined.to_string_lossy());
    }
    Err(PlaceError::Errno(rustix::io::Errno::LOOP))
}
