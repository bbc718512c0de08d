//! Mount points: files and directories that a mount needs are made in the step's layer and must not stay there.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use ketch_engine::container::ALWAYS_MOUNTED;
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::StepError;

/// Paths that were not there before the step.
#[derive(Debug)]
pub struct Stubs {
    /// Deepest first, each with the directories above it that were missing too.
    missing: Vec<PathBuf>,
}

impl Stubs {
    /// Notes which of the mount points, and of the directories above them, are missing in `root`.
    pub fn find(root: BorrowedFd<'_>, targets: &[&str]) -> Result<Self, StepError> {
        let mut missing = Vec::new();
        for target in ALWAYS_MOUNTED.iter().chain(targets) {
            for path in Path::new(target).ancestors() {
                if path == Path::new("/") || exists(root, path)? {
                    break;
                }
                missing.push(path.to_owned());
            }
        }
        missing.sort();
        missing.dedup();
        missing.reverse();
        Ok(Self { missing })
    }

    /// Removes those that are there now and empty.
    pub fn remove(&self, root: BorrowedFd<'_>) -> Result<(), StepError> {
        for path in &self.missing {
            remove_empty(root, path).map_err(|errno| io("unlinkat", path, errno))?;
        }
        Ok(())
    }
}

fn exists(root: BorrowedFd<'_>, path: &Path) -> Result<bool, StepError> {
    match ketch_sys::fs::open_in_root(root, path, OFlags::PATH, Mode::empty()) {
        Ok(_) => Ok(true),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(false),
        // A link in circles is there, whatever it means.
        Err(Errno::LOOP) => Ok(true),
        Err(errno) => Err(io("openat2", path, errno)),
    }
}

fn remove_empty(root: BorrowedFd<'_>, path: &Path) -> rustix::io::Result<()> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Ok(());
    };
    let parent = match ketch_sys::fs::open_in_root(
        root,
        parent,
        OFlags::PATH | OFlags::DIRECTORY,
        Mode::empty(),
    ) {
        Ok(parent) => parent,
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
        Err(errno) => return Err(errno),
    };
    let stat = match rustix::fs::statat(parent.as_fd(), name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => stat,
        Err(Errno::NOENT) => return Ok(()),
        Err(errno) => return Err(errno),
    };
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => match rustix::fs::unlinkat(&parent, name, AtFlags::REMOVEDIR) {
            // The program put something there: then it is the program's.
            Err(Errno::NOTEMPTY | Errno::EXIST) => Ok(()),
            other => other,
        },
        FileType::RegularFile if stat.st_size == 0 => {
            rustix::fs::unlinkat(&parent, name, AtFlags::empty())
        }
        _ => Ok(()),
    }
}

fn io(call: &'static str, path: &Path, errno: Errno) -> StepError {
    StepError::Io {
        call,
        path: path.to_owned(),
        error: errno.into(),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn only_empty_newcomers_go() {
        let folder = tempfile::tempdir().unwrap();
        let at = |path: &str| folder.path().join(path);
        for directory in ["dev", "etc", "mnt"] {
            fs::create_dir(at(directory)).unwrap();
        }
        fs::write(at("etc/hosts"), "").unwrap();
        let root = ketch_sys::fs::open_directory(folder.path()).unwrap();
        let stubs = Stubs::find(root.as_fd(), &["/mnt/a/b", "/run/secrets/key", "/used"]).unwrap();
        for directory in ["proc", "sys", "mnt/a/b", "run/secrets", "used"] {
            fs::create_dir_all(at(directory)).unwrap();
        }
        for file in ["etc/resolv.conf", "run/secrets/key"] {
            fs::write(at(file), "").unwrap();
        }
        fs::write(at("used/by"), "the program").unwrap();
        fs::write(at("etc/hostname"), "the program's").unwrap();
        stubs.remove(root.as_fd()).unwrap();
        for gone in ["proc", "sys", "mnt/a", "run", "etc/resolv.conf"] {
            assert!(!at(gone).exists(), "{gone}");
        }
        for kept in ["dev", "mnt", "etc/hosts", "etc/hostname", "used/by"] {
            assert!(at(kept).exists(), "{kept}");
        }
    }
}
