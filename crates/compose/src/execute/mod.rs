//! Plans carried out: operations that do not wait for each other run side by side, at most so many as the caller says.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ketch_engine::{Engine, Error, ErrorKind, Result};

use crate::model::Project;
use crate::plan::Plan;

mod files;
mod images;
mod observe;
mod operation;
mod wait;

pub(crate) use files::copy_files;
pub use images::BuildOptions;
pub use observe::{
    attached_name, containers, describe, observe, observe_containers, observe_images,
};

/// How many operations run at once, unless the caller says.
pub const MAX_PARALLEL: usize = 16;

/// Is told what happens.
pub trait ComposeObserver: Sync {
    /// `Container p-web-1`, `Started`. Called from several threads.
    fn event(&self, subject: &str, status: &str);
    /// Something that is not as it should be, but no failure.
    fn warning(&self, text: &str);
    /// Where builds report to.
    fn build(&self, service: &str) -> Box<dyn ketch_build::BuildObserver + '_>;
    /// Where pulls report to.
    fn pull(&self, service: &str) -> Box<dyn ketch_engine::image::PullObserver + '_>;
    /// Whether nothing new is to begin: the user has had enough.
    fn cancelled(&self) -> bool {
        false
    }
}

/// How to carry a plan out.
#[derive(Debug, Clone)]
pub struct ExecuteOptions {
    /// How many operations run at once.
    pub parallel: usize,
    /// How builds are made.
    pub build: BuildOptions,
    /// How long to wait for services, all in all.
    pub wait_timeout: Option<Duration>,
    /// A failure does not keep other operations from beginning, but for those that come after the failed one.
    pub keep_going: bool,
}

impl Default for ExecuteOptions {
    fn default() -> Self {
        Self {
            parallel: MAX_PARALLEL,
            build: BuildOptions::default(),
            wait_timeout: None,
            keep_going: false,
        }
    }
}

/// Carries out a plan. After a failure nothing new begins; what has begun ends.
///
/// # Errors
/// The first failure; `Interrupted` if the observer cancelled it.
pub fn execute(
    engine: &Engine,
    project: &Project,
    plan: &Plan,
    options: &ExecuteOptions,
    observer: &dyn ComposeObserver,
) -> Result<()> {
    let run = Run {
        engine,
        project,
        plan,
        options,
        observer,
        deadline: options.wait_timeout.map(|limit| Instant::now() + limit),
        progress: Mutex::new(Progress {
            waiting: (0..plan.operations.len()).collect(),
            ..Progress::default()
        }),
        changed: Condvar::new(),
    };
    std::thread::scope(|scope| {
        for _ in 0..options.parallel.max(1).min(plan.operations.len()) {
            scope.spawn(|| run.work());
        }
    });
    let progress = run
        .progress
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner);
    progress.failure.map_or(Ok(()), Err)
}

struct Run<'a> {
    engine: &'a Engine,
    project: &'a Project,
    plan: &'a Plan,
    options: &'a ExecuteOptions,
    observer: &'a dyn ComposeObserver,
    deadline: Option<Instant>,
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
            let outcome = operation::perform(self, &self.plan.operations[place].action);
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
            if self.observer.cancelled() {
                progress.failure.get_or_insert_with(interrupted);
                return None;
            }
            let failed = progress.failure.is_some() && !self.options.keep_going;
            if failed || progress.waiting.is_empty() {
                return None;
            }
            let is_done = |first: &usize| progress.done.contains(first);
            let is_free = |place: &usize| self.plan.operations[*place].after.iter().all(is_done);
            if let Some(at) = progress.waiting.iter().position(is_free) {
                progress.running += 1;
                return Some(progress.waiting.remove(at));
            }
            if progress.running == 0 {
                return None;
            }
            progress = self
                .changed
                .wait(progress)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// What a cancelled run ends with.
fn interrupted() -> Error {
    Error::new(ErrorKind::Interrupted, "canceled")
}
