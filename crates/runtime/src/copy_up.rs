//! `tmpcopyup`: a new tmpfs begins with what the root has at its mount point.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use ketch_sys::Error as SysError;
use ketch_sys::Result as SysResult;
use ketch_sys::fs::{copy_file, set_xattr_at, xattrs_at};
use rustix::fs::{
    AtFlags, Dir, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid, chmodat, chownat,
    mkdirat, mknodat, openat, readlinkat, statat, symlinkat, utimensat,
};
use rustix::io::Errno;

use crate::error::Called;
use crate::resolve;

/// Copies everything in the directory `source` into the directory `target`: directories, files, links, device nodes,
/// with owners, modes, times and extended attributes. Links are copied, never followed.
///
/// Directories wait by their path, so that a deep or wide tree costs memory and no descriptors.
pub(crate) fn copy(source: BorrowedFd<'_>, target: BorrowedFd<'_>) -> SysResult<()> {
    let mut waiting = vec![PathBuf::new()];
    let mut made = Vec::new();
    while let Some(path) = waiting.pop() {
        let place = Place::open(source, target, &path)?;
        let entries = Dir::read_from(&place.from).called_on("getdents64", &path)?;
        for entry in entries {
            let entry = entry.called_on("getdents64", &path)?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if matches!(name.as_bytes(), b"." | b"..") {
                continue;
            }
            if place.copy(name)? == FileType::Directory {
                waiting.push(path.join(name));
            }
        }
        if !path.as_os_str().is_empty() {
            made.push(path);
        }
    }
    // Times of directories last: making something in one changes them.
    for path in made.iter().rev() {
        let stat = statat(source, path, AtFlags::SYMLINK_NOFOLLOW).called_on("stat", path)?;
        set_times(target, path.as_os_str(), &stat)?;
    }
    Ok(())
}

/// A directory and its copy.
struct Place {
    from: std::os::fd::OwnedFd,
    to: std::os::fd::OwnedFd,
}

impl Place {
    fn open(source: BorrowedFd<'_>, target: BorrowedFd<'_>, path: &Path) -> SysResult<Self> {
        let path = if path.as_os_str().is_empty() {
            Path::new(".")
        } else {
            path
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        Ok(Self {
            from: resolve::open_without_links(source, path, flags)?,
            to: resolve::open_without_links(target, path, flags)?,
        })
    }

    /// Copies one entry; what is in a directory is left to the caller.
    fn copy(&self, name: &OsStr) -> SysResult<FileType> {
        let stat = statat(&self.from, name, AtFlags::SYMLINK_NOFOLLOW).called_on("stat", name)?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        // Closed to all but us until the owner is right.
        let closed = Mode::from_raw_mode(0o700);
        match kind {
            FileType::Directory => mkdirat(&self.to, name, closed).called_on("mkdir", name)?,
            FileType::RegularFile => self.copy_content(name)?,
            FileType::Symlink => {
                let link = readlinkat(&self.from, name, Vec::new()).called_on("readlink", name)?;
                symlinkat(&link, &self.to, name).called_on("symlink", name)?;
            }
            _ => mknodat(&self.to, name, kind, closed, stat.st_rdev).called_on("mknod", name)?,
        }
        self.copy_attributes(name, kind, &stat)?;
        Ok(kind)
    }

    fn copy_content(&self, name: &OsStr) -> SysResult<()> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let from = openat(&self.from, name, flags, Mode::empty()).called_on("open", name)?;
        let length = rustix::fs::fstat(&from).called_on("fstat", name)?.st_size;
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        let to =
            openat(&self.to, name, flags, Mode::from_raw_mode(0o600)).called_on("open", name)?;
        copy_file(from.as_fd(), to.as_fd(), u64::try_from(length).unwrap_or(0))
    }

    fn copy_attributes(&self, name: &OsStr, kind: FileType, stat: &Stat) -> SysResult<()> {
        let owner = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        chownat(&self.to, name, Some(owner.0), Some(owner.1), flags).called_on("chown", name)?;
        if kind != FileType::Symlink {
            let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
            chmodat(&self.to, name, mode, AtFlags::empty()).called_on("chmod", name)?;
        }
        for (key, value) in xattrs_at(self.from.as_fd(), name).called_on("listxattr", name)? {
            match set_xattr_at(self.to.as_fd(), name, &key, &value) {
                Ok(()) => {}
                // A tmpfs does not have every kind of them, a user namespace may not set every kind.
                Err(Errno::NOTSUP | Errno::PERM) => {}
                Err(errno) => return Err(SysError::on("setxattr", name, errno)),
            }
        }
        set_times(self.to.as_fd(), name, stat)
    }
}

fn set_times(directory: BorrowedFd<'_>, name: &OsStr, stat: &Stat) -> SysResult<()> {
    let times = Timestamps {
        last_access: Timespec {
            tv_sec: stat.st_atime,
            tv_nsec: stat.st_atime_nsec as _,
        },
        last_modification: Timespec {
            tv_sec: stat.st_mtime,
            tv_nsec: stat.st_mtime_nsec as _,
        },
    };
    utimensat(directory, name, &times, AtFlags::SYMLINK_NOFOLLOW).called_on("utimensat", name)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    use super::*;

    #[test]
    fn a_tree_is_copied_with_its_links_and_modes() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::create_dir_all(from.path().join("a/b")).unwrap();
        fs::write(from.path().join("a/b/file"), "text").unwrap();
        let mode = fs::Permissions::from_mode(0o4750);
        fs::set_permissions(from.path().join("a/b/file"), mode).unwrap();
        symlink("/nowhere", from.path().join("a/link")).unwrap();
        let open = |path: &Path| fs::File::open(path).unwrap();
        copy(open(from.path()).as_fd(), open(to.path()).as_fd()).unwrap();
        let file = to.path().join("a/b/file");
        assert_eq!(fs::read_to_string(&file).unwrap(), "text");
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o7777, 0o4750);
        let link = fs::read_link(to.path().join("a/link")).unwrap();
        assert_eq!(link, Path::new("/nowhere"));
        for name in ["a", "a/b", "a/b/file"] {
            let time = |place: &Path| fs::metadata(place.join(name)).unwrap().mtime();
            assert_eq!(time(from.path()), time(to.path()));
        }
    }
}
