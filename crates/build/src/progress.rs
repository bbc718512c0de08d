//! Numbers and times of what the observer is told.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use ketch_engine::image::{PullEvent, PullObserver};
use ketch_spec::size;

use crate::observer::{BuildEvent, BuildObserver, OutputStream};

/// Hands out vertex numbers.
pub struct Progress<'a> {
    observer: &'a dyn BuildObserver,
    last: AtomicU32,
}

/// Something under way.
pub struct Vertex<'a> {
    observer: &'a dyn BuildObserver,
    number: u32,
    started: Instant,
}

impl<'a> Progress<'a> {
    /// For one build.
    pub fn new(observer: &'a dyn BuildObserver) -> Self {
        Self {
            observer,
            last: AtomicU32::new(0),
        }
    }

    /// Begins a vertex.
    pub fn start(&self, title: &str) -> Vertex<'a> {
        let number = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        self.observer.event(BuildEvent::Started {
            vertex: number,
            title,
        });
        Vertex {
            observer: self.observer,
            number,
            started: Instant::now(),
        }
    }

    /// Tells a warning.
    pub fn warn(&self, line: usize, text: &str) {
        self.observer.event(BuildEvent::Warning { line, text });
    }
}

impl Vertex<'_> {
    /// It is finished.
    pub fn done(&self) {
        let elapsed_ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.observer.event(BuildEvent::Done {
            vertex: self.number,
            elapsed_ms,
        });
    }

    /// It came from the cache.
    pub fn cached(&self) {
        self.observer.event(BuildEvent::Cached {
            vertex: self.number,
        });
    }

    /// It failed.
    pub fn failed(&self, message: &str) {
        self.observer.event(BuildEvent::Failed {
            vertex: self.number,
            message,
        });
    }

    /// A line about it.
    pub fn note(&self, text: &str) {
        self.observer.event(BuildEvent::Note {
            vertex: self.number,
            text,
        });
    }

    /// Output of its program.
    pub fn output(&self, stream: OutputStream, bytes: &[u8]) {
        self.observer.event(BuildEvent::Output {
            vertex: self.number,
            stream,
            bytes,
        });
    }
}

impl PullObserver for Vertex<'_> {
    fn event(&self, event: PullEvent) {
        let text = match event {
            PullEvent::Resolving { reference } => format!("resolve {reference}"),
            PullEvent::Downloading {
                digest,
                done_bytes,
                total_bytes,
            } => {
                format!(
                    "{digest} {} / {}",
                    size::human(done_bytes),
                    size::human(total_bytes)
                )
            }
            PullEvent::Retrying {
                digest,
                reason,
                after_s,
            } => format!("{digest} again in {after_s}s: {reason}"),
            PullEvent::Done { digest } => format!("{digest} done"),
            PullEvent::Layers { .. }
            | PullEvent::Exists { .. }
            | PullEvent::Verifying { .. }
            | PullEvent::Unpacking { .. }
            | PullEvent::Finished { .. } => return,
        };
        self.note(&text);
    }
}
