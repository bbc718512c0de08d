//! Files and directories, always relative to an open directory: resolution that cannot leave a root, whole
//! replacement of a file, extended attributes, copies that share blocks, removal that follows no link.
//!
//! Nothing here needs `unsafe`; it is here because each of these is easy to get wrong at the call site.

use std::ffi::{CStr, CString, OsStr, OsString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RenameFlags, ResolveFlags, XattrFlags};
use rustix::io::Errno;

use crate::{Error, Result};

/// The longest path the kernel takes in one call, in bytes, without the final NUL (limits.h, `PATH_MAX`).
pub const PATH_MAX_BYTES: usize = 4095;

/// The longest name of one directory entry in bytes (limits.h, `NAME_MAX`).
pub const NAME_MAX_BYTES: usize = 255;

/// A directory that names from an image, an archive or a user are resolved in: absolute names and `..` start and end
/// at this directory, links are followed inside it only (openat2(2), `RESOLVE_IN_ROOT`).
#[derive(Debug)]
pub struct Root {
    directory: OwnedFd,
    label: PathBuf,
}

impl Root {
    /// Opens the directory at `path`, a path of ours.
    ///
    /// # Errors
    /// The kernel's: the directory is missing, is not one, may not be opened.
    pub fn open(path: &Path) -> Result<Self> {
        Ok(Self {
            directory: open_directory(path)?,
            label: path.to_owned(),
        })
    }

    /// Takes an open directory; `label` names it in errors.
    pub fn from_directory(directory: OwnedFd, label: impl Into<PathBuf>) -> Self {
        Self {
            directory,
            label: label.into(),
        }
    }

    /// The directory itself.
    pub fn as_directory(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }

    /// Opens `path` inside the root. Links are followed, the last one too unless `flags` has `NOFOLLOW`; links that
    /// the kernel makes up (`/proc/self/exe`) are not.
    ///
    /// # Errors
    /// The kernel's; `ELOOP` for a kernel-made link.
    pub fn open_at(&self, path: &Path, flags: OFlags, mode: Mode) -> Result<OwnedFd> {
        open_in_root(self.directory.as_fd(), path, flags, mode)
            .map_err(|errno| Error::on("openat2", self.label.join(strip_root(path)), errno))
    }

    /// Opens the directory that has the last component of `path`, and returns that component. A path whose last
    /// component is `.`, `..` or empty names the root or has no name, and is refused with `EINVAL`.
    ///
    /// # Errors
    /// As [`Root::open_at`], of the directory.
    pub fn parent_of<'a>(&self, path: &'a Path) -> Result<(OwnedFd, &'a OsStr)> {
        let Some(name) = path.file_name() else {
            return Err(Error::on(
                "openat2",
                self.label.join(strip_root(path)),
                Errno::INVAL,
            ));
        };
        let parent = path
            .parent()
            .filter(|p| !p.as_os_str().is_empty())
            .unwrap_or(Path::new("."));
        let directory = self.open_at(parent, OFlags::PATH | OFlags::DIRECTORY, Mode::empty())?;
        Ok((directory, name))
    }
}

/// `path` without leading slashes, for joining below a root in messages.
fn strip_root(path: &Path) -> &Path {
    path.strip_prefix("/").unwrap_or(path)
}

/// openat2(2) with `RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS`; `O_CLOEXEC` is added. Retries when the kernel asks for
/// it because a rename raced with the lookup.
///
/// # Errors
/// The kernel's.
pub fn open_in_root(
    root: BorrowedFd<'_>,
    path: &Path,
    flags: OFlags,
    mode: Mode,
) -> rustix::io::Result<OwnedFd> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let mut attempts = 0;
    loop {
        match rustix::fs::openat2(root, path, flags | OFlags::CLOEXEC, mode, resolve) {
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) if attempts < 32 => attempts += 1,
            other => return other,
        }
    }
}

/// Opens a directory for reading and syncing.
///
/// # Errors
/// The kernel's.
pub fn open_directory(path: &Path) -> Result<OwnedFd> {
    rustix::fs::open(
        path,
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .map_err(|errno| Error::on("open", path, errno))
}

/// Opens the directory `name` in `parent` for reading, following no link.
///
/// # Errors
/// The kernel's.
pub fn open_directory_at(parent: BorrowedFd<'_>, name: &OsStr) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(parent, name, flags, Mode::empty())
        .map_err(|errno| Error::on("openat", name, errno))
}

/// Makes what exists under the directory's name survive a power cut (fsync(2) of the directory).
///
/// # Errors
/// The kernel's.
pub fn sync_directory(path: &Path) -> Result<()> {
    let directory = open_directory(path)?;
    rustix::fs::fsync(&directory).map_err(|errno| Error::on("fsync", path, errno))
}

/// Writes everything of the file system that has `directory` to its disk (syncfs(2)). Blocks until it is done.
///
/// # Errors
/// The kernel's, write errors included.
pub fn sync_file_system(directory: BorrowedFd<'_>) -> Result<()> {
    rustix::fs::syncfs(directory).map_err(|errno| Error::new("syncfs", errno))
}

/// Replaces the file at `path` as a whole: a reader sees the old bytes or the new ones. With `sync`, the new ones also
/// survive a power cut once this returns. A crash can leave a file `.<name>.<16 hex>.tmp` beside it.
///
/// # Errors
/// The kernel's; the temporary is then removed.
pub fn replace_file(path: &Path, bytes: &[u8], mode: Mode, sync: bool) -> Result<()> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(Error::on("open", path, Errno::INVAL));
    };
    let directory = open_directory(parent)?;
    let temporary = temporary_name(name);
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(&directory, &*temporary, flags, mode).map_err(|errno| {
        Error::on(
            "openat",
            parent.join(OsStr::from_bytes(temporary.as_bytes())),
            errno,
        )
    })?;
    let written = write_all(file.as_fd(), bytes)
        .and_then(|()| {
            if sync {
                rustix::fs::fsync(&file)
            } else {
                Ok(())
            }
        })
        .map_err(|errno| Error::on("write", path, errno))
        .and_then(|()| {
            rustix::fs::renameat(&directory, &*temporary, &directory, name)
                .map_err(|e| Error::on("rename", path, e))
        });
    if let Err(error) = written {
        let _ = rustix::fs::unlinkat(&directory, &*temporary, AtFlags::empty());
        return Err(error);
    }
    if sync {
        rustix::fs::fsync(&directory).map_err(|errno| Error::on("fsync", parent, errno))?;
    }
    Ok(())
}

/// A name beside `name` that nobody else uses: `.<name>.<16 hex>.tmp`.
fn temporary_name(name: &OsStr) -> CString {
    let mut text = b".".to_vec();
    // Room for the suffix within NAME_MAX.
    text.extend_from_slice(&name.as_bytes()[..name.len().min(NAME_MAX_BYTES - 22)]);
    text.push(b'.');
    text.extend_from_slice(random_hex(8).as_bytes());
    text.extend_from_slice(b".tmp");
    CString::new(text).unwrap_or_default()
}

/// `bytes` random bytes from the kernel as lower-case hex digits.
pub fn random_hex(bytes: usize) -> String {
    let mut buffer = vec![0u8; bytes];
    let mut filled = 0;
    while filled < buffer.len() {
        // getrandom(2) without flags fails only while the machine boots, and then waits instead.
        if let Ok(count) =
            rustix::rand::getrandom(&mut buffer[filled..], rustix::rand::GetRandomFlags::empty())
        {
            filled += count;
        }
    }
    use std::fmt::Write;
    buffer
        .iter()
        .fold(String::with_capacity(bytes * 2), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
}

/// Writes all of `bytes` at the file's position.
///
/// # Errors
/// The kernel's; `ENOSPC` when nothing could be written.
pub fn write_all(file: BorrowedFd<'_>, mut bytes: &[u8]) -> rustix::io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::write(file, bytes) {
            Ok(0) => return Err(Errno::NOSPC),
            Ok(count) => bytes = &bytes[count..],
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// Renames without replacing: `EEXIST` if `new_path` exists.
///
/// # Errors
/// The kernel's.
pub fn rename_exclusive(old_path: &Path, new_path: &Path) -> Result<()> {
    rustix::fs::renameat_with(
        rustix::fs::CWD,
        old_path,
        rustix::fs::CWD,
        new_path,
        RenameFlags::NOREPLACE,
    )
    .map_err(|errno| Error::on("renameat2", new_path, errno))
}

/// Swaps two names in one step (`RENAME_EXCHANGE`).
///
/// # Errors
/// The kernel's; `EINVAL` where the file system cannot.
pub fn rename_exchange(one: &Path, other: &Path) -> Result<()> {
    rustix::fs::renameat_with(
        rustix::fs::CWD,
        one,
        rustix::fs::CWD,
        other,
        RenameFlags::EXCHANGE,
    )
    .map_err(|errno| Error::on("renameat2", other, errno))
}

/// Copies `length` bytes from the start of `source` to the start of `target`: shares the blocks where the file system
/// can (`FICLONE`), else lets the kernel copy (copy_file_range(2)), else reads and writes.
///
/// # Errors
/// The kernel's; `EIO` when the source ends early.
pub fn copy_file(source: BorrowedFd<'_>, target: BorrowedFd<'_>, length: u64) -> Result<()> {
    if rustix::fs::ioctl_ficlone(target, source).is_ok() {
        return Ok(());
    }
    let mut done = 0u64;
    while done < length {
        let (mut from, mut to) = (done, done);
        let want = usize::try_from(length - done)
            .unwrap_or(usize::MAX)
            .min(1 << 30);
        match rustix::fs::copy_file_range(source, Some(&mut from), target, Some(&mut to), want) {
            Ok(0) => break,
            Ok(count) => done += count as u64,
            Err(Errno::INTR) => {}
            // Not supported here (other file system, special file, old kernel): copy by hand.
            Err(
                Errno::XDEV
                | Errno::INVAL
                | Errno::NOSYS
                | Errno::OPNOTSUPP
                | Errno::BADF
                | Errno::PERM,
            ) => break,
            Err(errno) => return Err(Error::new("copy_file_range", errno)),
        }
    }
    copy_by_hand(source, target, done, length)
}

fn copy_by_hand(
    source: BorrowedFd<'_>,
    target: BorrowedFd<'_>,
    start: u64,
    length: u64,
) -> Result<()> {
    let mut buffer = vec![0u8; if start < length { 1 << 17 } else { 0 }];
    let mut done = start;
    while done < length {
        let want = usize::try_from(length - done)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        let count = match rustix::io::pread(source, &mut buffer[..want], done) {
            Ok(0) => return Err(Error::new("pread", Errno::IO)),
            Ok(count) => count,
            Err(Errno::INTR) => continue,
            Err(errno) => return Err(Error::new("pread", errno)),
        };
        let mut written = 0;
        while written < count {
            match rustix::io::pwrite(target, &buffer[written..count], done + written as u64) {
                Ok(0) => return Err(Error::new("pwrite", Errno::NOSPC)),
                Ok(n) => written += n,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(Error::new("pwrite", errno)),
            }
        }
        done += count as u64;
    }
    Ok(())
}

/// The path by which calls that take no directory descriptor reach `name` in `directory` without following any link of
/// the tree: `/proc/self/fd/<n>/<name>`.
pub fn path_at(directory: BorrowedFd<'_>, name: &OsStr) -> PathBuf {
    let mut path = PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd()));
    path.push(name);
    path
}

/// Sets an extended attribute of `name` in `directory`, of the link itself if it is one.
///
/// # Errors
/// The kernel's.
pub fn set_xattr_at(
    directory: BorrowedFd<'_>,
    name: &OsStr,
    key: &CStr,
    value: &[u8],
) -> rustix::io::Result<()> {
    rustix::fs::lsetxattr(path_at(directory, name), key, value, XattrFlags::empty())
}

/// Removes an extended attribute of `name` in `directory`; it may be missing.
///
/// # Errors
/// The kernel's.
pub fn remove_xattr_at(
    directory: BorrowedFd<'_>,
    name: &OsStr,
    key: &CStr,
) -> rustix::io::Result<()> {
    match rustix::fs::lremovexattr(path_at(directory, name), key) {
        Err(Errno::NODATA) => Ok(()),
        other => other,
    }
}

/// The extended attributes of `name` in `directory` (of the link itself if it is one), sorted by key. Empty where the
/// file system has none.
///
/// # Errors
/// The kernel's.
pub fn xattrs_at(
    directory: BorrowedFd<'_>,
    name: &OsStr,
) -> rustix::io::Result<Vec<(CString, Vec<u8>)>> {
    let path = path_at(directory, name);
    let keys = match fill(|buffer| rustix::fs::llistxattr(&path, buffer)) {
        Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
        other => other?,
    };
    let mut found = Vec::new();
    for key in keys.split(|byte| *byte == 0).filter(|key| !key.is_empty()) {
        let Ok(key) = CString::new(key) else { continue };
        match fill(|buffer| rustix::fs::lgetxattr(&path, &*key, buffer)) {
            Ok(value) => found.push((key, value)),
            // Gone since the listing, or listed though not for us to read.
            Err(Errno::NODATA | Errno::PERM | Errno::ACCESS) => {}
            Err(errno) => return Err(errno),
        }
    }
    found.sort();
    Ok(found)
}

/// Calls with a growing buffer until the value fits; the kernel's own limit is 64 KiB.
fn fill(
    mut call: impl FnMut(&mut [u8]) -> rustix::io::Result<usize>,
) -> rustix::io::Result<Vec<u8>> {
    let mut buffer = vec![0u8; 256];
    loop {
        match call(&mut buffer) {
            Ok(length) => {
                buffer.truncate(length);
                return Ok(buffer);
            }
            Err(Errno::RANGE) if buffer.len() < 1 << 20 => buffer.resize(buffer.len() * 4, 0),
            Err(errno) => return Err(errno),
        }
    }
}

/// Removes `name` in `directory` with everything below it, following no link and crossing no mount (`EBUSY` there).
/// It may be missing. Another process may remove the same tree at the same time.
///
/// # Errors
/// The first failure; what could be removed is gone.
pub fn remove_tree_at(directory: BorrowedFd<'_>, name: &OsStr) -> Result<()> {
    match rustix::fs::unlinkat(directory, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(errno) => return Err(Error::on("unlinkat", name, errno)),
    }
    let top = match open_directory_at(directory, name) {
        Ok(top) => top,
        Err(Error {
            errno: Errno::NOENT,
            ..
        }) => return Ok(()),
        Err(error) => return Err(error),
    };
    empty_directory(top)?;
    match rustix::fs::unlinkat(directory, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(Error::on("unlinkat", name, errno)),
    }
}

/// Removes the tree at `path`, a path of ours; see [`remove_tree_at`].
///
/// # Errors
/// As [`remove_tree_at`].
pub fn remove_tree(path: &Path) -> Result<()> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(Error::on("unlinkat", path, Errno::INVAL));
    };
    match open_directory(parent) {
        Ok(directory) => remove_tree_at(directory.as_fd(), name).map_err(|error| Error {
            path: Some(path.into()),
            ..error
        }),
        Err(Error {
            errno: Errno::NOENT,
            ..
        }) => Ok(()),
        Err(error) => Err(error),
    }
}

/// A directory that is being emptied.
struct Level {
    directory: OwnedFd,
    /// Its name in the level above.
    name: OsString,
    /// Directories found in it.
    below: Vec<OsString>,
}

/// Removes everything in `top`, depth first. Open directories are bounded: what is deeper is moved up under the top
/// first, and its turn comes there.
fn empty_directory(top: OwnedFd) -> Result<()> {
    /// Levels kept open at once.
    const DEPTH: usize = 64;
    let below = clear_files(top.as_fd())?;
    let mut levels = vec![Level {
        directory: top,
        name: OsString::new(),
        below,
    }];
    while let Some(mut level) = levels.pop() {
        let Some(name) = level.below.pop() else {
            if let Some(above) = levels.last() {
                match rustix::fs::unlinkat(&above.directory, &*level.name, AtFlags::REMOVEDIR) {
                    Ok(()) | Err(Errno::NOENT) => {}
                    Err(errno) => return Err(Error::on("unlinkat", level.name, errno)),
                }
            }
            continue;
        };
        if levels.len() >= DEPTH {
            let moved = OsString::from(format!(".deep.{}", random_hex(8)));
            match rustix::fs::renameat(&level.directory, &*name, &levels[0].directory, &*moved) {
                Ok(()) => levels[0].below.push(moved),
                Err(Errno::NOENT) => {}
                Err(errno) => return Err(Error::on("renameat", name, errno)),
            }
            levels.push(level);
            continue;
        }
        let opened = open_directory_at(level.directory.as_fd(), &name);
        levels.push(level);
        match opened {
            Ok(directory) => {
                let below = clear_files(directory.as_fd())?;
                levels.push(Level {
                    directory,
                    name,
                    below,
                });
            }
            Err(Error {
                errno: Errno::NOENT,
                ..
            }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Removes what is not a directory in `directory`, and returns the names of the directories in it.
fn clear_files(directory: BorrowedFd<'_>) -> Result<Vec<OsString>> {
    let mut entries =
        rustix::fs::Dir::read_from(directory).map_err(|errno| Error::new("getdents64", errno))?;
    let mut below = Vec::new();
    while let Some(entry) = entries.read() {
        let entry = entry.map_err(|errno| Error::new("getdents64", errno))?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        let owned = || OsStr::from_bytes(name.to_bytes()).to_owned();
        if entry.file_type() == FileType::Directory {
            below.push(owned());
            continue;
        }
        match rustix::fs::unlinkat(directory, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            // A file system that does not tell types in its listing.
            Err(Errno::ISDIR) => below.push(owned()),
            Err(errno) => return Err(Error::on("unlinkat", owned(), errno)),
        }
    }
    Ok(below)
}
