//! Descriptors that a parent handed over by number, and those it left open by accident.

use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use rustix::io::{Errno, FdFlags};

use crate::{Error, Result};

/// Takes ownership of descriptor `number`, which the parent opened for us, and makes it close-on-exec.
///
/// For use at the very start of a program, before anything else can own that number: from the first call on, nobody
/// else may use it. Standard streams (0 to 2) are refused.
///
/// # Errors
/// `EBADF` if it is not open, `EINVAL` for a standard stream.
pub fn take(number: RawFd) -> Result<OwnedFd> {
    if number <= 2 {
        return Err(Error::new("take descriptor", Errno::INVAL));
    }
    // SAFETY: F_GETFD only asks whether the number is open.
    if unsafe { libc::fcntl(number, libc::F_GETFD) } < 0 {
        return Err(Error::new("fcntl F_GETFD", Errno::BADF));
    }
    // SAFETY: it is open, above the standard streams, and by this function's contract nobody else owns it.
    let descriptor = unsafe { OwnedFd::from_raw_fd(number) };
    rustix::io::fcntl_setfd(&descriptor, FdFlags::CLOEXEC)
        .map_err(|errno| Error::new("fcntl F_SETFD", errno))?;
    Ok(descriptor)
}

/// Closes every descriptor from `first` on, close_range(2).
///
/// For use at the very start of a program, when nothing in it owns a descriptor yet.
///
/// # Errors
/// `EINVAL` for a standard stream; those of `close_range`.
pub fn close_from(first: RawFd) -> Result<()> {
    let first = u32::try_from(first).ok().filter(|first| *first > 2);
    let first = first.ok_or(Error::new("close_range", Errno::INVAL))?;
    // SAFETY: by this function's contract nothing owns a descriptor in the range.
    if unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0) } < 0 {
        return Err(Error::new(
            "close_range",
            Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::fd::IntoRawFd;

    use rustix::pipe::{PipeFlags, pipe_with};

    use super::*;

    #[test]
    fn takes_what_is_open_and_marks_it() {
        // Marked from the start: an unmarked one would be seen by programs that other tests execute meanwhile.
        let (reader, _writer) = pipe_with(PipeFlags::CLOEXEC).expect("pipe");
        let taken = take(reader.into_raw_fd()).expect("take");
        assert!(
            rustix::io::fcntl_getfd(&taken)
                .expect("flags")
                .contains(FdFlags::CLOEXEC)
        );
    }

    #[test]
    fn refuses_standard_streams_and_closed_numbers() {
        assert_eq!(take(1).expect_err("standard stream").errno, Errno::INVAL);
        assert_eq!(take(1_000_000).expect_err("closed").errno, Errno::BADF);
        assert_eq!(
            close_from(2).expect_err("standard stream").errno,
            Errno::INVAL
        );
    }
}
