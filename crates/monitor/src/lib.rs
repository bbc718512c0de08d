//! The process that owns one running container: its parent and its only writer.
//!
//! One thread, one poll loop, everything bounded. It is started by the engine by executing our own binary with the role
//! `monitor` ([`main`]), and lives from before the container's first process to after its last. It knows one container;
//! of others it reads files.
//!
//! Read [`monitor`] for the life of it, [`bring_up`] for the steps of a start, [`tear_down`] for their undoing,
//! [`event_loop`] for what happens in between, [`requests`] for what commands can ask.

use std::ffi::OsString;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

use ketch_engine::container::SecretEnv;
use ketch_engine::container::start::{ATTACH_FD, LOCK_FD, PROGRAM_FD, SECRETS_FD, STATUS_FD};
use ketch_engine::lock::OwnerLock;
use ketch_engine::{Error, ErrorKind};
use ketch_sys::inherit;

mod arguments;
mod bring_up;
mod client;
mod connect;
mod control;
mod event_loop;
mod exec;
mod health;
mod last_words;
mod leave;
mod log;
mod log_line;
mod made;
mod monitor;
mod networks;
mod oom;
mod process_streams;
mod requests;
mod restart;
mod run;
mod session;
mod start_failure;
mod status;
mod stop;
mod tear_down;

use arguments::Arguments;
use monitor::Monitor;
use status::Status;

/// The role `monitor`. `words` are the arguments after that word. Call it before anything else in the program: it takes
/// descriptors by number and closes all others, and it clones, so it must be the only thread.
///
/// Exit code 0 if the container ran, whatever became of it; 125 if it did not start.
pub fn main(words: impl Iterator<Item = OsString>) -> ExitCode {
    let words: Vec<OsString> = words.collect();
    let start_failed = ExitCode::from(125);
    // Without a status socket there is nobody to tell anything: a user typed this by hand.
    let Ok(status) = inherit::take(STATUS_FD) else {
        return start_failed;
    };
    let status = Status::new(status);
    match begin(&words) {
        Ok(monitor) => {
            let (words, started) = monitor.supervise(status);
            words.linger();
            if started {
                ExitCode::SUCCESS
            } else {
                start_failed
            }
        }
        Err(error) => {
            status.failed(error);
            start_failed
        }
    }
}

fn begin(words: &[OsString]) -> Result<Monitor, Error> {
    let failed = |error: &(dyn std::error::Error + 'static)| {
        Error::caused(
            ErrorKind::Internal,
            "cannot become a container's monitor",
            error,
        )
    };
    let attach = arguments::names(words, "--attach").then(|| inherit::take(ATTACH_FD));
    let attach = attach.transpose().map_err(|error| failed(&error))?;
    let lock = OwnerLock::from_fd(inherit::take(LOCK_FD).map_err(|error| failed(&error))?);
    let program = inherit::take(PROGRAM_FD).map_err(|error| failed(&error))?;
    // Read, and with that closed, before anything is started that could inherit it.
    let secrets = match arguments::names(words, "--secrets") {
        true => {
            let memory = inherit::take(SECRETS_FD).map_err(|error| failed(&error))?;
            SecretEnv::from_memory(memory).map_err(|error| failed(&error))?
        }
        false => SecretEnv::default(),
    };
    // Whatever else the caller left open; nothing of ours is above these numbers yet.
    inherit::close_from(PROGRAM_FD + 1).map_err(|error| failed(&error))?;
    let arguments = Arguments::parse(words.iter().cloned()).map_err(|error| failed(&error))?;
    leave::leave_caller().map_err(|error| failed(&error))?;
    let mut monitor = Monitor::new(&arguments, lock, program)?;
    monitor.secrets = secrets;
    if let (Some(socket), Some(streams)) = (attach, arguments.attach) {
        monitor.adopt(UnixStream::from(socket), streams)?;
    }
    Ok(monitor)
}
