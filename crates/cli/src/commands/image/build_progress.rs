//! BuildKit's plain progress on standard error: numbered vertices, their output line by line, how each ended.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, Write};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use ketch_build::{BuildEvent, BuildObserver};

/// The longest output line that is held back until its end comes.
const MAX_LINE: usize = 1 << 16;

/// Shows events as they come.
pub struct Plain {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    vertices: BTreeMap<u32, Vertex>,
    last: Option<u32>,
}

struct Vertex {
    started: Instant,
    /// Output without an end of line yet.
    partial: Vec<u8>,
}

impl Plain {
    /// For one build.
    pub fn new() -> Self {
        Self {
            state: Mutex::default(),
        }
    }
}

impl BuildObserver for Plain {
    fn event(&self, event: BuildEvent<'_>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let text = state.text(event, Instant::now());
        // Progress that nobody reads must not end the build.
        let _ = io::stderr().lock().write_all(&text);
    }
}

impl State {
    fn text(&mut self, event: BuildEvent<'_>, now: Instant) -> Vec<u8> {
        let mut out = Vec::new();
        match event {
            BuildEvent::Started { vertex, title } => {
                self.vertices.insert(
                    vertex,
                    Vertex {
                        started: now,
                        partial: Vec::new(),
                    },
                );
                self.line(&mut out, vertex, title.as_bytes());
            }
            BuildEvent::Cached { vertex } => self.line(&mut out, vertex, b"CACHED"),
            BuildEvent::Done { vertex, elapsed_ms } => {
                self.flush(&mut out, vertex, now);
                let seconds = elapsed_ms / 1000;
                let tenths = elapsed_ms % 1000 / 100;
                self.line(
                    &mut out,
                    vertex,
                    format!("DONE {seconds}.{tenths}s").as_bytes(),
                );
            }
            BuildEvent::Failed { vertex, message } => {
                self.flush(&mut out, vertex, now);
                self.line(&mut out, vertex, format!("ERROR: {message}").as_bytes());
            }
            BuildEvent::Output {
                vertex,
                stream: _,
                bytes,
            } => self.output(&mut out, vertex, bytes, now),
            BuildEvent::Note { vertex, text } => self.line(&mut out, vertex, text.as_bytes()),
            BuildEvent::Warning { line, text } => {
                let mut warning = String::new();
                let place = if line > 0 {
                    format!(" (line {line})")
                } else {
                    String::new()
                };
                let _ = writeln!(warning, " - WARN: {text}{place}");
                out.extend_from_slice(warning.as_bytes());
            }
        }
        out
    }

    fn output(&mut self, out: &mut Vec<u8>, vertex: u32, bytes: &[u8], now: Instant) {
        let Some(known) = self.vertices.get_mut(&vertex) else {
            return;
        };
        known.partial.extend_from_slice(bytes);
        let pending = std::mem::take(&mut known.partial);
        let started = known.started;
        let mut rest = pending.as_slice();
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            self.timed(out, vertex, &rest[..end], started, now);
            rest = &rest[end + 1..];
        }
        if rest.len() > MAX_LINE {
            self.timed(out, vertex, rest, started, now);
            rest = &[];
        }
        if let Some(known) = self.vertices.get_mut(&vertex) {
            known.partial = rest.to_vec();
        }
    }

    fn flush(&mut self, out: &mut Vec<u8>, vertex: u32, now: Instant) {
        let Some(known) = self.vertices.get_mut(&vertex) else {
            return;
        };
        let partial = std::mem::take(&mut known.partial);
        let started = known.started;
        if !partial.is_empty() {
            self.timed(out, vertex, &partial, started, now);
        }
    }

    fn timed(
        &mut self,
        out: &mut Vec<u8>,
        vertex: u32,
        line: &[u8],
        started: Instant,
        now: Instant,
    ) {
        let elapsed = now.saturating_duration_since(started).as_millis();
        let mut text = format!("{}.{:03} ", elapsed / 1000, elapsed % 1000).into_bytes();
        text.extend_from_slice(line.strip_suffix(b"\r").unwrap_or(line));
        self.line(out, vertex, &text);
    }

    /// A line of a vertex; an empty line goes before it where another vertex spoke last.
    fn line(&mut self, out: &mut Vec<u8>, vertex: u32, text: &[u8]) {
        if self.last.is_some_and(|last| last != vertex) {
            out.push(b'\n');
        }
        self.last = Some(vertex);
        out.extend_from_slice(format!("#{vertex} ").as_bytes());
        out.extend_from_slice(text);
        out.push(b'\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ketch_build::OutputStream;
    use std::time::Duration;

    #[test]
    fn vertices_are_numbered_and_output_comes_in_whole_lines() {
        let mut state = State::default();
        let start = Instant::now();
        let mut all = Vec::new();
        let mut tell = |event: BuildEvent<'_>, millis: u64| {
            all.extend(state.text(event, start + Duration::from_millis(millis)));
        };
        let output = |bytes: &'static [u8]| BuildEvent::Output {
            vertex: 2,
            stream: OutputStream::Stdout,
            bytes,
        };
        tell(
            BuildEvent::Started {
                vertex: 1,
                title: "[internal] load build definition from Dockerfile",
            },
            0,
        );
        tell(
            BuildEvent::Done {
                vertex: 1,
                elapsed_ms: 12,
            },
            0,
        );
        tell(
            BuildEvent::Started {
                vertex: 2,
                title: "[2/2] RUN make",
            },
            0,
        );
        tell(output(b"one\ntw"), 120);
        tell(output(b"o\nthree"), 1250);
        tell(
            BuildEvent::Done {
                vertex: 2,
                elapsed_ms: 1350,
            },
            1350,
        );
        tell(
            BuildEvent::Started {
                vertex: 3,
                title: "[3/3] COPY . .",
            },
            1400,
        );
        tell(BuildEvent::Cached { vertex: 3 }, 1400);
        assert_eq!(
            String::from_utf8(all).unwrap(),
            "#1 [internal] load build definition from Dockerfile\n#1 DONE 0.0s\n\n#2 [2/2] RUN make\n#2 0.120 one\n#2 1.250 two\n#2 1.350 three\n#2 DONE 1.3s\n\n#3 [3/3] COPY . .\n#3 CACHED\n"
        );
    }
}
