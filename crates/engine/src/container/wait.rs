//! `wait`: until a container exits.

use jiff::Timestamp;

use super::channel::{self, LOOK_AGAIN};
use super::control::{Reply, Request};
use super::load::{self, is_live};
use super::state::{ContainerState, ExitRecord};
use super::watch::Watch;
use crate::{Engine, ErrorKind, Result};

/// What to wait for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum WaitCondition {
    /// It does not run; true at once for one that never ran.
    #[default]
    NotRunning,
    /// It exits once more than now.
    NextExit,
    /// It is removed.
    Removed,
}

/// Blocks until the condition holds, however long that takes, and returns the last exit.
///
/// # Errors
/// `NotFound` if it is not there to begin with.
pub fn wait(engine: &Engine, wanted: &str, condition: WaitCondition) -> Result<ExitRecord> {
    let id = load::resolve(engine, wanted)?;
    let watch = Watch::container(engine, &id)?;
    let (_, first) = load::load(engine, &id)?;
    let mut last = first.exit.clone();
    loop {
        let state = match load::load(engine, &id) {
            Ok((_, state)) => state,
            // Gone: every condition holds now.
            Err(error) if error.kind == ErrorKind::NotFound => {
                return Ok(last.unwrap_or_else(never_ran));
            }
            Err(error) => return Err(error),
        };
        last.clone_from(&state.exit);
        match condition {
            WaitCondition::NotRunning if !is_live(state.status) => return Ok(exit_of(&state)),
            WaitCondition::NextExit if state.exit != first.exit => return Ok(exit_of(&state)),
            _ => {}
        }
        if !is_live(state.status) {
            watch.wait(WHOLE_HOUR)?;
            continue;
        }
        // The monitor answers at the exit, whether it starts the container again or not, as Docker's wait does.
        match channel::request(engine, &id, &Request::Wait)? {
            Some(Reply::Exited(exit)) if condition != WaitCondition::Removed => return Ok(exit),
            Some(Reply::Exited(exit)) => {
                last = Some(exit);
                watch.wait(LOOK_AGAIN)?;
            }
            Some(Reply::Failed(error)) => return Err(error),
            Some(Reply::Ok) | None => watch.wait(LOOK_AGAIN)?,
        }
    }
}

/// A bound for a wait that ends by its event; it only makes sure that a lost event is not forever.
const WHOLE_HOUR: std::time::Duration = std::time::Duration::from_secs(3600);

fn exit_of(state: &ContainerState) -> ExitRecord {
    state.exit.clone().unwrap_or_else(never_ran)
}

/// Docker's answer for a container that never ran.
fn never_ran() -> ExitRecord {
    ExitRecord {
        code: 0,
        signal: None,
        out_of_memory: false,
        at: Timestamp::now(),
        error: String::new(),
    }
}
