//! Progress of pulls and pushes: one line a change of state, or lines kept in place on a terminal.

use std::io::{self, Write};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use ketch_engine::image::{PullEvent, PullObserver};
use ketch_spec::image::{Descriptor, media_type};
use ketch_spec::{Digest, Reference, size};

/// Shortest time between two redraws of a progress bar.
const REDRAW: Duration = Duration::from_millis(100);
/// Characters of a progress bar.
const BAR: u64 = 50;

/// Where the lines go, and in whose words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sink {
    /// `pull`: standard output.
    Stdout,
    /// `push`: standard output, words of a push.
    Pushing,
    /// A pull that `run`, `create` or `build` needs: standard error.
    Stderr,
}

/// Shows events.
pub struct Progress {
    sink: Sink,
    terminal: bool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Layers in the order of their first line, with what each line says.
    lines: Vec<(String, String)>,
    /// What is being pulled, until its first line is written.
    pulling: Option<Reference>,
    last_bar: Option<Instant>,
}

impl Progress {
    /// For one pull or push.
    pub fn new(sink: Sink) -> Self {
        let terminal = match sink {
            Sink::Stdout | Sink::Pushing => rustix::termios::isatty(io::stdout()),
            Sink::Stderr => rustix::termios::isatty(io::stderr()),
        };
        Self {
            sink,
            terminal,
            state: Mutex::default(),
        }
    }

    fn write(&self, text: &str) {
        // Progress that nobody reads must not end the transfer.
        let _ = match self.sink {
            Sink::Stdout | Sink::Pushing => {
                let mut out = io::stdout().lock();
                out.write_all(text.as_bytes()).and_then(|()| out.flush())
            }
            Sink::Stderr => io::stderr().lock().write_all(text.as_bytes()),
        };
    }

    /// Sets the line of a layer. A bar changes often: only terminals show it, and not too often.
    fn set(&self, digest: &Digest, status: &str, is_bar: bool) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let id = crate::text::short_id(digest.as_str()).to_owned();
        if is_bar {
            let early = state.last_bar.is_some_and(|last| last.elapsed() < REDRAW);
            if !self.terminal || early {
                return;
            }
            state.last_bar = Some(Instant::now());
        }
        let status = status.to_owned();
        let known = state.lines.iter().position(|(line, _)| *line == id);
        match known {
            Some(at) if state.lines[at].1 == status => return,
            Some(at) => state.lines[at].1.clone_from(&status),
            // What was not announced is no layer: a push also tells of the image config.
            None => return,
        }
        let text = match known {
            Some(at) if self.terminal => {
                let up = state.lines.len() - at;
                format!("\x1b[{up}A\r\x1b[2K{id}: {status}\x1b[{up}B\r")
            }
            _ => format!("{id}: {status}\n"),
        };
        self.write(&text);
    }

    /// The first lines: what is pulled, and each of its layers.
    fn announce(&self, layers: &[Descriptor]) {
        let pushing = self.sink == Sink::Pushing;
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut text = String::new();
        if let Some(reference) = state.pulling.take() {
            text.push_str(&format!(
                "{}: Pulling from {}\n",
                version(&reference),
                reference.repository
            ));
        }
        let word = if pushing {
            "Preparing"
        } else {
            "Pulling fs layer"
        };
        for layer in layers.iter().filter(|layer| is_layer(layer)) {
            let id = crate::text::short_id(layer.digest.as_str()).to_owned();
            if state.lines.iter().all(|(known, _)| *known != id) {
                text.push_str(&format!("{id}: {word}\n"));
                state.lines.push((id, word.to_owned()));
            }
        }
        self.write(&text);
    }

    fn done_word(&self) -> &'static str {
        if self.sink == Sink::Pushing {
            "Pushed"
        } else {
            "Pull complete"
        }
    }
}

impl PullObserver for Progress {
    fn event(&self, event: PullEvent) {
        let pushing = self.sink == Sink::Pushing;
        match event {
            PullEvent::Resolving { reference } => {
                if !pushing {
                    self.state
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .pulling = Some(reference);
                }
            }
            PullEvent::Layers { layers } => self.announce(&layers),
            PullEvent::Exists { digest } => {
                self.set(
                    &digest,
                    if pushing {
                        "Layer already exists"
                    } else {
                        "Already exists"
                    },
                    false,
                );
            }
            PullEvent::Downloading {
                digest,
                done_bytes,
                total_bytes,
            } => {
                let word = if pushing { "Pushing" } else { "Downloading" };
                self.set(&digest, &bar(word, done_bytes, total_bytes), true);
            }
            PullEvent::Retrying {
                digest,
                reason,
                after_s,
            } => {
                self.set(
                    &digest,
                    &format!("Retrying in {after_s} seconds ({reason})"),
                    false,
                );
            }
            PullEvent::Verifying { digest } => self.set(&digest, "Verifying Checksum", false),
            PullEvent::Unpacking { digest } => self.set(&digest, "Download complete", false),
            PullEvent::Done { digest } => self.set(&digest, self.done_word(), false),
            PullEvent::Finished { .. } => {}
        }
    }
}

fn is_layer(descriptor: &Descriptor) -> bool {
    !matches!(
        descriptor.media_type.as_str(),
        media_type::CONFIG | media_type::DOCKER_CONFIG
    )
}

/// The tag or digest.
fn version(reference: &Reference) -> String {
    match (&reference.tag, &reference.digest) {
        (_, Some(digest)) => digest.to_string(),
        (Some(tag), None) => tag.clone(),
        (None, None) => "latest".into(),
    }
}

/// `Downloading [=====>      ]  1.2MB/3.4MB`.
fn bar(word: &str, done: u64, total: u64) -> String {
    let filled = done
        .saturating_mul(BAR)
        .checked_div(total)
        .unwrap_or(0)
        .min(BAR);
    let head = if filled < BAR { ">" } else { "" };
    let full = "=".repeat(usize::try_from(filled).unwrap_or(0));
    format!(
        "{word} [{:<50}]  {}/{}",
        format!("{full}{head}"),
        size::human(done),
        size::human(total)
    )
}

/// The pull that `run`, `create` and `build` make when an image is not there.
pub struct Implicit {
    progress: Option<Progress>,
    image: String,
    announce: bool,
}

impl Implicit {
    /// `quiet` shows no progress; `announce` says first that the image was not there.
    pub fn new(image: &str, quiet: bool, announce: bool) -> Self {
        let progress = if quiet {
            None
        } else {
            Some(Progress::new(Sink::Stderr))
        };
        Self {
            progress,
            image: image.to_owned(),
            announce,
        }
    }
}

impl PullObserver for Implicit {
    fn event(&self, event: PullEvent) {
        if matches!(event, PullEvent::Resolving { .. }) && self.announce {
            let image = self
                .image
                .parse::<Reference>()
                .map_or_else(|_| self.image.clone(), |name| name.familiar());
            crate::output::warn(&format!("Unable to find image '{image}' locally"));
        }
        let Some(progress) = &self.progress else {
            return;
        };
        if let PullEvent::Finished {
            reference,
            digest,
            newer,
        } = &event
        {
            let status = if *newer {
                "Downloaded newer image"
            } else {
                "Image is up to date"
            };
            progress.write(&format!(
                "Digest: {digest}\nStatus: {status} for {}\n",
                reference.familiar()
            ));
        }
        progress.event(event);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_fill_from_the_left() {
        assert_eq!(
            bar("Downloading", 0, 0),
            format!("Downloading [>{}]  0B/0B", " ".repeat(49))
        );
        assert_eq!(
            bar("Pushing", 500, 1000),
            format!("Pushing [{}>{}]  500B/1kB", "=".repeat(25), " ".repeat(24))
        );
        assert_eq!(
            bar("Pushing", 9, 9),
            format!("Pushing [{}]  9B/9B", "=".repeat(50))
        );
    }

    #[test]
    fn the_version_of_a_reference_is_its_digest_or_tag() {
        assert_eq!(
            version(&"busybox".parse::<Reference>().unwrap().with_default_tag()),
            "latest"
        );
        let digest = format!("busybox@sha256:{}", "0".repeat(64));
        assert_eq!(
            version(&digest.parse().unwrap()),
            format!("sha256:{}", "0".repeat(64))
        );
    }
}
