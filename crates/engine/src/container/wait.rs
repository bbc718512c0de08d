//! `wait`: until a container exits.

use jiff::Timestamp;
use ketch_spec::Id;

use super::channel::{self, LOOK_AGAIN};
use super::control::{Reply, Request};
use super::load::{self, is_live};
use super::state::{ContainerState, ExitRecord};
use super::watch::Watch;
use crate::{Engine, ErrorKind, Result, event};

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
    begin_wait(engine, wanted, condition)?.finish()
}

/// A wait that has begun: what happens from here on is not missed, however late it is finished.
#[derive(Debug)]
pub struct Waiting {
    engine: Engine,
    id: Id,
    condition: WaitCondition,
    watch: Watch,
    /// The exit before, which does not count as the next one.
    before: Option<ExitRecord>,
    begun: Timestamp,
}

/// Begins a wait, for callers that start the container only then.
///
/// # Errors
/// `NotFound` if it is not there.
pub fn begin_wait(engine: &Engine, wanted: &str, condition: WaitCondition) -> Result<Waiting> {
    let id = load::resolve(engine, wanted)?;
    let begun = Timestamp::now();
    let watch = Watch::container(engine, &id)?;
    let (_, state) = load::load(engine, &id)?;
    Ok(Waiting {
        engine: engine.clone(),
        id,
        condition,
        watch,
        before: state.exit,
        begun,
    })
}

impl Waiting {
    /// Blocks until the condition holds, however long that takes, and returns the last exit.
    ///
    /// # Errors
    /// The container's records cannot be read.
    pub fn finish(self) -> Result<ExitRecord> {
        let Self {
            engine, id, watch, ..
        } = &self;
        let mut last = self.before.clone();
        loop {
            let state = match load::load(engine, id) {
                Ok((_, state)) => state,
                // Gone: every condition holds now.
                Err(error) if error.kind == ErrorKind::NotFound => {
                    return Ok(self.told_exit().or(last).unwrap_or_else(never_ran));
                }
                Err(error) => return Err(error),
            };
            last.clone_from(&state.exit);
            match self.condition {
                WaitCondition::NotRunning if !is_live(state.status) => return Ok(exit_of(&state)),
                WaitCondition::NextExit if state.exit != self.before => return Ok(exit_of(&state)),
                _ => {}
            }
            if !is_live(state.status) {
                watch.wait(WHOLE_HOUR)?;
                continue;
            }
            // The monitor answers at the exit, whether it starts the container again or not, as Docker's wait does.
            match channel::request(engine, id, &Request::Wait)? {
                Some(Reply::Exited(exit)) if self.condition != WaitCondition::Removed => {
                    return Ok(exit);
                }
                Some(Reply::Exited(exit)) => {
                    last = Some(exit);
                    watch.wait(LOOK_AGAIN)?;
                }
                Some(Reply::Failed(error)) => return Err(error),
                Some(Reply::Ok) | None => watch.wait(LOOK_AGAIN)?,
            }
        }
    }

    /// The last exit since the wait began, as the events tell it: all that is left of a container that ran and was
    /// removed before anybody looked.
    fn told_exit(&self) -> Option<ExitRecord> {
        let events = event::read(&self.engine, Some(self.begun), None).ok()?;
        let died = events
            .iter()
            .rfind(|event| event.action == "die" && event.id == self.id.as_str())?;
        Some(ExitRecord {
            code: died.attributes.get("exitCode")?.parse().ok()?,
            at: died.time,
            ..never_ran()
        })
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
