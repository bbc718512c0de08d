//! Files and directories, always relative to an open directory: resolution that cannot leave a root, whole
//! replacement of a file, extended attributes, copies that share blocks, removal that follows no link.
//!
//! Next to nothing here needs `unsafe`; it is here because each of these is easy to get wrong at the call site.

mod copy;
mod remove;
mod unnamed;
mod writeback;
mod xattr;

use std::ffi::{CString, OsStr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags, ResolveFlags};
use rustix::io::Errno;

pub use copy::copy_file;
pub use remove::{remove_tree, remove_tree_at};
pub use unnamed::{UnnamedFile, scratch_file};
pub use writeback::{begin_writing, finish_writing, release_written};
pub use xattr::{path_at, remove_xattr_at, set_xattr_at, xattrs_at};

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

    /// As [`Root::open_at`], and no link at all is followed: `ELOOP` for a path that goes through one.
    ///
    /// # Errors
    /// The kernel's.
    pub fn open_without_links(&self, path: &Path, flags: OFlags, mode: Mode) -> Result<OwnedFd> {
        let resolve = ResolveFlags::NO_SYMLINKS;
        open_resolving(self.directory.as_fd(), path, flags, mode, resolve)
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
    open_resolving(root, path, flags, mode, ResolveFlags::NO_MAGICLINKS)
}

fn open_resolving(
    root: BorrowedFd<'_>,
    path: &Path,
    flags: OFlags,
    mode: Mode,
    resolve: ResolveFlags,
) -> rustix::io::Result<OwnedFd> {
    let resolve = ResolveFlags::IN_ROOT | resolve;
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

/// Whether the name is one that [`replace_file`] makes: without a writer it is what a crash left.
pub fn is_temporary(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().as_bytes();
    name.starts_with(b".") && name.ends_with(b".tmp")
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
