//! What those who waited for the end are told, and the time to take it in: with the lock gone, a client that reads
//! slowly holds up nobody but itself.

use std::os::fd::OwnedFd;
use std::time::Duration;

use ketch_engine::container::control::Reply;
use ketch_engine::container::state::ExitRecord;
use ketch_engine::container::stream::Frame;
use ketch_engine::layer::LayerUse;
use ketch_engine::{Error, ErrorKind, Result};
use ketch_network::{IdleBridge, RetiredBridge};
use ketch_runtime::Container;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use crate::client::{Awaited, Client, Role, Target};
use crate::control::Control;

/// Tells the clients of a run that its init has ended; those who wait for the removal go on waiting.
pub fn tell_exit(control: &mut Control, exit: &ExitRecord) {
    control.end_target(Target::Init, exit);
    control.reply_waiting(Awaited::Exit, &Reply::Exited(exit.clone()));
}

/// What takes time to take down, and nobody waits for.
#[derive(Default)]
pub struct Leftovers {
    /// The last run's mount namespace.
    pub mounts: Option<Container>,
    /// The image's layers: the last to use one unmounts it.
    pub layers: Option<LayerUse>,
    /// The mount of our own program.
    pub program: Option<OwnedFd>,
    /// Bridges of networks that nobody is in.
    pub bridges: Vec<RetiredBridge>,
    /// Bridges kept a while for the next container.
    pub idle: Vec<IdleBridge>,
}

/// How long an empty network's bridge is kept: the next command of a script finds it, and a person never sees it.
const IDLE: Duration = Duration::from_secs(1);

/// Connections that have not got everything that is for them.
pub struct LastWords {
    clients: Vec<Client>,
    leftovers: Leftovers,
}

impl LastWords {
    /// Tells all `clients` how it ended. `exit` is None for a start that failed, `removal` for a container that stays.
    pub fn new(
        mut clients: Vec<Client>,
        leftovers: Leftovers,
        exit: Option<ExitRecord>,
        removal: Option<Result<()>>,
    ) -> Self {
        for client in &mut clients {
            let awaited = match &client.role {
                Role::Attached { .. } => {
                    if let Some(exit) = &exit {
                        client.send_frame(&Frame::Exit(exit.clone()));
                    }
                    client.role = Role::Leaving;
                    continue;
                }
                // Nobody will read the request: its sender sees the end and looks at the files.
                Role::Asking | Role::Leaving => {
                    client.role = Role::Leaving;
                    continue;
                }
                Role::Waiting(awaited) => *awaited,
            };
            let reply = match (&removal, &exit) {
                (Some(Err(error)), _) if awaited == Awaited::Removal => {
                    Reply::Failed(error.clone())
                }
                (_, Some(exit)) => Reply::Exited(exit.clone()),
                (_, None) => Reply::Failed(Error::new(
                    ErrorKind::Conflict,
                    "the container did not start",
                )),
            };
            client.reply_and_leave(&reply);
        }
        Self { clients, leftovers }
    }

    /// Waits until every client has got what is for it, or has left; before that, does what nobody waits for.
    pub fn linger(mut self) {
        drop(self.leftovers.mounts.take());
        drop(self.leftovers.layers.take());
        drop(self.leftovers.program.take());
        for bridge in self.leftovers.bridges.drain(..) {
            // What fails is swept up with the next one.
            let _ = bridge.delete();
        }
        self.serve();
        if !self.leftovers.idle.is_empty() {
            std::thread::sleep(IDLE);
        }
        for bridge in self.leftovers.idle.drain(..) {
            let _ = bridge.delete();
        }
    }

    fn serve(&mut self) {
        loop {
            self.clients.retain(|client| !client.is_over());
            if self.clients.is_empty() {
                return;
            }
            let mut descriptors: Vec<_> = self
                .clients
                .iter()
                .map(|client| PollFd::new(client, PollFlags::OUT))
                .collect();
            match poll(&mut descriptors, None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(_) => return,
            }
            let events: Vec<PollFlags> = descriptors.iter().map(PollFd::revents).collect();
            for (client, events) in self.clients.iter_mut().zip(events) {
                if events.contains(PollFlags::OUT) {
                    client.flush();
                } else if !events.is_empty() {
                    client.set_gone();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::os::unix::net::UnixStream;

    use ketch_engine::container::control::AttachStreams;
    use ketch_engine::container::stream::read_frame;

    use super::*;
    use crate::log_line::Stream;

    fn client(role: Role) -> (Client, UnixStream) {
        let (ours, theirs) = UnixStream::pair().expect("socketpair");
        ours.set_nonblocking(true).expect("non-blocking");
        (Client::new(1, ours, role), theirs)
    }

    fn exit() -> ExitRecord {
        ExitRecord {
            code: 3,
            signal: None,
            out_of_memory: false,
            at: jiff::Timestamp::UNIX_EPOCH,
            error: String::new(),
        }
    }

    #[test]
    fn a_slow_client_gets_everything_and_the_exit_last() {
        let streams = AttachStreams {
            stdin: false,
            stdout: true,
            stderr: true,
        };
        let (mut attached, theirs) = client(Role::Attached {
            target: Target::Init,
            streams,
        });
        let chunk = vec![b'x'; 60_000];
        for _ in 0..20 {
            attached.send_output(Stream::Stdout, &chunk);
        }
        let words = LastWords::new(vec![attached], Leftovers::default(), Some(exit()), None);
        let lingering = std::thread::spawn(|| words.linger());
        let mut theirs = BufReader::new(theirs);
        let mut bytes = 0;
        loop {
            match read_frame(&mut theirs)
                .expect("read")
                .expect("not the end yet")
            {
                Frame::Stdout(chunk) => bytes += chunk.len(),
                Frame::Exit(record) => break assert_eq!(record.code, 3),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(bytes, 20 * chunk.len());
        lingering.join().expect("ends by itself");
    }

    #[test]
    fn a_client_that_is_killed_ends_the_lingering() {
        let (mut attached, theirs) = client(Role::Leaving);
        for _ in 0..20 {
            attached.send_output(Stream::Stdout, &[0; 60_000]);
        }
        let lingering = std::thread::spawn(|| {
            LastWords::new(vec![attached], Leftovers::default(), None, None).linger()
        });
        drop(theirs);
        lingering.join().expect("ends by itself");
    }

    #[test]
    fn each_waiting_client_hears_what_it_waits_for() {
        let error = Error::new(ErrorKind::Internal, "no");
        let cases = [
            (Awaited::Exit, Some(exit()), None, "Exited"),
            (Awaited::Removal, Some(exit()), Some(Ok(())), "Exited"),
            (Awaited::Removal, Some(exit()), Some(Err(error)), "Failed"),
            (Awaited::Exit, None, None, "Failed"),
        ];
        for (awaited, exit, removal, expected) in cases {
            let (waiting, theirs) = client(Role::Waiting(awaited));
            LastWords::new(vec![waiting], Leftovers::default(), exit, removal).linger();
            let mut line = String::new();
            BufReader::new(theirs).read_line(&mut line).expect("read");
            assert!(line.contains(expected), "{line}");
        }
    }
}
