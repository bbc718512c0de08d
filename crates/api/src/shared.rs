//! What all requests share: the engine, and connections that are in the making. No container state.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ketch_engine::container::{Attached, ExecConfig};
use ketch_engine::{Engine, Error, ErrorKind, Result};
use ketch_spec::Id;
use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::connection::Streams;

/// Requests that may block a thread for as long as a container runs. Fewer than the blocking threads, so that short
/// verbs always find one.
const MAX_LONG: usize = 384;
/// Exec sessions remembered.
const MAX_EXECS: usize = 1024;
/// Clients that may wait for the start of one container.
const MAX_WAITING: usize = 64;

/// What all requests share.
pub struct Shared {
    /// The engine.
    pub engine: Engine,
    /// Permits of requests that block for long.
    pub long: Arc<Semaphore>,
    waiting: Mutex<HashMap<Id, Vec<Waiting>>>,
    execs: Mutex<HashMap<Id, ExecSession>>,
}

/// A client that has attached to a container which does not run yet.
pub struct Waiting {
    /// What it wants.
    pub streams: Streams,
    /// Takes the connection when it runs. A dropped sender tells that the start failed.
    pub sender: oneshot::Sender<Attached>,
}

/// A process that a client has asked for, beside a container's init.
#[derive(Debug)]
pub struct ExecSession {
    /// The container.
    pub container: Id,
    /// The process.
    pub config: ExecConfig,
    /// The client's streams.
    pub streams: Streams,
    /// Where it is in its life.
    pub progress: Progress,
    /// Draws the order of sessions, for forgetting the oldest.
    pub number: u64,
}

/// Where an exec session is in its life.
#[derive(Debug)]
pub enum Progress {
    /// Not started.
    Created,
    /// Running; takes sizes of its terminal.
    Running(mpsc::Sender<(u16, u16)>),
    /// Ended with this code.
    Ended(i32),
}

impl Shared {
    /// Around an engine.
    pub fn new(engine: Engine) -> Self {
        Self {
            engine,
            long: Arc::new(Semaphore::new(MAX_LONG)),
            waiting: Mutex::default(),
            execs: Mutex::default(),
        }
    }

    /// Lets a client wait for the start of a container.
    ///
    /// # Errors
    /// `Unavailable` if too many do.
    pub fn wait_for_start(&self, id: &Id, waiting: Waiting) -> Result<()> {
        let mut all = locked(&self.waiting);
        // Clients that have gone make room.
        for list in all.values_mut() {
            list.retain(|one| !one.sender.is_closed());
        }
        all.retain(|_, list| !list.is_empty());
        let list = all.entry(id.clone()).or_default();
        if list.len() >= MAX_WAITING {
            return Err(Error::new(
                ErrorKind::Unavailable,
                format!("too many clients wait for the start of container {id}"),
            ));
        }
        list.push(waiting);
        Ok(())
    }

    /// The clients that wait for the start of a container: they are the caller's now.
    pub fn take_waiting(&self, id: &Id) -> Vec<Waiting> {
        let mut list = locked(&self.waiting).remove(id).unwrap_or_default();
        list.retain(|one| !one.sender.is_closed());
        list
    }

    /// Remembers an exec session. Ended ones are forgotten, the oldest first, to make room.
    ///
    /// # Errors
    /// `Unavailable` if there are too many that have not ended.
    pub fn add_exec(&self, id: Id, mut session: ExecSession) -> Result<()> {
        let mut all = locked(&self.execs);
        if all.len() >= MAX_EXECS {
            let ended = all
                .iter()
                .filter(|(_, one)| matches!(one.progress, Progress::Ended(_)))
                .min_by_key(|(_, one)| one.number)
                .map(|(id, _)| id.clone());
            let Some(ended) = ended else {
                return Err(Error::new(ErrorKind::Unavailable, "too many exec sessions"));
            };
            all.remove(&ended);
        }
        session.number = all.values().map(|one| one.number + 1).max().unwrap_or(0);
        all.insert(id, session);
        Ok(())
    }

    /// Looks at or changes an exec session.
    ///
    /// # Errors
    /// `NotFound` in Docker's words.
    pub fn exec<T>(
        &self,
        wanted: &str,
        look: impl FnOnce(&Id, &mut ExecSession) -> T,
    ) -> Result<T> {
        let mut all = locked(&self.execs);
        let found = wanted
            .parse::<Id>()
            .ok()
            .and_then(|id| all.get_mut(&id).map(|session| look(&id, session)));
        found.ok_or_else(|| {
            Error::new(
                ErrorKind::NotFound,
                format!("No such exec instance: {wanted}"),
            )
        })
    }
}

/// A panic while it was held leaves maps that are whole.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
