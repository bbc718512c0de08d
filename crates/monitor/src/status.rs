//! The status socket: one line that tells the starting command how the start went.

use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use ketch_engine::Error;
use ketch_engine::container::control::Reply;

/// Our end of it.
pub struct Status(UnixStream);

impl Status {
    /// Takes the descriptor that the engine handed over.
    pub fn new(socket: OwnedFd) -> Self {
        Self(socket.into())
    }

    /// The container runs.
    pub fn ready(self) {
        self.say(&Reply::Ok);
    }

    /// It does not.
    pub fn failed(self, error: Error) {
        self.say(&Reply::Failed(error));
    }

    fn say(mut self, reply: &Reply) {
        if let Ok(mut line) = serde_json::to_vec(reply) {
            line.push(b'\n');
            // A command that does not wait any more has been killed: the container is none the worse for it.
            let _ = self.0.write_all(&line);
        }
    }
}
