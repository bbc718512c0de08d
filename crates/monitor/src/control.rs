//! The control socket and the connections on it. What the requests mean is in `requests`.

use std::fs::Permissions;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use ketch_engine::container::control::{AttachStreams, Reply};
use ketch_engine::container::state::ExitRecord;
use ketch_engine::container::stream::Frame;
use rustix::fs::{Mode, OFlags};

use crate::client::{Awaited, Client, Role, Target};
use crate::log_line::Stream;

/// The most connections at a time; more wait in the socket's queue.
const MAX_CLIENTS: usize = 128;

/// Why there is no control socket.
#[derive(Debug, thiserror::Error)]
#[error("{call} {}", path.display())]
pub struct ControlError {
    /// What was tried.
    pub call: &'static str,
    /// On what.
    pub path: PathBuf,
    /// What the system said.
    pub source: io::Error,
}

/// The socket and its connections.
#[derive(Debug)]
pub struct Control {
    listener: UnixListener,
    path: PathBuf,
    clients: Vec<Client>,
    next_id: u64,
    /// Given up for a moment when there are no descriptors left.
    spare: Option<OwnedFd>,
}

impl Control {
    /// Binds the socket at `path`, in a directory that exists; an older one there is replaced.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn bind(path: &Path) -> Result<Self, ControlError> {
        let failed = |call| {
            move |source| ControlError {
                call,
                path: path.to_owned(),
                source,
            }
        };
        let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(failed("bind")(ErrorKind::InvalidInput.into()));
        };
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(failed("unlink")(error));
            }
            _ => {}
        }
        // A socket address holds 107 bytes only; through the directory's descriptor every path is short.
        let directory = rustix::fs::open(
            directory,
            OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .map_err(|errno| failed("open directory of")(errno.into()))?;
        let short = Path::new("/proc/self/fd")
            .join(directory.as_raw_fd().to_string())
            .join(name);
        let listener = UnixListener::bind(short).map_err(failed("bind"))?;
        std::fs::set_permissions(path, Permissions::from_mode(0o600)).map_err(failed("chmod"))?;
        listener.set_nonblocking(true).map_err(failed("fcntl"))?;
        Ok(Self {
            listener,
            path: path.to_owned(),
            clients: Vec::new(),
            next_id: 1,
            spare: spare().ok(),
        })
    }

    /// Whether more connections can be taken now.
    pub fn has_room(&self) -> bool {
        self.clients.len() < MAX_CLIENTS
    }

    /// Takes the connections that wait, of our own user only.
    pub fn accept(&mut self) {
        while self.has_room() {
            match self.listener.accept() {
                Ok((socket, _)) if is_ours(&socket) && socket.set_nonblocking(true).is_ok() => {
                    self.insert(socket, Role::Asking);
                }
                // Closed at once: the mode of the socket lets nobody else come here but by inheritance.
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                // Out of descriptors: what waits would keep the loop turning, so it is taken and closed.
                Err(_) => {
                    self.spare = None;
                    let _ = self.listener.accept();
                    self.spare = spare().ok();
                    return;
                }
            }
        }
    }

    /// Adds the connection that the command which started us handed over: it is attached from the first byte.
    ///
    /// # Errors
    /// Those of fcntl(2).
    pub fn adopt(&mut self, socket: UnixStream, streams: AttachStreams) -> io::Result<()> {
        socket.set_nonblocking(true)?;
        self.insert(
            socket,
            Role::Attached {
                target: Target::Init,
                streams,
            },
        );
        Ok(())
    }

    fn insert(&mut self, socket: UnixStream, role: Role) {
        self.clients.push(Client::new(self.next_id, socket, role));
        self.next_id += 1;
    }

    /// All connections.
    pub fn clients(&self) -> &[Client] {
        &self.clients
    }

    /// One of them.
    pub fn client(&mut self, id: u64) -> Option<&mut Client> {
        self.clients.iter_mut().find(|client| client.id == id)
    }

    /// Whether a client of `target` has so much to receive that no more should be read for it.
    pub fn is_full(&self, target: Target) -> bool {
        self.clients
            .iter()
            .any(|client| client.is_full() && client.attached_to(target).is_some())
    }

    /// Sends output of `target` to all who receive it.
    pub fn broadcast(&mut self, target: Target, stream: Stream, bytes: &[u8]) {
        for client in self
            .clients
            .iter_mut()
            .filter(|client| client.receives(target, stream))
        {
            client.send_output(stream, bytes);
        }
    }

    /// Tells the clients of `target` how it ended; nothing follows.
    pub fn end_target(&mut self, target: Target, exit: &ExitRecord) {
        for client in self
            .clients
            .iter_mut()
            .filter(|client| client.attached_to(target).is_some())
        {
            client.send_frame(&Frame::Exit(exit.clone()));
            client.role = Role::Leaving;
        }
    }

    /// Replies to all who wait for `awaited`.
    pub fn reply_waiting(&mut self, awaited: Awaited, reply: &Reply) {
        let waits =
            |client: &&mut Client| matches!(client.role, Role::Waiting(what) if what == awaited);
        for client in self.clients.iter_mut().filter(waits) {
            client.reply_and_leave(reply);
        }
    }

    /// Takes out the connections that are over.
    pub fn take_over(&mut self) -> Vec<Client> {
        let mut over = Vec::new();
        let mut at = 0;
        while at < self.clients.len() {
            if self.clients[at].is_over() {
                over.push(self.clients.swap_remove(at));
            } else {
                at += 1;
            }
        }
        over
    }

    /// Takes no more connections; those in the queue see the end and read the files instead. Removes the socket.
    pub fn close(self) -> Vec<Client> {
        // Its directory may be gone with the container already.
        let _ = std::fs::remove_file(&self.path);
        self.clients
    }
}

impl AsFd for Control {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

fn spare() -> rustix::io::Result<OwnedFd> {
    rustix::fs::open("/dev/null", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
}

fn is_ours(socket: &UnixStream) -> bool {
    rustix::net::sockopt::socket_peercred(socket)
        .is_ok_and(|peer| peer.uid == rustix::process::geteuid())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn bound() -> (tempfile::TempDir, PathBuf, Control) {
        let directory = tempfile::tempdir().expect("tempdir");
        // Longer than a socket address.
        let deep = directory.path().join("x".repeat(120));
        std::fs::create_dir(&deep).expect("mkdir");
        let path = deep.join("control.sock");
        let control = Control::bind(&path).expect("bind");
        (directory, path, control)
    }

    fn connect(path: &Path) -> UnixStream {
        let directory = std::fs::File::open(path.parent().expect("parent")).expect("directory");
        UnixStream::connect(format!(
            "/proc/self/fd/{}/control.sock",
            directory.as_raw_fd()
        ))
        .expect("connect")
    }

    #[test]
    fn binds_below_a_long_path_for_the_owner_only_and_replaces_an_old_one() {
        let (_directory, path, control) = bound();
        assert_eq!(
            std::fs::metadata(&path).expect("stat").permissions().mode() & 0o777,
            0o600
        );
        drop(control);
        Control::bind(&path).expect("again").close();
        assert!(!path.exists());
    }

    #[test]
    fn connections_are_bounded() {
        let (_directory, path, mut control) = bound();
        let mut sockets = Vec::new();
        for _ in 0..=MAX_CLIENTS {
            sockets.push(connect(&path));
            control.accept();
        }
        assert!(!control.has_room() && control.clients().len() == MAX_CLIENTS);
    }

    #[test]
    fn waiting_clients_get_their_reply_and_are_over() {
        let (_directory, path, mut control) = bound();
        let mut socket = connect(&path);
        socket.write_all(b"\"Wait\"\n").expect("write");
        control.accept();
        let id = control.clients()[0].id;
        control.client(id).expect("client").role = Role::Waiting(Awaited::Exit);
        control.reply_waiting(Awaited::Removal, &Reply::Ok);
        assert!(control.take_over().is_empty());
        control.reply_waiting(Awaited::Exit, &Reply::Ok);
        assert_eq!(control.take_over().len(), 1);
        let mut line = String::new();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(socket), &mut line).expect("read");
        assert!(matches!(serde_json::from_str(&line), Ok(Reply::Ok)));
    }
}
