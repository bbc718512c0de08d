//! Files that get their name when they are whole.

use std::ffi::{CString, OsStr};
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;

use super::{open_directory, temporary_name};
use crate::{Error, Result};

/// A file without a name in a directory, for reading and writing by its owner only. It is gone when it is closed; where
/// the file system has no unnamed files, it has a name for a moment.
///
/// # Errors
/// The kernel's.
pub fn scratch_file(directory: BorrowedFd<'_>) -> Result<File> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    let mode = Mode::from(0o600);
    match rustix::fs::openat(directory, c".", flags | OFlags::TMPFILE, mode) {
        Ok(file) => Ok(File::from(file)),
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => {
            let name = temporary_name(OsStr::new("scratch"));
            let flags = flags | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
            let file = rustix::fs::openat(directory, &*name, flags, mode)
                .map_err(|errno| Error::new("openat", errno))?;
            rustix::fs::unlinkat(directory, &*name, AtFlags::empty())
                .map_err(|errno| Error::new("unlinkat", errno))?;
            Ok(File::from(file))
        }
        Err(errno) => Err(Error::new("openat", errno)),
    }
}

/// A file that is to be at `path` once it is whole. Dropping it, or the end of the process by whatever cause, leaves
/// nothing; where the file system has no unnamed files (`O_TMPFILE`), a killed process leaves `.<name>.<16 hex>.tmp`.
#[derive(Debug)]
pub struct UnnamedFile {
    file: File,
    directory: OwnedFd,
    path: PathBuf,
    /// Its name so far, where there are no unnamed files.
    temporary: Option<CString>,
}

impl UnnamedFile {
    /// Makes an empty one, to be written.
    ///
    /// # Errors
    /// The kernel's; `EINVAL` for a path without a last component.
    pub fn create(path: &Path, mode: Mode) -> Result<Self> {
        let Some(name) = path.file_name() else {
            return Err(Error::on("open", path, Errno::INVAL));
        };
        let parent = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let directory = open_directory(parent)?;
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        let opened = rustix::fs::openat(&directory, c".", flags | OFlags::TMPFILE, mode);
        let (file, temporary) = match opened {
            Ok(file) => (file, None),
            // Not every file system can, and each has its own way to say so.
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => {
                let name = temporary_name(name);
                let flags = flags | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
                let file = rustix::fs::openat(&directory, &*name, flags, mode)
                    .map_err(|errno| Error::on("openat", path, errno))?;
                (file, Some(name))
            }
            Err(errno) => return Err(Error::on("openat", parent, errno)),
        };
        Ok(Self {
            file: File::from(file),
            directory,
            path: path.to_owned(),
            temporary,
        })
    }

    /// The file, to write to.
    pub fn file(&mut self) -> &mut File {
        &mut self.file
    }

    /// Gives it its name, in the place of whatever had it. Its bytes are on the disk before that.
    ///
    /// # Errors
    /// The kernel's; nothing is left of the file then.
    pub fn persist(mut self) -> Result<()> {
        rustix::fs::fdatasync(&self.file).map_err(|e| Error::on("fdatasync", &self.path, e))?;
        let name = self.path.file_name().unwrap_or(OsStr::new("")).to_owned();
        if self.temporary.is_none() {
            match link(self.file.as_fd(), self.directory.as_fd(), &name) {
                Ok(()) => return Ok(()),
                Err(Errno::EXIST) => {}
                Err(errno) => return Err(Error::on("linkat", &self.path, errno)),
            }
            // linkat(2) does not replace: for the moment until the rename it has another name.
            let aside = temporary_name(&name);
            link(
                self.file.as_fd(),
                self.directory.as_fd(),
                OsStr::from_bytes(aside.as_bytes()),
            )
            .map_err(|errno| Error::on("linkat", &self.path, errno))?;
            self.temporary = Some(aside);
        }
        if let Some(temporary) = &self.temporary {
            rustix::fs::renameat(&self.directory, &**temporary, &self.directory, &*name)
                .map_err(|errno| Error::on("renameat", &self.path, errno))?;
            self.temporary = None;
        }
        Ok(())
    }
}

/// By the name in /proc, as open(2) shows for `O_TMPFILE`: linking a descriptor itself needs a capability.
fn link(
    file: std::os::fd::BorrowedFd<'_>,
    directory: std::os::fd::BorrowedFd<'_>,
    name: &OsStr,
) -> rustix::io::Result<()> {
    let own = format!("/proc/self/fd/{}", file.as_raw_fd());
    rustix::fs::linkat(CWD, own.as_str(), directory, name, AtFlags::SYMLINK_FOLLOW)
}

impl Drop for UnnamedFile {
    fn drop(&mut self) {
        if let Some(temporary) = &self.temporary {
            let _ = rustix::fs::unlinkat(&self.directory, &**temporary, AtFlags::empty());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_file_appears_whole_or_not_at_all() {
        let dir = std::env::temp_dir().join(format!("ketch-sys-{}", super::super::random_hex(8)));
        std::fs::create_dir(&dir).unwrap();
        let path = dir.join("out");
        let mut file = UnnamedFile::create(&path, Mode::from(0o644)).unwrap();
        file.file().write_all(b"half").unwrap();
        drop(file);
        assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 0);
        for text in ["first", "second"] {
            let mut file = UnnamedFile::create(&path, Mode::from(0o644)).unwrap();
            file.file().write_all(text.as_bytes()).unwrap();
            file.persist().unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        }
        assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 1);
        assert!(UnnamedFile::create(Path::new("/"), Mode::from(0o644)).is_err());
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
