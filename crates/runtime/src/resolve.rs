//! Paths inside the root: the image and the container's own processes control them, so every look-up is the
//! kernel's, confined to the root by openat2(2), and what comes of it is a descriptor.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use ketch_sys::Error as SysError;
use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, ResolveFlags, StatxFlags, fstatfs, mkdirat, openat2,
    readlinkat, statx,
};
use rustix::io::Errno;

use crate::error::Called;

/// `statfs` type of procfs.
pub(crate) const PROC_MAGIC: u64 = 0x9fa0;
/// `statfs` type of devpts.
pub(crate) const DEVPTS_MAGIC: u64 = 0x1cd1;

const MAX_LINKS: usize = 40;

/// Opens `path` below `root`; symbolic links stay inside, magic links are refused.
pub(crate) fn open(root: BorrowedFd<'_>, path: &Path, flags: OFlags) -> Result<OwnedFd, SysError> {
    open_with(
        root,
        path,
        flags,
        ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
    )
}

/// The same, refusing symbolic links too.
pub(crate) fn open_without_links(
    root: BorrowedFd<'_>,
    path: &Path,
    flags: OFlags,
) -> Result<OwnedFd, SysError> {
    open_with(
        root,
        path,
        flags,
        ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS,
    )
}

fn open_with(
    root: BorrowedFd<'_>,
    path: &Path,
    flags: OFlags,
    resolve: ResolveFlags,
) -> Result<OwnedFd, SysError> {
    loop {
        match openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            // EAGAIN: a rename elsewhere raced with a `..` in the path.
            Err(Errno::AGAIN | Errno::INTR) => {}
            other => return other.called_on("openat2", path),
        }
    }
}

/// What a mount point must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PointKind {
    /// A directory.
    Directory,
    /// Anything else.
    File,
}

/// Opens the mount point `path` (`O_PATH`) and makes what is missing of it.
pub(crate) fn mount_point(
    root: BorrowedFd<'_>,
    path: &Path,
    kind: PointKind,
) -> Result<OwnedFd, SysError> {
    open_or_make(root, path, kind).map(|(point, _)| point)
}

/// The same, and whether it was made.
pub(crate) fn open_or_make(
    root: BorrowedFd<'_>,
    path: &Path,
    kind: PointKind,
) -> Result<(OwnedFd, bool), SysError> {
    match open(root, path, OFlags::PATH) {
        Err(error) if error.errno == Errno::NOENT => {}
        other => return other.map(|point| (point, false)),
    }
    let (parent, name) = make_parent(root, path)?;
    match kind {
        PointKind::Directory => make_directory(parent.as_fd(), Path::new(&name)),
        PointKind::File => make_file(parent.as_fd(), Path::new(&name)),
    }
    .map_err(|error| SysError::on(error.call, path, error.errno))?;
    Ok((open(root, path, OFlags::PATH)?, true))
}

/// Opens the file `name` in the directory `directory` (`O_PATH`), making it if it is missing. The last name must be
/// no link, which could lead to a file that means something to the kernel.
///
/// # Errors
/// `ELOOP` for a link, `EISDIR` for a directory, `EXDEV` for a file of procfs.
pub(crate) fn plain_file(
    root: BorrowedFd<'_>,
    directory_path: &Path,
    name: &str,
) -> Result<OwnedFd, SysError> {
    let parent = directory(root, directory_path)?;
    make_file(parent.as_fd(), Path::new(name))?;
    let path = directory_path.join(name);
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(&parent, name, flags, Mode::empty()).called_on("open", &path)?;
    let stat = rustix::fs::fstat(&file).called_on("fstat", &path)?;
    let refused = match FileType::from_raw_mode(stat.st_mode) {
        FileType::Symlink => Errno::LOOP,
        FileType::Directory => Errno::ISDIR,
        _ if is_on(&file, PROC_MAGIC)? => Errno::XDEV,
        _ => return Ok(file),
    };
    Err(SysError::on(
        "check that it is an ordinary file",
        path,
        refused,
    ))
}

/// Opens the directory `path` (`O_PATH`) and makes what is missing of it, mode 0755.
pub(crate) fn directory(root: BorrowedFd<'_>, path: &Path) -> Result<OwnedFd, SysError> {
    let point = mount_point(root, path, PointKind::Directory)?;
    let stat = rustix::fs::fstat(&point).called_on("fstat", path)?;
    if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
        Ok(point)
    } else {
        Err(SysError::on("open", path, Errno::NOTDIR))
    }
}

/// Opens the parent directory of `path`, making what is missing, and returns it with the last name. Symbolic links
/// that lead nowhere are followed to where they point inside the root.
pub(crate) fn make_parent(
    root: BorrowedFd<'_>,
    path: &Path,
) -> Result<(OwnedFd, std::ffi::OsString), SysError> {
    let mut path = path.to_owned();
    for _ in 0..MAX_LINKS {
        let name = match path.components().next_back() {
            Some(Component::Normal(name)) => name.to_owned(),
            _ => return Err(SysError::on("mkdir", path, Errno::INVAL)),
        };
        let above = path.parent().unwrap_or(Path::new("/")).to_owned();
        let parent = match open(root, &above, OFlags::PATH | OFlags::DIRECTORY) {
            Err(error) if error.errno == Errno::NOENT => {
                let (grandparent, directory) = make_parent(root, &above)?;
                make_directory(grandparent.as_fd(), Path::new(&directory))?;
                open(root, &above, OFlags::PATH | OFlags::DIRECTORY)?
            }
            other => other?,
        };
        match readlinkat(&parent, &name, Vec::new()) {
            // The last name is a link: go on with what it says, from its own directory.
            Ok(target) => path = join_link(&above, target.to_bytes()),
            Err(Errno::NOENT | Errno::INVAL) => return Ok((parent, name)),
            Err(errno) => return Err(SysError::on("readlink", path, errno)),
        }
    }
    Err(SysError::on("open", path, Errno::LOOP))
}

fn join_link(directory: &Path, target: &[u8]) -> PathBuf {
    use std::os::unix::ffi::OsStrExt;
    directory.join(std::ffi::OsStr::from_bytes(target))
}

fn make_directory(parent: BorrowedFd<'_>, name: &Path) -> Result<(), SysError> {
    match mkdirat(parent, name, Mode::from_raw_mode(0o755)) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(errno) => Err(SysError::on("mkdir", name, errno)),
    }
}

fn make_file(parent: BorrowedFd<'_>, name: &Path) -> Result<(), SysError> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    match rustix::fs::openat(parent, name, flags, Mode::from_raw_mode(0o644)) {
        Ok(_) | Err(Errno::EXIST) => Ok(()),
        Err(errno) => Err(SysError::on("open", name, errno)),
    }
}

/// Whether both are the same directory of the same mount.
pub(crate) fn is_same(a: BorrowedFd<'_>, b: BorrowedFd<'_>) -> Result<bool, SysError> {
    let look = |fd| -> Result<_, SysError> {
        let wanted = StatxFlags::INO | StatxFlags::MNT_ID;
        let seen = statx(fd, "", AtFlags::EMPTY_PATH, wanted).called("statx")?;
        Ok((
            seen.stx_dev_major,
            seen.stx_dev_minor,
            seen.stx_ino,
            seen.stx_mnt_id,
        ))
    };
    Ok(look(a)? == look(b)?)
}

/// Whether `fd` is on a file system of type `magic`.
pub(crate) fn is_on(fd: impl AsFd, magic: u64) -> Result<bool, SysError> {
    let statfs = fstatfs(fd).called("fstatfs")?;
    Ok(statfs.f_type as u64 == magic)
}

/// Whether `fd` is a directory.
pub(crate) fn is_directory(fd: impl AsFd) -> Result<bool, SysError> {
    let stat = rustix::fs::fstat(fd).called("fstat")?;
    Ok(FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn root(directory: &Path) -> OwnedFd {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::open(directory, flags, Mode::empty()).unwrap()
    }

    #[test]
    fn missing_mount_points_are_made_inside() {
        let scratch = tempfile::tempdir().unwrap();
        let root = root(scratch.path());
        mount_point(root.as_fd(), Path::new("/a/b/c"), PointKind::Directory).unwrap();
        mount_point(root.as_fd(), Path::new("/a/d/f"), PointKind::File).unwrap();
        assert!(scratch.path().join("a/b/c").is_dir());
        assert!(scratch.path().join("a/d/f").is_file());
    }

    #[test]
    fn links_to_nowhere_are_followed_inside_only() {
        let scratch = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        let target = outside.path().join("x");
        symlink(&target, scratch.path().join("absolute")).unwrap();
        symlink("../../../../relative", scratch.path().join("up")).unwrap();
        let root = root(scratch.path());
        mount_point(root.as_fd(), Path::new("/absolute/y"), PointKind::Directory).unwrap();
        mount_point(root.as_fd(), Path::new("/up"), PointKind::File).unwrap();
        assert!(!target.exists());
        let inside = scratch.path().join(target.strip_prefix("/").unwrap());
        assert!(inside.join("y").is_dir());
        assert!(scratch.path().join("relative").is_file());
    }

    #[test]
    fn a_circle_of_links_is_an_error() {
        let scratch = tempfile::tempdir().unwrap();
        symlink("b", scratch.path().join("a")).unwrap();
        symlink("a", scratch.path().join("b")).unwrap();
        let root = root(scratch.path());
        let error = mount_point(root.as_fd(), Path::new("/a/x"), PointKind::File).unwrap_err();
        assert_eq!(error.errno, Errno::LOOP);
    }

    #[test]
    fn a_plain_file_is_no_link() {
        let scratch = tempfile::tempdir().unwrap();
        let root = root(scratch.path());
        let file = |name| plain_file(root.as_fd(), Path::new("/dev"), name);
        file("made").unwrap();
        assert!(scratch.path().join("dev/made").is_file());
        symlink("made", scratch.path().join("dev/link")).unwrap();
        assert_eq!(file("link").unwrap_err().errno, Errno::LOOP);
        std::fs::create_dir(scratch.path().join("dev/sub")).unwrap();
        assert_eq!(file("sub").unwrap_err().errno, Errno::ISDIR);
    }

    #[test]
    fn links_are_refused_where_none_may_be() {
        let scratch = tempfile::tempdir().unwrap();
        std::fs::create_dir(scratch.path().join("real")).unwrap();
        symlink("real", scratch.path().join("proc")).unwrap();
        let root = root(scratch.path());
        let opened = open_without_links(root.as_fd(), Path::new("/proc"), OFlags::PATH);
        assert_eq!(opened.unwrap_err().errno, Errno::LOOP);
    }
}
