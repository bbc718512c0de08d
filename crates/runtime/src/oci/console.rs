//! What the caller of a verb gets besides the container: the other end of its terminal, and its number in a file.

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use ketch_sys::Error as SysError;
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix,
    SocketFlags, SocketType, connect, sendmsg, socket_with,
};

use super::create::Streams;
use super::error::{Refusal, Result};
use crate::error::{Called, During};

/// What is sent along with the terminal: where it came from, as runc tells it.
const TERMINAL: &[u8] = b"/dev/ptmx";
const PIDFD: &[u8] = b"pidfd";

/// Whether somebody holds the other end of the terminal, and nobody waits for one in vain.
pub(super) fn check(terminal: bool, socket: bool, streams: Streams) -> Result<(), Refusal> {
    match (terminal, socket, streams) {
        (true, false, Streams::LetGo) => Err(Refusal::TerminalWithoutConsole),
        (false, true, _) | (true, true, Streams::Kept) => Err(Refusal::ConsoleWithoutTerminal),
        _ => Ok(()),
    }
}

/// Sends the terminal to whoever listens at `path`.
pub(super) fn send_terminal(path: &Path, master: &OwnedFd) -> Result<()> {
    let sent = send(path, TERMINAL, master.as_fd());
    Ok(sent.during("send the terminal to the console socket")?)
}

/// Sends a pidfd to whoever listens at `path`.
pub(super) fn send_pidfd(path: &Path, pidfd: BorrowedFd<'_>) -> Result<()> {
    let sent = send(path, PIDFD, pidfd);
    Ok(sent.during("send the pidfd to the pidfd socket")?)
}

fn send(path: &Path, name: &[u8], descriptor: BorrowedFd<'_>) -> ketch_sys::Result<()> {
    let address = SocketAddrUnix::new(path).called_on("connect", path)?;
    let (family, kind) = (AddressFamily::UNIX, SocketType::STREAM);
    let socket = socket_with(family, kind, SocketFlags::CLOEXEC, None).called("socket")?;
    connect(&socket, &address).called_on("connect", path)?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors = [descriptor];
    control.push(SendAncillaryMessage::ScmRights(&descriptors));
    let flags = SendFlags::NOSIGNAL;
    sendmsg(&socket, &[IoSlice::new(name)], &mut control, flags)
        .called_on("sendmsg", path)
        .map(drop)
}

/// Writes the number of a process; whoever waits for the file sees it whole.
pub(super) fn write_pid_file(path: &Path, pid: u32) -> Result<()> {
    let step = "write the pid file";
    let name = path.file_name().unwrap_or_default();
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(name);
    let new = path.with_file_name(hidden);
    std::fs::write(&new, pid.to_string())
        .map_err(|error| SysError::from_io("write", &new, &error))
        .during(step)?;
    std::fs::rename(&new, path)
        .map_err(|error| SysError::from_io("rename", path, &error))
        .during(step)?;
    Ok(())
}
