//! Progress of pulls and pushes: one line a change of state, or lines kept in place on a terminal.

use std::sync::{Mutex, PoisonError};

use ketch_engine::image::{PullEvent, PullObserver};
use ketch_spec::image::{Descriptor, media_type};
use ketch_spec::{Digest, Reference};

use crate::board::{Board, Status, Stream};

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
    board: Board,
    /// What is being pulled, until its first line is written.
    pulling: Mutex<Option<Reference>>,
}

impl Progress {
    /// For one pull or push.
    pub fn new(sink: Sink) -> Self {
        let stream = match sink {
            Sink::Stdout | Sink::Pushing => Stream::Stdout,
            Sink::Stderr => Stream::Stderr,
        };
        Self {
            sink,
            board: Board::new(stream),
            pulling: Mutex::default(),
        }
    }

    /// Sets the line of a layer. What was not announced is no layer: a push also tells of the image config.
    fn set(&self, digest: &Digest, status: Status) {
        let id = crate::text::short_id(digest.as_str());
        self.board.set(id, status, false);
    }

    /// The first lines: what is pulled, and each of its layers.
    fn announce(&self, layers: &[Descriptor]) {
        let pulling = self.pulling.lock();
        if let Some(reference) = pulling.unwrap_or_else(PoisonError::into_inner).take() {
            self.board.heading(&format!(
                "{}: Pulling from {}\n",
                version(&reference),
                reference.repository
            ));
        }
        let word = match self.sink {
            Sink::Pushing => "Preparing",
            Sink::Stdout | Sink::Stderr => "Pulling fs layer",
        };
        let layers = layers.iter().filter(|layer| is_layer(layer));
        let ids = layers.map(|layer| crate::text::short_id(layer.digest.as_str()).to_owned());
        self.board.add(ids, word);
    }
}

impl PullObserver for Progress {
    fn event(&self, event: PullEvent) {
        let pushing = self.sink == Sink::Pushing;
        let done = |pulled: &str, pushed: &str| {
            Status::Done(if pushing { pushed } else { pulled }.to_owned())
        };
        match event {
            PullEvent::Resolving { reference } => {
                if !pushing {
                    let mut pulling = self.pulling.lock().unwrap_or_else(PoisonError::into_inner);
                    *pulling = Some(reference);
                }
            }
            PullEvent::Layers { layers } => self.announce(&layers),
            PullEvent::Exists { digest } => {
                self.set(&digest, done("Already exists", "Layer already exists"));
            }
            PullEvent::Downloading {
                digest,
                done_bytes,
                total_bytes,
            } => {
                let bar = Status::Bar {
                    word: if pushing { "Pushing" } else { "Downloading" },
                    done_bytes,
                    total_bytes,
                };
                self.set(&digest, bar);
            }
            PullEvent::Retrying {
                digest,
                reason,
                after_s,
            } => {
                let text = format!("Retrying in {after_s} seconds ({reason})");
                self.set(&digest, Status::Text(text));
            }
            PullEvent::Verifying { digest } => {
                self.set(&digest, Status::Text("Verifying Checksum".into()));
            }
            PullEvent::Unpacking { digest } => {
                self.set(&digest, Status::Text("Download complete".into()));
            }
            PullEvent::Done { digest } => self.set(&digest, done("Pull complete", "Pushed")),
            PullEvent::Finished { .. } => self.board.finish(),
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
        progress.event(event.clone());
        if let PullEvent::Finished {
            reference,
            digest,
            newer,
        } = event
        {
            let status = if newer {
                "Downloaded newer image"
            } else {
                "Image is up to date"
            };
            progress.board.heading(&format!(
                "Digest: {digest}\nStatus: {status} for {}\n",
                reference.familiar()
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
