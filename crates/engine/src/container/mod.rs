//! Containers: configuration, state, and one file a verb.
//!
//! A running container's only writer is its monitor: verbs on it are messages over its control socket ([`control`]).
//! Verbs on a container that does not run take its owner lock and do the work themselves.

pub mod apparmor;
pub mod attach;
pub mod build_step;
pub mod channel;
mod commit;
pub mod config;
pub mod control;
pub mod copy;
mod create;
mod diff;
mod exec;
mod executable;
mod export;
pub mod files;
pub mod filter;
mod init_program;
mod inspect;
mod kill;
mod left_out;
pub mod load;
pub mod logs;
mod merge;
mod pause;
mod port;
mod prune;
mod recover;
pub mod remove;
mod rename;
pub mod request;
mod restart;
pub mod root;
mod secret;
pub mod security_option;
mod size;
pub mod spec;
pub mod start;
pub mod state;
pub mod status;
mod stop;
pub mod stream;
pub mod tear_down;
mod top;
pub mod user;
mod validate;
mod wait;
mod watch;

pub use attach::{Attached, attach};
pub use build_step::{StepOutput, StepRun, run_step};
pub use channel::{Reached, reach};
pub use commit::{CommitOptions, commit};
pub use config::ContainerConfig;
pub use control::{AttachStreams, ExecConfig};
pub use copy::{PathStat, copy_in, copy_out, stat_path};
pub use create::{Created, create};
pub use diff::{ChangeKind, FileChange, diff};
pub use exec::exec;
pub use export::export;
pub use inspect::inspect;
pub use kill::kill;
pub use left_out::ALWAYS_MOUNTED;
pub use load::{Container, list, load, resolve};
pub use logs::{LogLine, LogOptions, LogReader, logs};
pub use pause::{pause, unpause};
pub use port::port;
pub use prune::{Pruned, prune};
pub use recover::recover;
pub use remove::{RemoveOptions, remove};
pub use rename::rename;
pub use request::{CreateRequest, NetworkRequest, PullPolicy};
pub use restart::restart;
pub use secret::SecretEnv;
pub use size::{Sizes, size};
pub use start::{StartOptions, start};
pub use state::{ContainerState, ExitRecord, Status};
pub use stop::{StopOptions, stop};
pub use top::{Top, top};
pub use wait::{WaitCondition, Waiting, begin_wait, wait};
pub use watch::Watch;

#[cfg(test)]
pub(crate) mod test_support;
#[cfg(test)]
mod tests;
