//! Standard streams and terminals.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::Path;

use ketch_sys::Error as SysError;
use rustix::fs::{FileType, OFlags, Uid, fchown, fstat};
use rustix::io::Errno;
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, unlockpt};
use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::attach::{attach, duplicate};
use crate::channel::{Channel, Message};
use crate::error::{Called, During, Error, Result};
use crate::resolve::{self, DEVPTS_MAGIC};

/// Standard streams of a process.
#[derive(Debug)]
pub enum Stdio {
    /// Those of the caller.
    Inherit,
    /// These; the caller's copies are closed when the child has them.
    Files {
        /// Standard input.
        stdin: OwnedFd,
        /// Standard output.
        stdout: OwnedFd,
        /// Standard error.
        stderr: OwnedFd,
    },
    /// A terminal of the container's own devpts.
    Terminal {
        /// Its first size.
        size: Option<WindowSize>,
    },
}

/// Size of a terminal in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WindowSize {
    /// Rows.
    pub rows: u16,
    /// Columns.
    pub columns: u16,
}

impl Stdio {
    /// Descriptors that the child needs.
    pub(crate) fn descriptors(&self) -> Vec<RawFd> {
        match self {
            // For a terminal too: were they closed, what is opened on the way would get their numbers, and be lost when
            // the terminal takes them.
            Self::Inherit | Self::Terminal { .. } => vec![0, 1, 2],
            Self::Files {
                stdin,
                stdout,
                stderr,
            } => {
                vec![stdin.as_raw_fd(), stdout.as_raw_fd(), stderr.as_raw_fd()]
            }
        }
    }

    /// In the child: puts the streams at 0, 1 and 2.
    pub(crate) fn install(&self) -> Result<()> {
        match self {
            Self::Inherit | Self::Terminal { .. } => Ok(()),
            Self::Files {
                stdin,
                stdout,
                stderr,
            } => install(stdin.as_fd(), stdout.as_fd(), stderr.as_fd()),
        }
    }

    /// Whether it is a terminal.
    pub(crate) fn is_terminal(&self) -> bool {
        matches!(self, Self::Terminal { .. })
    }
}

fn install(stdin: BorrowedFd<'_>, stdout: BorrowedFd<'_>, stderr: BorrowedFd<'_>) -> Result<()> {
    let step = "set up the standard streams";
    dup2_stdin(stdin).called("dup2").during(step)?;
    dup2_stdout(stdout).called("dup2").during(step)?;
    dup2_stderr(stderr).called("dup2").during(step)
}

/// In the child, a session leader: opens a terminal in the devpts below `root`, makes it the controlling one and the
/// standard streams, and sends its master to the parent. Returns the terminal.
pub(crate) fn open_terminal(
    root: BorrowedFd<'_>,
    size: Option<WindowSize>,
    owner: u32,
    channel: &Channel,
) -> Result<OwnedFd> {
    let step = "open a terminal";
    let path = Path::new("/dev/pts/ptmx");
    let master = resolve::open(root, path, OFlags::RDWR | OFlags::NOCTTY).during(step)?;
    if !resolve::is_on(&master, DEVPTS_MAGIC).during(step)? {
        let reason = "process.terminal needs a devpts mount at /dev/pts";
        return Err(Error::invalid("mounts", reason));
    }
    unlockpt(&master).called("ioctl TIOCSPTLCK").during(step)?;
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let terminal = ioctl_tiocgptpeer(&master, flags)
        .called("ioctl TIOCGPTPEER")
        .during(step)?;
    if let Some(WindowSize { rows, columns }) = size {
        let size = Winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&terminal, size)
            .called("ioctl TIOCSWINSZ")
            .during(step)?;
    }
    set_owner(terminal.as_fd(), owner).during(step)?;
    // Before it is the controlling one: losing that by an error would be the end of this process, unreported.
    channel.send(&Message::Console(master)).during(step)?;
    rustix::process::ioctl_tiocsctty(&terminal)
        .called("ioctl TIOCSCTTY")
        .during(step)?;
    install(terminal.as_fd(), terminal.as_fd(), terminal.as_fd())?;
    Ok(terminal)
}

/// In the child: binds the terminal at /dev/console.
pub(crate) fn bind_console(root: BorrowedFd<'_>, terminal: &OwnedFd) -> Result<()> {
    let step = "mount the terminal at /dev/console";
    let point = resolve::plain_file(root, Path::new("/dev"), "console").during(step)?;
    let mount = duplicate(terminal.as_fd(), false).during(step)?;
    attach(mount.as_fd(), point.as_fd()).during(step)
}

/// In the child: gives pipes and terminals among the standard streams to the user, so that it can open
/// `/dev/stdout` anew. Anything else is someone's file or device and stays as it is.
pub(crate) fn give_to(owner: u32) -> Result<()> {
    let streams = [
        rustix::stdio::stdin(),
        rustix::stdio::stdout(),
        rustix::stdio::stderr(),
    ];
    for stream in streams {
        let stat = match fstat(stream) {
            Ok(stat) => stat,
            Err(Errno::BADF) => continue,
            Err(errno) => {
                return Err(SysError::new("fstat", errno)).during("own the standard streams");
            }
        };
        let kind = FileType::from_raw_mode(stat.st_mode);
        let ours = kind == FileType::Fifo
            || (kind == FileType::CharacterDevice && rustix::termios::isatty(stream));
        if ours && stat.st_uid != owner {
            set_owner(stream, owner).during("own the standard streams")?;
        }
    }
    Ok(())
}

fn set_owner(stream: BorrowedFd<'_>, owner: u32) -> Result<(), SysError> {
    match fchown(stream, Some(Uid::from_raw(owner)), None) {
        // Read-only file systems, and owners outside of the user namespace: the stream works all the same.
        Ok(()) | Err(Errno::INVAL | Errno::PERM | Errno::ROFS) => Ok(()),
        Err(errno) => Err(SysError::new("fchown", errno)),
    }
}
