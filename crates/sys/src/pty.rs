//! Terminals: their size, and the raw mode of the terminal a client sits at.

use std::os::fd::{AsFd, BorrowedFd};

use rustix::termios::{
    OptionalActions, Termios, Winsize, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize,
};

use crate::{Error, Result};

/// A terminal's size in character cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Rows.
    pub rows: u16,
    /// Columns.
    pub columns: u16,
}

/// The size of the terminal behind `terminal` (either end of a pty).
///
/// # Errors
/// `ENOTTY` if it is no terminal.
pub fn size(terminal: impl AsFd) -> Result<Size> {
    let size = tcgetwinsize(terminal).map_err(|errno| Error::new("ioctl TIOCGWINSZ", errno))?;
    Ok(Size {
        rows: size.ws_row,
        columns: size.ws_col,
    })
}

/// Sets the size; the kernel sends SIGWINCH to the terminal's foreground process group if it changed.
///
/// # Errors
/// `ENOTTY` if it is no terminal.
pub fn set_size(terminal: impl AsFd, size: Size) -> Result<()> {
    let size = Winsize {
        ws_row: size.rows,
        ws_col: size.columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    tcsetwinsize(terminal, size).map_err(|errno| Error::new("ioctl TIOCSWINSZ", errno))
}

/// Raw mode of a terminal for as long as this value lives: every byte passes as it is, no echo, no signals from keys.
/// Output post-processing is off too, as Docker's client has it.
#[derive(Debug)]
pub struct RawMode<'a> {
    terminal: BorrowedFd<'a>,
    before: Termios,
}

impl<'a> RawMode<'a> {
    /// Enters raw mode.
    ///
    /// # Errors
    /// `ENOTTY` if it is no terminal.
    pub fn enter(terminal: BorrowedFd<'a>) -> Result<Self> {
        let before = tcgetattr(terminal).map_err(|errno| Error::new("ioctl TCGETS", errno))?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(terminal, OptionalActions::Now, &raw)
            .map_err(|errno| Error::new("ioctl TCSETS", errno))?;
        Ok(Self { terminal, before })
    }
}

impl Drop for RawMode<'_> {
    fn drop(&mut self) {
        // A terminal that has gone away meanwhile has no mode to restore.
        let _ = tcsetattr(self.terminal, OptionalActions::Now, &self.before);
    }
}

#[cfg(test)]
mod tests {
    use rustix::pty::{OpenptFlags, grantpt, openpt, unlockpt};
    use rustix::termios::LocalModes;

    use super::*;

    #[test]
    fn size_and_raw_mode_of_a_terminal() {
        let master =
            openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).expect("openpt");
        grantpt(&master).expect("grantpt");
        unlockpt(&master).expect("unlockpt");
        let wanted = Size {
            rows: 33,
            columns: 101,
        };
        set_size(&master, wanted).expect("set size");
        assert_eq!(size(&master).expect("size"), wanted);

        let echo = |fd: BorrowedFd<'_>| {
            tcgetattr(fd)
                .expect("attributes")
                .local_modes
                .contains(LocalModes::ECHO)
        };
        assert!(echo(master.as_fd()));
        let raw = RawMode::enter(master.as_fd()).expect("raw mode");
        assert!(!echo(master.as_fd()));
        drop(raw);
        assert!(echo(master.as_fd()));
    }

    #[test]
    fn a_pipe_is_no_terminal() {
        let (reader, _writer) =
            rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).expect("pipe");
        assert_eq!(
            size(&reader).expect_err("no terminal").errno,
            rustix::io::Errno::NOTTY
        );
        assert!(RawMode::enter(reader.as_fd()).is_err());
    }
}
