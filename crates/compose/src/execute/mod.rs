//! Plans carried out: operations that do not wait for each other run side by side, at most [`MAX_PARALLEL`] of them.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use ketch_engine::{Engine, Error, Result};

use crate::model::Project;
use crate::plan::{Action, Plan};

mod images;
mod observe;
mod operation;

pub use images::{ImageOptions, PullMode, ensure_images};
pub use observe::{containers, observe};
pub use operation::attached_name;

/// How many operations run at once.
pub const MAX_PARALLEL: usize = 8;

/// Is told what happens.
pub trait ComposeObserver: Sync {
    /// `Container p-web-1`, `Started`. Called from several threads.
    fn event(&self, subject: &str, status: &str);
    /// Where builds report to.
    fn build(&self, service: &str) -> Box<dyn ketch_build::BuildObserver + '_>;
    /// Where pulls report to.
    fn pull(&self, service: &str) -> Box<dyn ketch_engine::image::PullObserver + '_>;
}

/// Carries out a plan. After a failure nothing new begins; what has begun ends.
///
/// # Errors
/// The first failure.
pub fn execute(engine: &Engine, project: &Project, plan: &Plan, observer: &dyn ComposeObserver) -> Result<()> {
    let run = Run {
        engine,
        project,
        plan,
        observer,
        progress: Mutex::new(Progress { waiting: (0..plan.operations.len()).collect(), ..Progress::default() }),
        changed: Condvar::new(),
    };
    std::thread::scope(|scope| {
        for _ in 0..MAX_PARALLEL.min(plan.operations.len()) {
            scope.spawn(|| run.work());
        }
    });
    let progress = run.progress.into_inner().unwrap_or_else(PoisonError::into_inner);
    progress.failure.map_or(Ok(()), Err)
}

struct Run<'a> {
    engine: &'a Engine,
    project: &'a Project,
    plan: &'a Plan,
    observer: &'a dyn ComposeObserver,
    progress: Mutex<Progress>,
    changed: Condvar,
}

#[derive(Default)]
struct Progress {
    waiting: Vec<usize>,
    running: usize,
    done: Vec<usize>,
    failure: Option<Error>,
    /// Ids of the containers that this run made, by service and number.
    made: BTreeMap<(String, u32), String>,
}

impl Run<'_> {
    fn lock(&self) -> MutexGuard<'_, Progress> {
        // a poisoned lock means that a thread panicked, which ends the program
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        while let Some(place) = self.next() {
            let action = &self.plan.operations[place].action;
            let outcome = self.perform(action);
            let mut progress = self.lock();
            progress.running -= 1;
            match outcome {
                Ok(()) => progress.done.push(place),
                Err(error) => {
                    progress.failure.get_or_insert(error);
                }
            }
            self.changed.notify_all();
        }
    }

    /// The next operation that may begin; None when there is nothing left to begin.
    fn next(&self) -> Option<usize> {
        let mut progress = self.lock();
        loop {
            if progress.failure.is_some() || progress.waiting.is_empty() {
                return None;
            }
            let free = progress
                .waiting
                .iter()
                .position(|place| self.plan.operations[*place].after.iter().all(|first| progress.done.contains(first)));
            if let Some(at) = free {
                progress.running += 1;
                return Some(progress.waiting.remove(at));
            }
            if progress.running == 0 {
                return None;
            }
            progress = self.changed.wait(progress).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn perform(&self, action: &Action) -> Result<()> {
        operation::perform(self, action)
    }
}
