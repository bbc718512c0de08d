//! Open-file-description locks (fcntl(2), `F_OFD_SETLK`, `F_OFD_GETLK`): held by the open file, not by the process,
//! so that they live as long as any descriptor of that open file, also across fork; and others can *ask* whether one
//! is held without taking it. `rustix` offers only the per-process kind, which a stray `close` loses.

use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::io::Errno;

use crate::{Error, Result};

/// The kind of a lock on a whole file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Any number of holders; needs a readable descriptor.
    Shared,
    /// One holder; needs a writable descriptor.
    Exclusive,
}

impl Kind {
    fn raw(self) -> libc::c_short {
        // The constants are 0 to 2, whatever type the target's C library gives them.
        match self {
            Self::Shared => libc::F_RDLCK as libc::c_short,
            Self::Exclusive => libc::F_WRLCK as libc::c_short,
        }
    }
}

/// Takes a lock on the whole file if nobody else's forbids it. False: another open file holds it.
///
/// # Errors
/// fcntl(2)'s other than `EAGAIN`, which is the answer false.
pub fn try_lock(file: BorrowedFd<'_>, kind: Kind) -> Result<bool> {
    let mut request = whole_file(kind.raw());
    match control(file, libc::F_OFD_SETLK, &mut request) {
        Ok(()) => Ok(true),
        Err(Errno::AGAIN | Errno::ACCESS) => Ok(false),
        Err(errno) => Err(Error::new("fcntl(F_OFD_SETLK)", errno)),
    }
}

/// Takes a lock on the whole file, waiting for others as long as it takes.
///
/// # Errors
/// fcntl(2)'s; an interruption by a signal is retried.
pub fn lock(file: BorrowedFd<'_>, kind: Kind) -> Result<()> {
    loop {
        let mut request = whole_file(kind.raw());
        match control(file, libc::F_OFD_SETLKW, &mut request) {
            Ok(()) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(Error::new("fcntl(F_OFD_SETLKW)", errno)),
        }
    }
}

/// Gives back a lock; succeeds where there was none.
///
/// # Errors
/// fcntl(2)'s.
pub fn unlock(file: BorrowedFd<'_>) -> Result<()> {
    let mut request = whole_file(libc::F_UNLCK as libc::c_short);
    control(file, libc::F_OFD_SETLK, &mut request)
        .map_err(|errno| Error::new("fcntl(F_OFD_SETLK)", errno))
}

/// Whether another open file holds a lock that forbids one of `kind`. Takes nothing.
///
/// # Errors
/// fcntl(2)'s.
pub fn is_locked(file: BorrowedFd<'_>, kind: Kind) -> Result<bool> {
    let mut request = whole_file(kind.raw());
    control(file, libc::F_OFD_GETLK, &mut request)
        .map_err(|errno| Error::new("fcntl(F_OFD_GETLK)", errno))?;
    Ok(request.l_type != libc::F_UNLCK as libc::c_short)
}

/// As [`lock`], of one byte, which need not be there: a file can stand for any number of things to be locked, each
/// with a number.
///
/// # Errors
/// fcntl(2)'s; an interruption by a signal is retried.
pub fn lock_byte(file: BorrowedFd<'_>, at: u64, kind: Kind) -> Result<()> {
    loop {
        let mut request = one_byte(kind.raw(), at);
        match control(file, libc::F_OFD_SETLKW, &mut request) {
            Ok(()) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(Error::new("fcntl(F_OFD_SETLKW)", errno)),
        }
    }
}

/// As [`try_lock`], of one byte.
///
/// # Errors
/// fcntl(2)'s other than `EAGAIN`, which is the answer false.
pub fn try_lock_byte(file: BorrowedFd<'_>, at: u64, kind: Kind) -> Result<bool> {
    let mut request = one_byte(kind.raw(), at);
    match control(file, libc::F_OFD_SETLK, &mut request) {
        Ok(()) => Ok(true),
        Err(Errno::AGAIN | Errno::ACCESS) => Ok(false),
        Err(errno) => Err(Error::new("fcntl(F_OFD_SETLK)", errno)),
    }
}

/// As [`unlock`], of one byte.
///
/// # Errors
/// fcntl(2)'s.
pub fn unlock_byte(file: BorrowedFd<'_>, at: u64) -> Result<()> {
    let mut request = one_byte(libc::F_UNLCK as libc::c_short, at);
    control(file, libc::F_OFD_SETLK, &mut request)
        .map_err(|errno| Error::new("fcntl(F_OFD_SETLK)", errno))
}

/// A request for one byte. Offsets have 63 bits: the highest is cut off.
fn one_byte(kind: libc::c_short, at: u64) -> libc::flock {
    let mut request = whole_file(kind);
    request.l_start = (at & (u64::MAX >> 1)) as libc::off_t;
    request.l_len = 1;
    request
}

/// A request for the whole file, whatever its length becomes. `l_pid` must be 0 for the OFD kind.
fn whole_file(kind: libc::c_short) -> libc::flock {
    // SAFETY: `flock` is a C struct of integers; all zeroes is a value of it (`l_start`, `l_len` and `l_pid` 0).
    let mut request: libc::flock = unsafe { std::mem::zeroed() };
    request.l_type = kind;
    request.l_whence = libc::SEEK_SET as libc::c_short;
    request
}

fn control(
    file: BorrowedFd<'_>,
    command: libc::c_int,
    request: &mut libc::flock,
) -> Result<(), Errno> {
    // SAFETY: `file` is open for the length of the borrow; `request` is a valid `struct flock` that the kernel reads
    // and, for F_OFD_GETLK, writes; it keeps no pointer.
    let result = unsafe { libc::fcntl(file.as_raw_fd(), command, std::ptr::from_mut(request)) };
    if result == -1 {
        return Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File, OpenOptions};
    use std::os::fd::AsFd;
    use std::path::PathBuf;

    use super::*;

    /// A file of our own that goes with the test.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let path =
                std::env::temp_dir().join(format!("ketch-sys-lock-{}-{name}", std::process::id()));
            File::create(&path).expect("scratch file");
            Self(path)
        }

        fn open(&self) -> File {
            OpenOptions::new()
                .read(true)
                .write(true)
                .open(&self.0)
                .expect("open")
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_file(&self.0);
        }
    }

    #[test]
    fn excludes_another_open_file_of_the_same_process() {
        let scratch = Scratch::new("exclude");
        let (first, second) = (scratch.open(), scratch.open());
        assert!(try_lock(first.as_fd(), Kind::Exclusive).unwrap());
        assert!(!try_lock(second.as_fd(), Kind::Exclusive).unwrap());
        assert!(!try_lock(second.as_fd(), Kind::Shared).unwrap());
        drop(first);
        assert!(try_lock(second.as_fd(), Kind::Exclusive).unwrap());
    }

    #[test]
    fn bytes_are_locked_apart() {
        let scratch = Scratch::new("bytes");
        let (first, second) = (scratch.open(), scratch.open());
        let far = u64::MAX >> 2;
        lock_byte(first.as_fd(), far, Kind::Shared).unwrap();
        lock_byte(first.as_fd(), 1, Kind::Exclusive).unwrap();
        assert!(try_lock_byte(second.as_fd(), far, Kind::Shared).unwrap());
        assert!(!try_lock_byte(second.as_fd(), 1, Kind::Shared).unwrap());
        assert!(!try_lock_byte(second.as_fd(), far, Kind::Exclusive).unwrap());
        unlock_byte(first.as_fd(), far).unwrap();
        assert!(try_lock_byte(second.as_fd(), far, Kind::Exclusive).unwrap());
    }

    #[test]
    fn a_duplicate_keeps_the_lock_and_a_stray_close_does_not_lose_it() {
        let scratch = Scratch::new("duplicate");
        let (first, asker) = (scratch.open(), scratch.open());
        assert!(try_lock(first.as_fd(), Kind::Exclusive).unwrap());
        let duplicate = first.try_clone().unwrap();
        drop(first);
        drop(scratch.open()); // would lose a classic POSIX lock
        assert!(is_locked(asker.as_fd(), Kind::Exclusive).unwrap());
        drop(duplicate);
        assert!(!is_locked(asker.as_fd(), Kind::Exclusive).unwrap());
    }

    #[test]
    fn shared_holders_stand_together_and_asking_takes_nothing() {
        let scratch = Scratch::new("shared");
        let (first, second, third) = (scratch.open(), scratch.open(), scratch.open());
        assert!(try_lock(first.as_fd(), Kind::Shared).unwrap());
        assert!(try_lock(second.as_fd(), Kind::Shared).unwrap());
        assert!(!is_locked(third.as_fd(), Kind::Shared).unwrap());
        assert!(is_locked(third.as_fd(), Kind::Exclusive).unwrap());
        unlock(first.as_fd()).unwrap();
        unlock(second.as_fd()).unwrap();
        assert!(try_lock(third.as_fd(), Kind::Exclusive).unwrap());
    }
}
