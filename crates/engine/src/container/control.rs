//! What commands say to a running container's monitor, over `control.sock` in the run root.
//!
//! A client connects (`SOCK_STREAM`), sends one [`Request`] as a line of JSON of at most [`MAX_REQUEST_BYTES`], and
//! reads one [`Reply`] as a line of JSON. After `Ok` to `Attach` or `Exec` the connection carries frames (see
//! [`super::stream`]) in both directions until the process has ended or the client leaves.
//! The socket's mode is 0600 and the monitor checks the peer's uid (`SO_PEERCRED`): only the engine's own user speaks here.

use serde::{Deserialize, Serialize};

use super::config::EndpointConfig;
use super::state::ExitRecord;
use crate::Error;

/// The longest request line.
pub const MAX_REQUEST_BYTES: usize = 1 << 20;

/// One request.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Request {
    /// Join the standard streams of init.
    Attach(AttachStreams),
    /// Start another process.
    Exec(ExecConfig),
    /// Send a signal to init.
    Kill {
        /// Signal number.
        signal: i32,
    },
    /// Stop: signal, wait, SIGKILL; the reply comes when the container has exited. Marks it as stopped by the user.
    Stop {
        /// Overrides the container's stop signal.
        signal: Option<i32>,
        /// Overrides the container's time-out; -1 waits forever.
        timeout_s: Option<i64>,
        /// Do not remove it at this exit though it is a `--rm` container: it will be started again.
        #[serde(default)]
        keep: bool,
    },
    /// Wait for the next exit; the reply comes then.
    Wait,
    /// Freeze.
    Pause,
    /// Thaw.
    Unpause,
    /// Change the size of init's terminal.
    Resize {
        /// Rows.
        rows: u16,
        /// Columns.
        columns: u16,
    },
    /// Change the name (the caller has claimed it in the registry of names).
    Rename {
        /// The new name.
        name: String,
    },
    /// Join a network.
    NetworkConnect(EndpointConfig),
    /// Leave a network.
    NetworkDisconnect {
        /// Network name.
        network: String,
    },
    /// Remove the container when it has exited, killing it first if `force`; the reply comes when it is gone.
    Remove {
        /// Kill it first.
        force: bool,
        /// Remove its anonymous volumes too.
        volumes: bool,
    },
}

/// One reply.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Reply {
    /// Done.
    Ok,
    /// Done; the exit that `Stop`, `Wait` or `Remove` waited for.
    Exited(ExitRecord),
    /// Not done.
    Failed(Error),
}

/// Which streams a client wants.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct AttachStreams {
    /// Feed standard input.
    pub stdin: bool,
    /// Receive standard output.
    pub stdout: bool,
    /// Receive standard error.
    pub stderr: bool,
}

/// A process to start beside init.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct ExecConfig {
    /// Program and arguments.
    pub command: Vec<String>,
    /// Additions to the container's environment.
    pub env: Vec<String>,
    /// Working directory; None means the container's.
    pub working_dir: Option<String>,
    /// `user[:group]`; None means the container's.
    pub user: Option<String>,
    /// Give it a terminal.
    pub tty: bool,
    /// All capabilities and no filter.
    pub privileged: bool,
    /// Standard input is fed by frames; otherwise it is /dev/null.
    pub stdin: bool,
    /// The client does not stay: reply `Ok` once it runs, then close.
    pub detach: bool,
    /// Terminal size, if the client knows it: rows, columns.
    pub size: Option<(u16, u16)>,
}
