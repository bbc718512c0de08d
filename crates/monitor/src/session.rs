//! Exec sessions: processes that run beside init, for `exec` and for health checks.

use std::os::fd::BorrowedFd;

use ketch_engine::container::state::ExitRecord;
use ketch_runtime::Exit;

use crate::health::MAX_OUTPUT_BYTES;
use crate::process_streams::ProcessStreams;

/// The most sessions at a time.
pub const MAX_SESSIONS: usize = 64;

/// Why a session exists.
#[derive(Debug)]
pub enum Purpose {
    /// A command: its clients are those attached to it.
    Command,
    /// A health check, with the first of its output.
    Probe {
        /// At most [`MAX_OUTPUT_BYTES`].
        output: Vec<u8>,
    },
}

/// A session.
pub struct Session {
    /// Its number, never used twice in a run.
    pub id: u64,
    /// Why it exists.
    pub purpose: Purpose,
    /// Its process.
    pub process: ketch_runtime::Process,
    /// Its standard streams.
    pub streams: ProcessStreams,
}

impl Session {
    /// Readable when the process has ended.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.process.pidfd()
    }

    /// Whether it is a health check.
    pub fn is_probe(&self) -> bool {
        matches!(self.purpose, Purpose::Probe { .. })
    }

    /// Keeps output of a health check.
    pub fn keep(&mut self, bytes: &[u8]) {
        if let Purpose::Probe { output } = &mut self.purpose {
            let room = MAX_OUTPUT_BYTES - output.len();
            output.extend_from_slice(&bytes[..bytes.len().min(room)]);
        }
    }
}

/// An ending as clients and records have it.
pub fn exit_record(exit: Exit, at: jiff::Timestamp) -> ExitRecord {
    let signal = match exit {
        Exit::Code(_) => None,
        Exit::Signal(signal) => Some(signal),
    };
    ExitRecord {
        code: exit.code(),
        signal,
        out_of_memory: false,
        at,
        error: String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_death_by_signal_has_dockers_code() {
        let killed = exit_record(Exit::Signal(9), jiff::Timestamp::UNIX_EPOCH);
        assert_eq!((killed.code, killed.signal), (137, Some(9)));
        let exited = exit_record(Exit::Code(3), jiff::Timestamp::UNIX_EPOCH);
        assert_eq!((exited.code, exited.signal), (3, None));
    }
}
