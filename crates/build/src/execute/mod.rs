//! Carries a plan out. It decides nothing: a step whose key is known is skipped, any other is done and recorded.
//!
//! Stages run in parallel, at most [`MAX_STAGES`] at a time. Workers take stages in the plan's order, in which a stage
//! comes after all it needs; a worker that needs an unfinished stage waits for it. The first unfinished stage never
//! waits, so there is always one that goes on.

mod copy;
mod image;
mod key;
mod mounts;
mod run;
mod scratch;
mod stubs;

pub use image::commit;

use std::collections::{BTreeMap, VecDeque};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use ketch_engine::image::Image;
use ketch_engine::layer::{CacheRecord, LayerDraft, cache_get, cache_put};
use ketch_engine::{Engine, Error as EngineError, ErrorKind};
use ketch_spec::Digest;
use ketch_spec::image::Descriptor;
use rustix::pipe::PipeFlags;

use scratch::Scratch;

use crate::context::OpenContext;
use crate::copy::CopyError;
use crate::error::{BuildError, FailedStep, Source};
use crate::plan::{Operation, Origin, Plan, StagePlan, Step};
use crate::progress::{Progress, Vertex};
use crate::request::{BuildRequest, Secret};
use crate::source::{SourceError, SourceRoot, StatCache};

/// Stages that are worked on at the same time, at most.
const MAX_STAGES: usize = 4;

/// Everything a plan needs to be carried out.
pub struct Execution<'a> {
    /// The engine.
    pub engine: &'a Engine,
    /// How.
    pub settings: Settings<'a>,
    /// What to do.
    pub plan: &'a Plan,
    /// The images it names.
    pub images: &'a BTreeMap<String, Image>,
    /// The build context.
    pub context: &'a OpenContext,
    /// The directories given with `--build-context`.
    pub named: &'a BTreeMap<PathBuf, (SourceRoot, StatCache)>,
    /// The Dockerfile, for errors.
    pub source: &'a Source,
    /// Who is told.
    pub progress: &'a Progress<'a>,
}

/// What of the request concerns the steps.
#[derive(Debug, Clone, Copy)]
pub struct Settings<'a> {
    /// Look no record up.
    pub no_cache: bool,
    /// `name:address` for RUN.
    pub extra_hosts: &'a [String],
    /// Of RUN, in bytes.
    pub shm_size_bytes: Option<u64>,
    /// By id.
    pub secrets: &'a BTreeMap<String, Secret>,
    /// Whose caches: BUILDKIT_CACHE_MOUNT_NS.
    pub cache_namespace: &'a str,
}

impl<'a> Settings<'a> {
    /// Of a request.
    pub fn of(request: &'a BuildRequest) -> Self {
        Self {
            no_cache: request.no_cache,
            extra_hosts: &request.extra_hosts,
            shm_size_bytes: request.shm_size_bytes,
            secrets: &request.secrets,
            cache_namespace: request
                .args
                .get("BUILDKIT_CACHE_MOUNT_NS")
                .map_or("", String::as_str),
        }
    }
}

/// A root that is finished: the layers under it, lowest first.
#[derive(Debug, Clone, Default)]
pub struct Root {
    /// As a manifest lists them.
    pub blobs: Vec<Descriptor>,
    /// Their diff ids.
    pub layers: Vec<Digest>,
}

/// What a step gave.
#[derive(Debug, Clone)]
pub struct StepResult {
    /// Its layer, if it changed anything.
    pub layer: Option<Descriptor>,
    /// When it was done: now, or when the record was made.
    pub created: Timestamp,
}

/// All results.
#[derive(Debug, Default)]
pub struct Outcome {
    /// By stage number.
    pub roots: BTreeMap<usize, Arc<Root>>,
    /// By step.
    pub steps: BTreeMap<usize, StepResult>,
    /// Steps that ran.
    pub ran: usize,
    /// Steps that were known.
    pub cached: usize,
}

/// Why a step failed.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// The engine's failure.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// COPY, ADD or WORKDIR.
    #[error(transparent)]
    Copy(#[from] CopyError),
    /// The program of a RUN ended with another code than 0.
    #[error("process {process} did not complete successfully: {how}")]
    Process {
        /// Go's `%q` of the words.
        process: String,
        /// `exit code: 1`.
        how: String,
    },
    /// Something is asked for that is not there.
    #[error("{0}")]
    Missing(Missing),
    /// A file of ours cannot be made.
    #[error("{call} {path}: {error}", path = path.display())]
    Io {
        /// Which call.
        call: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// Another stage failed.
    #[error("cancelled")]
    Cancelled,
}

/// What is not there.
#[derive(Debug, thiserror::Error)]
pub enum Missing {
    /// A build without a context copies from it.
    #[error("there is no build context to read from: the Dockerfile came on standard input")]
    Context,
    /// A secret that is required.
    #[error("secret {0}: not found")]
    Secret(String),
    /// An owner.
    #[error("unable to convert uid/gid chown string to host mapping: {0}")]
    Owner(EngineError),
}

impl From<SourceError> for StepError {
    fn from(error: SourceError) -> Self {
        Self::Copy(error.into())
    }
}

impl StepError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Engine(error) => error.kind,
            Self::Copy(CopyError::Source(SourceError::NotFound { .. })) => ErrorKind::NotFound,
            Self::Copy(CopyError::Source(SourceError::Io { .. }) | CopyError::Target { .. })
            | Self::Io { .. } => ErrorKind::Internal,
            Self::Copy(_) | Self::Process { .. } | Self::Missing(_) => ErrorKind::Invalid,
            Self::Cancelled => ErrorKind::Interrupted,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::Engine(error) => error.hints.clone(),
            _ => Vec::new(),
        }
    }
}

/// Shared by the workers.
struct Shared {
    outcome: Mutex<Outcome>,
    /// Told when a stage is finished or has failed.
    finished: Condvar,
    failed: AtomicBool,
    /// What running steps watch: its other end is closed when one has failed.
    cancelled: OwnedFd,
    cancel: Mutex<Option<OwnedFd>>,
    todo: Mutex<VecDeque<usize>>,
    ran: AtomicUsize,
    cached: AtomicUsize,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A worker at a stage.
struct Worker<'a> {
    execution: &'a Execution<'a>,
    shared: &'a Shared,
}

impl Execution<'_> {
    /// Where steps have their scratch directories: in memory, for secrets, and beside the layers.
    fn scratch_dirs(&self) -> [PathBuf; 2] {
        let paths = self.engine.paths();
        [
            paths.run_root().join("build"),
            paths.build_dir().join("scratch"),
        ]
    }

    /// Carries the plan out.
    ///
    /// # Errors
    /// The first step that failed; the others stop before their next step.
    pub fn run(&self) -> Result<Outcome, BuildError> {
        for directory in self.scratch_dirs() {
            Scratch::sweep(&directory);
        }
        let (cancelled, cancel) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).map_err(|errno| {
            EngineError::caused(ErrorKind::Internal, "pipe2", &std::io::Error::from(errno))
        })?;
        let shared = Shared {
            cancelled,
            cancel: Mutex::new(Some(cancel)),
            outcome: Mutex::default(),
            finished: Condvar::new(),
            failed: AtomicBool::new(false),
            todo: Mutex::new((0..self.plan.stages.len()).collect()),
            ran: AtomicUsize::new(0),
            cached: AtomicUsize::new(0),
        };
        let worker = Worker {
            execution: self,
            shared: &shared,
        };
        let workers = self.plan.stages.len().min(MAX_STAGES);
        let results: Vec<Result<(), BuildError>> = std::thread::scope(|scope| {
            let others: Vec<_> = (1..workers)
                .map(|_| scope.spawn(|| worker.work()))
                .collect();
            let mut results = vec![worker.work()];
            for other in others {
                results.push(
                    other
                        .join()
                        .unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
                );
            }
            results
        });
        self.context.stamps.save();
        for (_, stamps) in self.named.values() {
            stamps.save();
        }
        // A worker that was only told to stop is not the reason.
        let mut errors: Vec<_> = results.into_iter().filter_map(Result::err).collect();
        errors.sort_by_key(|error| error.kind() == ErrorKind::Interrupted);
        if let Some(error) = errors.into_iter().next() {
            return Err(error);
        }
        let mut outcome = shared
            .outcome
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        outcome.ran = shared.ran.into_inner();
        outcome.cached = shared.cached.into_inner();
        Ok(outcome)
    }
}

impl Worker<'_> {
    fn work(&self) -> Result<(), BuildError> {
        loop {
            let Some(index) = lock(&self.shared.todo).pop_front() else {
                return Ok(());
            };
            if let Err(error) = self.stage(&self.execution.plan.stages[index]) {
                let _guard = lock(&self.shared.outcome);
                self.shared.failed.store(true, Ordering::SeqCst);
                drop(lock(&self.shared.cancel).take());
                self.shared.finished.notify_all();
                return Err(error);
            }
        }
    }

    fn stage(&self, stage: &StagePlan) -> Result<(), BuildError> {
        let plan = self.execution.plan;
        let mut root = match self.root_of(&stage.base) {
            Ok(root) => (*root).clone(),
            Err(error) => return Err(self.error(error, None)),
        };
        if let Some(title) = &stage.title {
            self.execution.progress.start(title).done();
        }
        for &index in &stage.steps {
            let step = &plan.steps[index];
            let result = self
                .step(step, &root)
                .map_err(|error| self.error(error, Some(step)))?;
            if let Some(layer) = &result.layer {
                root.layers.push(layer.digest.clone());
                root.blobs.push(layer.clone());
            }
            lock(&self.shared.outcome).steps.insert(index, result);
        }
        lock(&self.shared.outcome)
            .roots
            .insert(stage.number, Arc::new(root));
        self.shared.finished.notify_all();
        Ok(())
    }

    fn error(&self, error: StepError, step: Option<&Step>) -> BuildError {
        let place = step.map(|step| step.place.clone()).unwrap_or_default();
        match (error, step) {
            (StepError::Engine(error), None) => BuildError::Engine(error),
            (error, _) => BuildError::Step {
                failed: Box::new(FailedStep {
                    dockerfile: self.execution.source.clone(),
                    lines: place.lines,
                    at: place.at,
                    text: place.text,
                    kind: error.kind(),
                    hints: error.hints(),
                    message: error.to_string(),
                }),
            },
        }
    }

    /// The layers of an origin; waits for a stage.
    fn root_of(&self, origin: &Origin) -> Result<Arc<Root>, StepError> {
        match origin {
            Origin::Stage(number) => {
                let mut outcome = lock(&self.shared.outcome);
                loop {
                    if let Some(root) = outcome.roots.get(number) {
                        return Ok(Arc::clone(root));
                    }
                    if self.shared.failed.load(Ordering::SeqCst) {
                        return Err(StepError::Cancelled);
                    }
                    outcome = self
                        .shared
                        .finished
                        .wait(outcome)
                        .unwrap_or_else(PoisonError::into_inner);
                }
            }
            Origin::Image(name) => {
                let image = self.execution.images.get(name);
                Ok(image.map_or_else(Arc::default, |image| {
                    Arc::new(Root {
                        blobs: image.blobs.clone(),
                        layers: image.layers.clone(),
                    })
                }))
            }
            Origin::Scratch | Origin::Context | Origin::Directory(_) => Ok(Arc::default()),
        }
    }

    /// Does a step on `root`, or finds that it was done before.
    fn step(&self, step: &Step, root: &Root) -> Result<StepResult, StepError> {
        if self.shared.failed.load(Ordering::SeqCst) {
            return Err(StepError::Cancelled);
        }
        // A COPY waits for its stage before it counts as begun.
        if let Operation::Copy(copy) = &step.operation {
            self.root_of(&copy.from)?;
        }
        let vertex = self.execution.progress.start(&step.title);
        let result = self.keyed(step, root, &vertex);
        if let Err(error) = &result {
            vertex.failed(&error.to_string());
        }
        result
    }

    fn keyed(
        &self,
        step: &Step,
        root: &Root,
        vertex: &Vertex<'_>,
    ) -> Result<StepResult, StepError> {
        match &step.operation {
            Operation::Run(run) => {
                let mut key = key::step("run", root);
                self.run_key(&mut key, run)?;
                self.with_key(key.finish(), vertex, || {
                    self.run_step(run, root, vertex).map(Some)
                })
            }
            Operation::Workdir { path, user } => {
                let mut key = key::step("workdir", root);
                key.text(path).text(user);
                self.with_key(key.finish(), vertex, || {
                    self.work_directory(path, user, root)
                })
            }
            Operation::Copy(copy) => self.copy_step(copy, root, vertex),
        }
    }

    /// The record of `key`, or what `make` gives, recorded.
    fn with_key(
        &self,
        key: Digest,
        vertex: &Vertex<'_>,
        make: impl FnOnce() -> Result<Option<Descriptor>, StepError>,
    ) -> Result<StepResult, StepError> {
        if let Some(record) = self.known(&key)? {
            return Ok(self.cached(record, vertex));
        }
        self.made(&[key], vertex, make)
    }

    fn known(&self, key: &Digest) -> Result<Option<CacheRecord>, StepError> {
        if self.execution.settings.no_cache {
            return Ok(None);
        }
        Ok(cache_get(self.execution.engine, key)?)
    }

    fn cached(&self, record: CacheRecord, vertex: &Vertex<'_>) -> StepResult {
        vertex.cached();
        self.shared.cached.fetch_add(1, Ordering::Relaxed);
        StepResult {
            layer: record.layer,
            created: record.created,
        }
    }

    fn made(
        &self,
        keys: &[Digest],
        vertex: &Vertex<'_>,
        make: impl FnOnce() -> Result<Option<Descriptor>, StepError>,
    ) -> Result<StepResult, StepError> {
        let record = CacheRecord::new(make()?);
        for key in keys {
            cache_put(self.execution.engine, key, &record)?;
        }
        vertex.done();
        self.shared.ran.fetch_add(1, Ordering::Relaxed);
        Ok(StepResult {
            layer: record.layer,
            created: record.created,
        })
    }

    fn draft(&self, root: &Root) -> Result<LayerDraft, StepError> {
        Ok(LayerDraft::new(self.execution.engine, &root.layers)?)
    }
}
