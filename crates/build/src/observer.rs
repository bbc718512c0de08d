//! What a build tells while it goes. Events of stages that run in parallel are interleaved, never overlapping: the
//! observer is called from several threads.

/// Receives a build's events.
pub trait BuildObserver: Sync {
    /// One event. Must not block for long: the step that sends it waits.
    fn event(&self, event: BuildEvent<'_>);
}

/// An observer that ignores everything.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl BuildObserver for Silent {
    fn event(&self, _: BuildEvent<'_>) {}
}

/// One thing that happened. `vertex` numbers count from 1 in the order of starting: `#5` in plain progress output.
#[derive(Debug)]
pub enum BuildEvent<'a> {
    /// A vertex begins: `[internal] load build definition from Dockerfile`, `[2/4] RUN make`, `[build 3/5] COPY . .`,
    /// `exporting to image`.
    Started {
        /// Its number.
        vertex: u32,
        /// Its title.
        title: &'a str,
    },
    /// What it did came from the cache; no [`BuildEvent::Done`] follows.
    Cached {
        /// Its number.
        vertex: u32,
    },
    /// It is finished.
    Done {
        /// Its number.
        vertex: u32,
        /// How long it took, in milliseconds.
        elapsed_ms: u64,
    },
    /// It failed; the build ends with an error.
    Failed {
        /// Its number.
        vertex: u32,
        /// Why, in one line.
        message: &'a str,
    },
    /// Output of a RUN step as it comes: any bytes, not always whole lines.
    Output {
        /// Its number.
        vertex: u32,
        /// Which stream.
        stream: OutputStream,
        /// The bytes.
        bytes: &'a [u8],
    },
    /// A note on a vertex: `naming to docker.io/library/app:latest`, `writing image sha256:…`.
    Note {
        /// Its number.
        vertex: u32,
        /// The text, one line.
        text: &'a str,
    },
    /// Something in the Dockerfile or the request that is allowed, but probably not meant.
    Warning {
        /// Line in the Dockerfile, from 1; 0 if it is about none.
        line: usize,
        /// The text, one line.
        text: &'a str,
    },
}

/// Where output came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}
