//! Verbs that talk to a registry for long: they run on a thread of their own, and tell the client as they go.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use ketch_engine::image::{PullEvent, PullObserver};
use ketch_engine::{Error, ErrorKind, Result};
use ketch_spec::Digest;
use serde_json::{Value, json};

use crate::reply::{JSON, Reply, Sink};

/// Messages that wait for a slow client; further ones are left out: the last is what counts.
const QUEUED_MESSAGES: usize = 1024;
/// How often the progress of one layer is told.
const PROGRESS_EVERY: Duration = Duration::from_millis(100);

/// What the thread tells.
pub enum Told {
    /// A message for the client.
    Message(Value),
    /// The end.
    End(Result<()>),
}

/// Where a verb puts its messages. Each sees the events of one image.
#[derive(Clone)]
pub struct Teller(SyncSender<Told>);

impl Teller {
    /// A message that must arrive, as soon as there is room for it.
    pub fn say(&self, message: Value) {
        // A client that has gone hears nothing; the verb goes on.
        let _ = self.0.send(Told::Message(message));
    }

    /// A message that is left out where the client is slower than we.
    fn mention(&self, message: Value) {
        let _ = self.0.try_send(Told::Message(message));
    }
}

/// Starts a verb on a thread.
///
/// # Errors
/// `Unavailable` if there can be no more threads.
pub fn start(
    name: &str,
    verb: impl FnOnce(&Teller) -> Result<()> + Send + 'static,
) -> Result<Receiver<Told>> {
    let (sender, receiver) = sync_channel(QUEUED_MESSAGES);
    let body = move || {
        let teller = Teller(sender);
        let end = verb(&teller);
        let _ = teller.0.send(Told::End(end));
    };
    std::thread::Builder::new()
        .name(name.into())
        .spawn(body)
        .map_err(|error| Error::caused(ErrorKind::Unavailable, "cannot start a thread", &error))?;
    Ok(receiver)
}

/// Waits for the first message, so that an early failure is the status of the answer; a later one is a message.
///
/// # Errors
/// The verb's, if it failed before it told anything.
pub fn reply(receiver: Receiver<Told>) -> Result<Reply> {
    let first = match receiver.recv() {
        Ok(Told::End(Err(error))) => return Err(error),
        Ok(first) => first,
        Err(error) => {
            return Err(Error::caused(
                ErrorKind::Internal,
                "the transfer ended without a word",
                &error,
            ));
        }
    };
    Ok(Reply::stream(JSON, move |sink| {
        pass_on(sink, std::iter::once(first).chain(receiver));
    }))
}

fn pass_on(sink: &Sink, all: impl Iterator<Item = Told>) {
    for told in all {
        let message = match told {
            Told::Message(message) => message,
            Told::End(Ok(())) => return,
            Told::End(Err(error)) => failure(&error),
        };
        // A client that has gone does not stop the transfer: the next one finds what is there.
        if !sink.send_json(&message) {
            return;
        }
    }
}

/// The message of a failure after the first one.
pub fn failure(error: &Error) -> Value {
    let text = error.to_string();
    json!({"errorDetail": {"message": text}, "error": text})
}

/// Turns the engine's events of one image into messages of Docker's, as `words` has them.
pub struct Messages<'a, W> {
    teller: &'a Teller,
    words: W,
    /// When the progress of a layer was told last.
    told: Mutex<BTreeMap<Digest, Instant>>,
}

impl<'a, W: Fn(PullEvent) -> Vec<Value> + Sync> Messages<'a, W> {
    /// Messages for the client behind `teller`.
    pub fn new(teller: &'a Teller, words: W) -> Self {
        Self {
            teller,
            words,
            told: Mutex::default(),
        }
    }

    fn is_due(&self, digest: &Digest) -> bool {
        let mut told = self
            .told
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let now = Instant::now();
        let due = told
            .get(digest)
            .is_none_or(|last| now.duration_since(*last) >= PROGRESS_EVERY);
        if due {
            told.insert(digest.clone(), now);
        }
        due
    }
}

impl<W: Fn(PullEvent) -> Vec<Value> + Sync> PullObserver for Messages<'_, W> {
    fn event(&self, event: PullEvent) {
        if let PullEvent::Downloading {
            digest,
            done_bytes,
            total_bytes,
        } = &event
            && done_bytes < total_bytes
            && !self.is_due(digest)
        {
            return;
        }
        let is_last = matches!(event, PullEvent::Finished { .. });
        for message in (self.words)(event) {
            if is_last {
                self.teller.say(message);
            } else {
                self.teller.mention(message);
            }
        }
    }
}

/// A message about one layer.
pub fn of_layer(digest: &Digest, status: &str) -> Value {
    json!({"status": status, "progressDetail": {}, "id": short(digest)})
}

/// A message about how far a layer is.
pub fn progress(digest: &Digest, status: &str, done_bytes: u64, total_bytes: u64) -> Value {
    json!({
        "status": status,
        "id": short(digest),
        "progressDetail": {"current": done_bytes, "total": total_bytes},
    })
}

/// A message about a layer that is tried again.
pub fn retrying(digest: &Digest, reason: &str, after_s: u64) -> Value {
    let text = format!("Retrying in {after_s} seconds: {reason}");
    of_layer(digest, &text)
}

/// The first 12 digits.
fn short(digest: &Digest) -> String {
    digest.hex().chars().take(12).collect()
}
